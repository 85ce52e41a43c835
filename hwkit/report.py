"""Report: everything known of one artifact on one board, as one value. See hwkit.render for how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from hwkit.artifact import Artifact, Finding, Operator, ResourceRow
from hwkit.board import Board
from hwkit.budget import Budget, Verdict, judge, within
from hwkit.describe import Frozen, Kind, load_json
from hwkit.errors import BadInput
from hwkit.measurement import RESOURCES, Measurement, Resource
from hwkit.memory import MEMORIES, UNIT, UNIT_BITS, MemoryRow, draw
from hwkit.runners import OperatorCost, OperatorEnergy, Run
from hwkit.target import Target


class OperatorRow(Frozen):
    """One operator: what it is, and what all its repetitions in one inference cost.

    cost   in the report's `operator_unit`; None when it was not profiled
    share  of the sum over all operators, 0..1
    """

    index: int
    name: str
    stage: str
    repeat: int
    output_shape: tuple[int, ...]
    datatype: str
    delegate: str
    macs: int | None
    weight_bytes: int
    cost: float | None = None
    share: float | None = None


class ResourceUse(Frozen):
    """One resource of the whole design, set against the target.

    low, high   the interval of an estimate
    available   on the whole chip
    limit       share of it that a design may take (hwkit.target.Usable)
    """

    resource: Resource
    used: float
    low: float | None
    high: float | None
    available: int
    limit: float
    kind: Kind
    source: str

    @property
    def share(self) -> float:
        """Of the whole chip, 0..1."""
        return self.used / self.available if self.available else 0.0


class Report(Frozen):
    """One artifact, one target, at most one board.

    board          None when nothing was executed; `not_measured` then says why for every quantity
    within_budget  None when no budget was given
    resources      of a design in programmable logic; `parts` are those of its modules or layers
    memory         where its buffers lie; `memory_map` draws it, a text line each
    reproduce      the command that makes this report again
    """

    name: str
    dataset: str | None
    input_shape: tuple[int, ...]
    parameters: int | None
    history: tuple[str, ...]
    target: str
    target_description: str
    board: str | None
    board_description: str
    backend: str
    precision: str
    digest: str
    measurements: tuple[Measurement, ...]
    not_measured: dict[str, str]
    operators: tuple[OperatorRow, ...]
    operator_unit: str
    operator_kind: str
    operator_energies: tuple[OperatorEnergy, ...] = ()
    resources: tuple[ResourceUse, ...] = ()
    parts: tuple[ResourceRow, ...] = ()
    memory: tuple[MemoryRow, ...] = ()
    memory_map: tuple[str, ...] = ()
    findings: tuple[Finding, ...]
    verdicts: tuple[Verdict, ...]
    within_budget: bool | None
    tool_versions: dict[str, str]
    reproduce: str

    def find(self, quantity: str) -> Measurement | None:
        return next((m for m in self.measurements if m.quantity == quantity), None)

    @property
    def ok(self) -> bool:
        """Nothing over budget and no failed check."""
        return self.within_budget is not False and all(f.ok is not False for f in self.findings)


class Reports(Frozen):
    """What `hwkit deploy --json` prints and report.json holds."""

    schema_version: Literal[1] = 1
    reports: tuple[Report, ...]


def _rows(operators: Sequence[Operator], costs: Sequence[OperatorCost]) -> tuple[OperatorRow, ...]:
    """Costs from a run, else those the build itself knew."""
    one = {c.index: c.value for c in costs} or {o.index: o.cost for o in operators if o.cost is not None}
    total = sum(one[o.index] * o.repeat for o in operators if o.index in one)
    rows = []
    for o in operators:
        cost = one[o.index] * o.repeat if o.index in one else None
        rows.append(OperatorRow(cost=cost, share=cost / total if cost is not None and total else None,
                                **o.model_dump(exclude={"file", "cost"})))
    return tuple(rows)


def _heaviest(rows: Sequence[OperatorRow], unit: str, parts: Sequence[ResourceRow] = (),
              memory: Sequence[MemoryRow] = ()) -> dict[str, str]:
    """Quantity -> the operator, the part of a design or the buffer that weighs most in it.

    unit  of the operators' cost: cycles are of the programmable logic, seconds and instructions of a processor
    """

    def named(row: OperatorRow) -> str:
        return f"{row.stage}/{row.index} {row.name}"

    found: dict[str, str] = {}
    costed = [r for r in rows if r.cost]
    if costed:
        top = max(costed, key=lambda r: r.cost or 0)
        logic = ("cycles", "kernel_latency", "throughput")
        for quantity in (*(logic if unit == "cycles" else ("instructions",)), "latency", "energy"):
            found[quantity] = f"{named(top)}, {100 * (top.share or 0):.0f} %"
    if any(r.weight_bytes for r in rows):
        top = max(rows, key=lambda r: r.weight_bytes)
        for quantity in ("flash", "weights", "peak_rss"):
            found[quantity] = f"{named(top)}, {top.weight_bytes} B of weights"
    for resource in RESOURCES:
        used = [(p.used, p.part) for p in parts if p.resource == resource and p.used]
        if used:
            most, part = max(used)
            found[resource] = f"{part}, {most:,.0f}"
    if memory:
        largest = max(memory, key=lambda r: r.data_bits)
        found["on_chip_bytes"] = f"{largest.buffer}, {largest.data_bits / 8:,.0f} B"
    for resource, kind in (("BRAM_18K", "BRAM"), ("URAM", "URAM")):
        held = [r for r in memory if r.memory == kind]
        if held:
            widest = max(held, key=lambda r: r.taken)
            found[resource] = f"{widest.buffer} ({widest.contents}), {widest.taken:,}"
    return found


def _resources(measurements: Sequence[Measurement], target: Target) -> tuple[ResourceUse, ...]:
    """The measured resources that the target counts, in the order of RESOURCES."""
    if target.fpga is None:
        return ()
    by_quantity = {m.quantity: m for m in reversed(measurements)}
    return tuple(ResourceUse(resource=r, used=m.value, low=m.low, high=m.high, available=target.fpga.total(r),
                             limit=getattr(target.fpga.usable, r), kind=m.kind, source=m.source)
                 for r in RESOURCES if (m := by_quantity.get(r)))


def _map(rows: Sequence[MemoryRow], target: Target, measurements: Sequence[Measurement]) -> tuple[str, ...]:
    """The chip's memories as text, and in its last line how much of what is placed there and what is not."""
    if target.fpga is None or not rows:
        return ()
    chip = target.fpga.capacity().chip
    placed = sum(r.data_bits for r in rows) / 8
    held = sum(chip[m] * UNIT_BITS[m] for m in MEMORIES) / 8
    outside = next((m for m in measurements if m.quantity == "off_chip_bytes"), None)
    off = f"; {outside.value:,.0f} bytes outside the chip" if outside else ""
    return (*draw(rows, chip), f"{placed:,.0f} bytes placed of the {held:,.0f} that these memories hold{off}")


