"""A matrix at work: every cell is built, run on its board and reported, and nothing is lost.

Boards run beside each other, the cells of one board in the order of the matrix. Boards that are this very machine
and whose times count come last and alone. Builds happen one at a time, when the first board asks for one. What is
done is in a journal (hwkit.matrix.journal): the same command again goes on where the last one ended.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hwkit import budget, pipeline
from hwkit.artifact import Artifact
from hwkit.board import Board
from hwkit.errors import BadInput, BoardFault, HwkitError, NoSpace
from hwkit.faults import Fault
from hwkit.files import sha256
from hwkit.jobs import Say
from hwkit.matrix import journal, standing
from hwkit.matrix.cells import Cell, Matrix, cells_of
from hwkit.matrix.retries import retried
from hwkit.matrix.standing import Outcome, Standing, State
from hwkit.report import Report, read
from hwkit.runners import Request
from hwkit.stopping import end_all

JOURNAL = "journal.jsonl"
GRACE_S = 15.0                 # patience with what runs when the user interrupts
# After these, retries included, the other cells of the board would fail alike.
GIVES_UP = frozenset({Fault.BOARD_LOST, Fault.LINK_DROPPED, Fault.LINK_STALLED, Fault.BUSY, Fault.UNKNOWN_HOST,
                      Fault.HOST_KEY, Fault.LOGIN_REFUSED})


def execute(matrix: Matrix, folder: Path, again: bool, reproduce: str,
            say: Say) -> tuple[Standing, dict[str, Report]]:
    """Run what is not done yet in `folder`, and write matrix.json and matrix.md there.

    again   do everything anew
    Returns how all cells stand, and the reports of the finished ones by cell. A cell's error is its outcome; what
    is not of one cell is raised: BadInput for a folder that is another's, NoSpace, bugs, KeyboardInterrupt.
    """
    cells = cells_of(matrix)
    limits = budget.read(matrix.budget) if matrix.budget else None
    if folder.is_dir() and any(folder.iterdir()) and not (folder / JOURNAL).is_file():
        raise BadInput(f"{folder} holds files that are not a matrix's", journal.ANOTHER)
    with journal.opened(folder / JOURNAL) as log:
        _require_same(log, cells, folder)
        if log.torn_bytes:
            say(f"the journal's last line was not finished ({log.torn_bytes} bytes): cut off")
        for below in ("artifacts", "cells"):        # half-written files of a process that was killed
            for left_over in list((folder / below).rglob(".*")):
                shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink(missing_ok=True)
        log.add("opened", cells={c.name: c.model.model for c in cells}, again=again)
        work = _Work(matrix, folder, limits, log, _done(log, again), reproduce, say)
        try:
            work.run(cells)
        finally:
            found = Standing(name=matrix.title, cells=tuple(work.outcomes.get(c.name) or c.outcome(state="open")
                                                            for c in cells))
            standing.save(found, dict(work.reports), folder)
    return found, work.reports


def _require_same(log: journal.Journal, cells: Sequence[Cell], folder: Path) -> None:
    """A matrix may have grown since; a folder with cells that are not its own belongs to another."""
    own = {c.name: c.model.model for c in cells}
    last = next((r for r in reversed(log.records) if r.event == "opened"), None)
    others = [name for name, model in (last.cells if last else {}).items() if own.get(name) != model]
    if others:
        raise BadInput(f"{folder} holds another matrix: this one has no cell {others[0]}", journal.ANOTHER)


def _done(log: journal.Journal, again: bool) -> dict[str, journal.Record]:
    """Cell -> its last "finished", of those since everything was last to be done anew."""
    found: dict[str, journal.Record] = {}
    for record in () if again else log.records:
        if record.event == "finished":
            found[record.cell] = record
        elif record.again:
            found.clear()
    return found


class _Work:
    """One invocation: a thread for each board, and what they share."""

    def __init__(self, matrix: Matrix, folder: Path, limits: budget.Budget | None, log: journal.Journal,
                 done: Mapping[str, journal.Record], reproduce: str, say: Say) -> None:
        self.matrix, self.folder, self.budget, self.log = matrix, folder, limits, log
        self.done, self.reproduce, self.say = done, reproduce, say
        self.request = Request(**matrix.request.model_dump())
        self.outcomes: dict[str, Outcome] = {}
        self.reports: dict[str, Report] = {}
        self._stop = threading.Event()
        self._bugs: list[BaseException] = []
        self._building = threading.Lock()
        self._built: dict[str, Artifact | HwkitError] = {}

    def run(self, cells: Sequence[Cell]) -> None:
        """All cells. Raises KeyboardInterrupt once everything has ended, and what is not of one cell."""
        of_board: dict[str, list[Cell]] = {}
        for cell in cells:
            of_board.setdefault(cell.board.name, []).append(cell)
        alone = [cs for cs in of_board.values() if _is_here(cs[0].board)]
        beside = [cs for cs in of_board.values() if cs not in alone]
        for group in (beside, *([cs] for cs in alone)):
            threads = [threading.Thread(target=self._board, args=(cs,), name=cs[0].board.name, daemon=True)
                       for cs in group]
            for thread in threads:
                thread.start()
            self._wait(threads)

    def _wait(self, threads: Sequence[threading.Thread]) -> None:
        """Until all have ended; on Ctrl-C or a bug, what is under way is ended."""
        try:
            while any(t.is_alive() for t in threads) and not self._bugs:
                time.sleep(0.02)
        except KeyboardInterrupt:
            try:
                self._end(threads)
            finally:
                self.log.add("interrupted")
            raise
        if self._bugs:
            self._end(threads)
            raise self._bugs[0]

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        """A thread ends at the next word of its run, or when the program that it waits for is ended."""
        self._stop.set()
        until = time.monotonic() + GRACE_S
        while any(t.is_alive() for t in threads) and time.monotonic() < until:
            end_all()
            time.sleep(0.02)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise BoardFault(Fault.INTERRUPTED, "interrupted by the user")

    def _board(self, cells: Sequence[Cell]) -> None:
        """A board's thread: its cells, one after the other."""
        lost: HwkitError | None = None
        for cell in cells:
            try:
                lost = self._cell(cell, lost)
                self._go_on()
            except BaseException as e:
                if not self._stop.is_set():         # else it is no news: the program was ended under it
                    with contextlib.suppress(OSError):
                        self.log.add("failed", cell=cell.name, message=f"{type(e).__name__}: {e}")
                    self._bugs.append(e)
                return

    def _cell(self, cell: Cell, lost: HwkitError | None) -> HwkitError | None:
        """Bring one cell to its outcome. Returns why the board was given up, `lost` if it was before."""
        before = self.done.get(cell.name)
        if lost and not before:
            return self._not_run(cell, lost)
        try:
            artifact = self._artifact(cell)
        except HwkitError as e:
            self._failed(cell, "not built", 0, e)
            return lost
        key = pipeline.run_key(artifact, cell.board, self.request, self.budget)
        report = self._whole(before) if before and before.key == key else None
        if before and report:
            self._finished(cell, report, before.attempt, before.report, earlier=True)
            return lost
        if lost:
            return self._not_run(cell, lost)
        self.log.add("started", cell=cell.name, key=key)
        tried = 0

        def work(attempt: int) -> None:
            nonlocal tried
            tried = attempt
            self._run(cell, artifact, key, attempt)

        def failed(attempt: int, fault: BoardFault, wait_s: float | None) -> None:
            if wait_s is not None and not self._stop.is_set():
                self.log.add("failed", cell=cell.name, attempt=attempt, fault=fault.fault, transient=True,
                             message=fault.message, wait_s=round(wait_s, 3))
                self.say(f"{cell.name}: {fault.fault}: {fault.message}; again in {wait_s:.1f} s")

        def pause(wait_s: float) -> None:
            self._stop.wait(wait_s)
            self._go_on()

        try:
            retried(work, self.matrix.retries, failed, pause)
        except HwkitError as e:
            self._failed(cell, "failed", tried, e)
            return e if isinstance(e, BoardFault) and e.fault in GIVES_UP else None
        return None

    def _artifact(self, cell: Cell) -> Artifact:
        """Built now, or for an earlier cell. Raises what the build raised, again for each of its cells."""
        with self._building:
            found = self._built.get(cell.build)
            if found is None:
                try:
                    found = pipeline.build(cell.wanted, cell.board.target, self.folder / "artifacts" / cell.build,
                                           self._teller(cell.build), self.budget)
                    self.log.add("built", artifact=cell.build, digest=found.manifest.digest)
                except HwkitError as e:
                    found = e
                self._built[cell.build] = found
        if isinstance(found, HwkitError):
            raise found
        return found

    def _run(self, cell: Cell, artifact: Artifact, key: str, attempt: int) -> None:
        self.log.add("attempt", cell=cell.name, attempt=attempt)
        begun = time.monotonic()
        place = Path("cells") / cell.name
        report = pipeline.report_on(artifact, cell.board, self.budget, self.request, self.reproduce,
                                    self._teller(cell.name), self.folder / place)
        file = place / "report.json"
        journal.durable(self.folder / file)
        self.log.add("finished", cell=cell.name, key=key, attempt=attempt, report=str(file),
                     sha256=sha256(self.folder / file), seconds=round(time.monotonic() - begun, 3))
        self._finished(cell, report, attempt, str(file))

    def _whole(self, record: journal.Record) -> Report | None:
        """The report that a record tells of, if it is there as it was written."""
        file = self.folder / record.report
        return read(file).reports[0] if file.is_file() and sha256(file) == record.sha256 else None

    def _finished(self, cell: Cell, report: Report, attempts: int, file: str, earlier: bool = False) -> None:
        self.reports[cell.name] = report
        self.outcomes[cell.name] = cell.outcome(**standing.finished(report), attempts=attempts, report=file,
                                                earlier=earlier)

    def _failed(self, cell: Cell, state: State, attempts: int, e: HwkitError) -> None:
        """Keep an error as the outcome, unless it is ours: of the disk here, or because all is ended."""
        if isinstance(e, NoSpace) or self._stop.is_set():
            raise e
        fault = standing.fault_of(e)
        self.log.add("failed", cell=cell.name, attempt=attempts, fault=fault, message=e.message,
                     transient=fault is not None and fault.transient)
        self.outcomes[cell.name] = cell.outcome(state=state, attempts=attempts, fault=fault, message=e.message,
                                                hint=e.hint, exit_code=e.exit_code)
        self.say(f"{cell.name}: {state}: {e.line()}")

    def _not_run(self, cell: Cell, lost: HwkitError) -> HwkitError:
        """The board was given up before its turn."""
        fault, message = standing.fault_of(lost), f"{cell.board.name} was given up: {lost.message}"
        self.log.add("not-run", cell=cell.name, fault=fault, message=message)
        self.outcomes[cell.name] = cell.outcome(state="not run", fault=fault, message=message, hint=lost.hint,
                                                exit_code=lost.exit_code)
        return lost

    def _teller(self, what: str) -> Say:
        """Progress of a part, at whose words the part also ends when all is to end."""

        def told(text: str) -> None:
            self._go_on()
            self.say(f"{what}: {text}")

        return told


def _is_here(on: Board) -> bool:
    """Whether what runs beside it on this machine would spoil its times."""
    return on.kind == "measured" and on.place is None
