"""Runner `qemu_user`: the real aarch64 TFLite interpreter on an emulated core.

It answers two questions exactly: what the ARM code computes, and how many instructions that takes.
It says nothing of time: there are no caches and no pipeline. Latency is therefore estimated from the
instructions and the target's range of instructions a cycle, with that range as its interval.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from hwkit.artifact import Artifact, Finding, Problem
from hwkit.board import Board
from hwkit.describe import Frozen, Name, validated
from hwkit.errors import BadInput, BoardError, JobFailed, ToolMissing
from hwkit.jobs import Say
from hwkit.measurement import Measurement, sampled
from hwkit.runners import Request, Run, _findings, _guest, _icount, _tflite_run, _userland
from hwkit.runners._estimate import estimated_latency
from hwkit.target import target

# Two guests: what the first reads of its own memory differs from run to run, and that would shift the
# second's counts by an instruction or two; and the first is faster when nobody counts.
CHECK = ("memory", "outputs")
COUNT = ("instructions", "operators")
COUNTED = 3
PAYLOAD = "payload.py"
NO_ENERGY = "an emulator draws no board's power"
NO_PEAK = ("the process is the emulator's too; runtime_rss and resident_weights count the program's own pages")


def _emulated(cpu: str) -> str:
    if cpu == "max":
        raise PydanticCustomError("cpu", "'max' gives wrong int8 results on QEMU 7.2: name the board's core")
    if cpu not in _guest.CPUS:
        raise PydanticCustomError("cpu", "not an emulated core; known: {known}", {"known": ", ".join(_guest.CPUS)})
    return cpu


class Options(Frozen):
    """[options] of a board with this runner. timeout_s: the longest a run may take."""

    cpu: Annotated[Name, AfterValidator(_emulated)]
    timeout_s: float = Field(default=3600.0, gt=0)


def options(board: Board) -> Options:
    """The board's options. Raises BadDescription."""
    return validated(board.options, Options, f"boards/{board.name}.toml [options]")


def missing(board: Board) -> list[Problem]:
    """What must be installed (by apt) or made (by `hwkit board make`) before a run. Milliseconds."""
    cpu = options(board).cpu
    try:
        emulator = _guest.qemu()
    except ToolMissing as e:
        return [Problem(message=e.line())]
    made = {"the aarch64 userland": _userland.root(), f"the file system of a {cpu}": _guest.prefix(cpu),
            "the aarch64 interpreter": _userland.tflite_site(),
            "the instruction counter": _icount.library(emulator)}
    absent = [what for what, place in made.items() if place is None]
    if not absent:
        return []
    problems = [Problem(message=f"not made: {', '.join(absent)}")]
    needed = {"gcc": "gcc libc6-dev", "apt-get": "apt", "dpkg-deb": "dpkg"}
    packages = [package for program, package in needed.items() if not shutil.which(program)]
    if packages:
        problems.append(Problem(message=f"to make it: apt-get install {' '.join(packages)}"))
    return problems


def make(board: Board, say: Say) -> None:
    """Fetch and build all that a run needs, once, into the cache. Raises ToolMissing, JobFailed."""
    cpu = options(board).cpu
    emulator = _guest.qemu()
    _icount.make(emulator, say)
    _guest.make_prefix(cpu, say)
    _userland.make_tflite_site(say)


def run(artifact: Artifact, board: Board, request: Request, say: Say) -> Run:
    """Execute the artifact on the emulated core. Raises ToolMissing, JobFailed, BoardError, BadInput."""
    chosen = options(board)
    if request.threads != 1:
        # threads that wait for each other spin, and spinning is counted
        raise BadInput(f"board {board.name} counts instructions of one thread, not of {request.threads}",
                       "leave out --threads")
    site = _userland.tflite_site()
    if site is None:
        raise ToolMissing(f"board {board.name} is not made", f"hwkit board make {board.name}")
    costs_operators = request.operators and bool(_tflite_run.sliced(artifact))
    with tempfile.TemporaryDirectory(prefix="hwkit-run-") as scratch:
        checking, counting = Path(scratch) / "check", Path(scratch) / "count"
        checked, _, _ = _execute(artifact, request, CHECK, checking, chosen, site, say)
        raw, outputs = _tflite_run.read_outputs(checking)
        counted, marks, lost = _execute(artifact, request, COUNT if costs_operators else COUNT[:-1], counting,
                                        chosen, site, say)
    assert marks is not None
    return _told(artifact, board, checked, counted, marks, raw, outputs, lost)