def _as_placed(rows: Sequence[MemoryRow], used: Sequence[ResourceUse]) -> tuple[Finding, ...]:
    """Whether the memories that a tool counted are those that were placed.

    A difference is worth a note only: queues and interfaces of a design have memories too.
    """
    placed = {"BRAM_18K": 0, "URAM": 0}
    for row in rows:
        if row.memory != "LUTRAM":
            placed[UNIT[row.memory]] += row.taken
    counted = {u.resource: u.used for u in used if u.resource in placed}
    if not rows or not counted:
        return ()
    same = all(placed[resource] == count for resource, count in counted.items())
    text = ", ".join(f"{count:,.0f} {name} for {placed[name]:,} placed" for name, count in counted.items())
    return (Finding(name="memories as placed", ok=True if same else None, text=text),)


def assemble(artifact: Artifact, target: Target, board: Board | None, run: Run | None,
             budget: Budget | None, reproduce: str, why_not_run: str = "") -> Report:
    """Join what was built, what a board said and the budget."""
    manifest = artifact.manifest
    built = manifest.built
    costs = run.operator_costs if run else ()
    told = run if run and costs else built
    rows = _rows((*built.operators, *(run.operators if run else ())), costs)
    taken = run.measurements if run else ()
    measurements = (*taken, *(m for m in built.figures if m.quantity not in {t.quantity for t in taken}))
    of_a_run = ("latency", "energy") if target.fpga or target.gpu else ("latency", "energy", "peak_rss")
    known = {m.quantity for m in measurements}
    missing = {q: why for q, why in (run.not_measured if run else dict.fromkeys(of_a_run, why_not_run)).items()
               if q not in known}
    used = _resources(measurements, target)
    heaviest = _heaviest(rows, told.operator_unit, built.resources, built.memory)
    verdicts = judge(budget, target.name, measurements, heaviest, missing, target.totals) if budget else []
    return Report(
        name=manifest.name, dataset=manifest.dataset, input_shape=manifest.input_shape,
        parameters=manifest.parameters, history=manifest.history,
        target=target.name, target_description=target.description,
        board=board.name if board and run else None, board_description=board.description if board and run else "",
        backend=manifest.backend, precision=manifest.precision, digest=manifest.digest,
        measurements=measurements, not_measured=missing, operators=rows,
        operator_unit=told.operator_unit, operator_kind=told.operator_kind,
        operator_energies=run.operator_energies if run else (),
        resources=used, parts=built.resources, memory=built.memory,
        memory_map=_map(built.memory, target, measurements),
        findings=(*built.findings, *_as_placed(built.memory, used), *(run.findings if run else ())),
        verdicts=tuple(verdicts), within_budget=within(budget, verdicts) if budget else None,
        tool_versions={**built.tool_versions, **(run.tool_versions if run else {})}, reproduce=reproduce)


def read(path: Path) -> Reports:
    """A report.json, or the folder that holds one. Raises BadInput."""
    file = path / "report.json" if path.is_dir() else path
    again = "hwkit deploy --target TARGET MODEL writes one"
    if not file.is_file():
        raise BadInput(f"{path}: no report here", again)
    return load_json(file, Reports, again)
