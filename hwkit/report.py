"""Report: everything known of one artifact on one board, as one value. See hwkit.render for how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from hwkit.artifact import Artifact, Finding, Operator
from hwkit.board import Board
from hwkit.budget import Budget, Verdict, judge, within
from hwkit.describe import Frozen, load_json
from hwkit.errors import BadInput
from hwkit.measurement import Measurement
from hwkit.runners import OperatorCost, Run
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


class Report(Frozen):
    """One artifact, one target, at most one board.

    board          None when nothing was executed; `not_measured` then says why for every quantity
    within_budget  None when no budget was given
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


def _heaviest(rows: Sequence[OperatorRow]) -> dict[str, str]:
    """Quantity -> the operator that weighs most in it."""

    def named(row: OperatorRow) -> str:
        return f"{row.stage}/{row.index} {row.name}"

    found: dict[str, str] = {}
    costed = [r for r in rows if r.cost]
    if costed:
        top = max(costed, key=lambda r: r.cost or 0)
        for quantity in ("latency", "instructions", "energy"):
            found[quantity] = f"{named(top)}, {100 * (top.share or 0):.0f} %"
    if any(r.weight_bytes for r in rows):
        top = max(rows, key=lambda r: r.weight_bytes)
        for quantity in ("flash", "weights", "peak_rss"):
            found[quantity] = f"{named(top)}, {top.weight_bytes} B of weights"
    return found


def assemble(artifact: Artifact, target: Target, board: Board | None, run: Run | None,
             budget: Budget | None, reproduce: str, why_not_run: str = "") -> Report:
    """Join what was built, what a board said and the budget."""
    manifest = artifact.manifest
    built = manifest.built
    costs = run.operator_costs if run else ()
    told = run if run and costs else built
    rows = _rows(built.operators, costs)
    taken = run.measurements if run else ()
    measurements = (*taken, *(m for m in built.figures if m.quantity not in {t.quantity for t in taken}))
    missing = dict(run.not_measured) if run else dict.fromkeys(("latency", "energy", "peak_rss"), why_not_run)
    verdicts = judge(budget, target.name, measurements, _heaviest(rows), missing) if budget else []
    return Report(
        name=manifest.name, dataset=manifest.dataset, input_shape=manifest.input_shape,
        parameters=manifest.parameters, history=manifest.history,
        target=target.name, target_description=target.description,
        board=board.name if board and run else None, board_description=board.description if board and run else "",
        backend=manifest.backend, precision=manifest.precision, digest=manifest.digest,
        measurements=measurements, not_measured=missing, operators=rows,
        operator_unit=told.operator_unit, operator_kind=told.operator_kind,
        findings=(*built.findings, *(run.findings if run else ())),
        verdicts=tuple(verdicts), within_budget=within(budget, verdicts) if budget else None,
        tool_versions={**built.tool_versions, **(run.tool_versions if run else {})}, reproduce=reproduce)


def read(path: Path) -> Reports:
    """A report.json, or the folder that holds one. Raises BadInput."""
    file = path / "report.json" if path.is_dir() else path
    again = "hwkit deploy --target TARGET MODEL writes one"
    if not file.is_file():
        raise BadInput(f"{path}: no report here", again)
    return load_json(file, Reports, again)