def _execute(artifact: Artifact, request: Request, passes: Sequence[str], folder: Path, chosen: Options,
             site: Path, say: Say) -> tuple[_tflite_run.Result, _icount.Marks | None, str]:
    """One guest: its result, the marks it took if it counts, and why the operators are missing if they are."""

    def on_line(line: str) -> None:
        told = _tflite_run.progress_of(line)
        if told:
            say(f"{told} on an emulated {chosen.cpu}")

    counts = passes[0] == COUNT[0]
    folder.mkdir()
    job = _tflite_run.write_job(artifact, request.model_copy(update={"iterations": COUNTED}), passes, folder,
                                marks=counts)
    shutil.copy(_tflite_run.payload(), folder / PAYLOAD)
    marks = folder / "marks" if counts else None
    try:
        done = _guest.run_guest(chosen.cpu, ["python", PAYLOAD, job.name], sites=[site], cwd=folder,
                                marks_file=marks, timeout_s=chosen.timeout_s,
                                what=f"the artifact on an emulated {chosen.cpu}", on_line=on_line)
    except JobFailed as e:
        result, lost = _tflite_run.salvaged(folder, e)
        return result, _icount.read(marks, whole=False) if marks else None, lost
    return _tflite_run.read_result(folder), done.marks, ""


def _told(artifact: Artifact, board: Board, checked: _tflite_run.Result, counted: _tflite_run.Result,
          marks: _icount.Marks, raw: _findings.Array, outputs: _findings.Array, lost: str) -> Run:
    memory, found = checked.passes.memory, counted.passes
    if memory is None or found.instructions is None:
        raise BoardError("the board's result lacks a pass that was asked for")
    conditions: dict[str, Any] = {"threads": 1, "board": board.name, "cpu": options(board).cpu,
                                  "runtime": f"{counted.runtime} {counted.runtime_version}"}
    own = statistics.median(marks.between(counted.nothing))
    counts = [count - own for count in marks.between(found.instructions.labels)]
    instructions: Measurement = sampled("instructions", "instructions", "simulated", counts, conditions=conditions,
                                        source="executed by the whole chain, Python's calls into it included; "
                                               "counted by a QEMU plugin")
    findings: list[Finding | None] = [_findings.same_outputs(artifact, raw),
                                      _findings.same_answers(artifact, outputs)]
    not_measured = {"energy": NO_ENERGY, "peak_rss": NO_PEAK}
    costs = _tflite_run.costs(artifact, {o.index: marks.between(o.labels)[0] - own
                                         for o in found.operators or () if o.labels})
    if costs:
        failed = [o.error for o in found.operators or () if o.error]
        findings.append(_findings.operators_add_up(artifact, costs, failed, instructions.value, "instructions"))
    else:
        not_measured["operators"] = lost or "not asked for, or the artifact has no model of a single operator"
    latency = estimated_latency(instructions.value, target(board.target), conditions)
    if latency is None:
        not_measured["latency"] = f"target {board.target} gives no range of instructions a cycle"
    taken = [m for m in (latency, instructions) if m]
    return Run(board=board.name,
               measurements=(*taken, *_tflite_run.memory_figures(memory, board.kind, conditions)),
               operator_costs=costs, operator_unit="instructions" if costs else "",
               operator_kind="simulated" if costs else "", findings=tuple(f for f in findings if f),
               not_measured=not_measured, tool_versions={**counted.versions, **_versions()})


def _versions() -> dict[str, str]:
    major, minor = _icount.qemu_version(_guest.qemu())
    return {"qemu": f"{major}.{minor}", "libc6 (board)": _userland.packages().get("libc6", "")}
