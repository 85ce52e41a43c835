"""How a matrix stands: the outcome of each cell, as values, as tables and as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from hwkit.comparison import cell as shown_cell
from hwkit.describe import Frozen, Kind
from hwkit.errors import BoardError, BoardFault, HwkitError, JobFailed
from hwkit.faults import Fault
from hwkit.files import write, write_json
from hwkit.measurement import Unit
from hwkit.render import Section, section_markdown, verdict
from hwkit.report import Report

State = Literal["finished", "failed", "not built", "not run", "open"]
HEADLINES = ("latency", "guest_latency", "instructions", "cycles", "energy", "accuracy", "flash")


class Headline(Frozen):
    """The median of one quantity; the samples are in the report."""

    unit: Unit
    kind: Kind
    value: float
    low: float | None
    high: float | None


class Outcome(Frozen):
    """Of one cell.

    state      "not built": no board has seen it; "not run": its board was given up after another cell's fault;
               "open": hwkit was interrupted before its turn or its end
    earlier    finished by an earlier invocation
    attempts   runs that it took; 0 where none was begun
    fault      None where it was not a board's
    exit_code  what hwkit exits with if no other cell is worse
    report     file in the matrix's folder
    verdict    of the report: within budget, or what is over it
    """

    cell: str
    model: str
    precision: str
    board: str
    target: str
    state: State
    earlier: bool = False
    attempts: int = 0
    fault: Fault | None = None
    message: str = ""
    hint: str = ""
    exit_code: int = 0
    artifact_digest: str = ""
    report: str = ""
    verdict: str = ""
    headlines: dict[str, Headline] = {}


class Standing(Frozen):
    """matrix.json, and what `hwkit matrix --json` prints. Cells are in the order of the matrix."""

    schema_version: Literal[1] = 1
    name: str
    cells: tuple[Outcome, ...]

    @property
    def exit_code(self) -> int:
        return max(c.exit_code for c in self.cells)


def fault_of(error: HwkitError) -> Fault | None:
    """Which fault of a board an error is."""
    if isinstance(error, BoardFault):
        return error.fault
    return Fault.PROCESS_FAILED if isinstance(error, BoardError | JobFailed) else None


def finished(report: Report) -> dict[str, object]:
    """What an outcome says of a cell that has this report."""
    found = {q: m for q in HEADLINES if (m := report.find(q))}
    return {"state": "finished", "exit_code": 0 if report.ok else 1, "verdict": verdict(report),
            "artifact_digest": report.digest,
            "headlines": {q: Headline(unit=m.unit, kind=m.kind, value=m.value, low=m.low, high=m.high)
                          for q, m in found.items()}}


def sections(standing: Standing, reports: Mapping[str, Report]) -> list[Section]:
    """All cells in one table; what went wrong in another. reports: cell -> its report."""
    told = [q for q in HEADLINES if any(r.find(q) for r in reports.values())]

    def number(outcome: Outcome, quantity: str) -> str:
        report = reports.get(outcome.cell)
        found = report.find(quantity) if report else None
        return "-" if found is None else shown_cell(found)

    def state(outcome: Outcome) -> str:
        return f"{outcome.state}{', earlier' if outcome.earlier else ''}"

    rows = tuple((c.model, c.precision, c.board, state(c), str(c.attempts), c.fault or "",
                  *(number(c, q) for q in told), c.verdict) for c in standing.cells)
    found = [Section(f"Cells of {standing.name}",
                     ("model", "precision", "board", "state", "runs", "fault", *told, "verdict"), rows, (4,))]
    wrong = tuple((c.cell, c.fault or "", f"{c.message}{' -> ' if c.hint else ''}{c.hint}")
                  for c in standing.cells if c.message)
    if wrong:
        found.append(Section("What went wrong", ("cell", "fault", "what, and what to do"), wrong))
    return found


def last_line(standing: Standing) -> str:
    """What to take away, and what the same command would do."""
    cells: Sequence[Outcome] = standing.cells
    done = [c for c in cells if c.state == "finished"]
    bad = sum(c.exit_code == 1 for c in done)
    text = f"{len(done)} of {len(cells)} cells finished"
    text += f", {bad} of them over budget or with a failed check" if bad else ""
    return text if len(done) == len(cells) else f"{text}; the same command again tries the others and keeps these"


def save(standing: Standing, reports: Mapping[str, Report], folder: Path) -> None:
    """matrix.json and matrix.md in `folder`."""
    lines = [line for s in sections(standing, reports) for line in section_markdown(s)]
    write_json(folder / "matrix.json", standing.model_dump(mode="json"))
    write(folder / "matrix.md", "\n".join([f"# Matrix {standing.name}", "", *lines,
                                           f"**{last_line(standing)}**", ""]))
