"""A TFLite artifact as a job for boards/payloads/tflite.py, and what that payload writes as values."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import ValidationError

from hwkit.artifact import Artifact, Finding
from hwkit.board import Board
from hwkit.data import shipped
from hwkit.describe import Frozen, Kind
from hwkit.errors import BadInput, BoardError
from hwkit.files import write_json
from hwkit.measurement import Measurement, sampled
from hwkit.runners import OperatorCost, OperatorEnergy, Request, Run, _findings, power
from hwkit.runners._estimate import estimated_latency
from hwkit.target import target

GOLDEN_INPUTS = "golden/inputs.npy"
PROGRESS = "progress: "
JOB = "job.json"
NO_ENERGY = "nothing on this machine senses it for hwkit"
COUNTED = 3                 # inferences whose instructions are counted
NO_TIME = "the clock is an emulator's: its time says nothing of a device"

# What a nanosecond of the board's clock is: time on silicon; time inside an emulator, which tells nothing of a
# device; or an instruction, in an emulator whose clock moves on by one with each.
Clock = Literal["real", "emulated", "instructions"]


class Resident(Frozen):
    rss: int
    anonymous: int


class Memory(Frozen):
    """Resident bytes before loading, once loaded, after the first inference; high-water mark of the process."""

    before: Resident
    loaded: Resident
    invoked: Resident
    peak_rss: int | None


class Outputs(Frozen):
    n: int
    dtype: str


class Latency(Frozen):
    """Nanoseconds of every `every`-th inference; windows: how many of them each part of the pass gave."""

    ns: tuple[int, ...]
    every: int
    windows: tuple[int, ...] = ()


class Application(Frozen):
    """Nanoseconds of inferences with cold caches, input and output included; bytes written to make them cold."""

    ns: tuple[int, ...]
    evicted_bytes: int


class Sensed(Frozen):
    """Why a recording is not whole, "" where it is; did any sensor tell a power; what ran for single operators."""

    problem: str
    sensed: bool = False
    operators: tuple[power.Differential, ...] = ()


class Instructions(Frozen):
    labels: tuple[int, ...]


class OneOperator(Frozen):
    """Samples in ns, or labels of the marks around each run, or why it could not be run."""

    index: int
    ns: tuple[int, ...] = ()
    every: int = 1
    labels: tuple[int, ...] = ()
    error: str = ""


class Passes(Frozen):
    """What each pass found; None for one that was not asked for or not reached."""

    memory: Memory | None = None
    outputs: Outputs | None = None
    latency: Latency | None = None
    clocks: Sensed | None = None
    application: Application | None = None
    instructions: Instructions | None = None
    power: Sensed | None = None
    operators: tuple[OneOperator, ...] | None = None
    controls: tuple[Latency, ...] = ()
    energy_operators: Sensed | None = None


class Answer(Frozen):
    """What result.json of any payload tells of where it ran."""

    runtime: str
    runtime_version: str
    numpy: str
    python: str
    machine: str

    @property
    def versions(self) -> dict[str, str]:
        """Versions of what ran there, keyed as in a report."""
        return {f"{self.runtime} (board)": self.runtime_version, "numpy (board)": self.numpy,
                "python (board)": f"{self.python} {self.machine}"}


class Result(Answer):
    """result.json of the TFLite payload.

    nothing   labels of marks with no work between them
    counter   samples are instructions as the kernel counted them, not ns
    """

    nothing: tuple[int, ...] = ()
    counter: bool = False
    passes: Passes


A = TypeVar("A", bound=Answer)


def payload() -> Path:
    """The program that runs on the board."""
    return shipped("boards", "payloads", "tflite.py")


def passes_of(artifact: Artifact, request: Request, clock: Clock = "real") -> tuple[str, ...]:
    """Passes of a job whose result `told` reads."""
    sensed = clock == "real" if request.energy is None else request.energy and clock != "instructions"
    energy_operators = request.energy_operators > 0 and clock != "instructions" and bool(sliced(artifact))
    operators = energy_operators or (request.operators and clock != "emulated" and bool(sliced(artifact)))
    chosen = {"clocks": clock != "instructions", "application": request.application and clock == "real",
              "power": sensed, "operators": operators, "energy_operators": energy_operators}
    return ("memory", "outputs", "latency", *(name for name, wanted in chosen.items() if wanted))


def sliced(artifact: Artifact) -> dict[str, list[int]]:
    """Files that hold one operator -> the operators they stand for: equal ones share a file."""
    found: dict[str, list[int]] = {}
    for operator in artifact.manifest.built.operators:
        if operator.file:
            found.setdefault(operator.file, []).append(operator.index)
    return found


def costs(artifact: Artifact, one: Mapping[int, float]) -> tuple[OperatorCost, ...]:
    """Costs of all operators from the cost of the first of each file's."""
    found = {index: one[indices[0]] for indices in sliced(artifact).values() if indices[0] in one
             for index in indices}
    return tuple(OperatorCost(index=index, value=found[index]) for index in sorted(found))


def write_job(artifact: Artifact, request: Request, passes: Sequence[str], folder: Path, *, marks: bool,
              clock: Clock = "real") -> Path:
    """job.json in `folder`, which also takes the results and is where the payload runs.

    All paths in it are relative to that folder, through a link to the artifact: an instruction count must not
    depend on where the artifact lies. Where the clock counts instructions, which do not vary, few inferences do.
    Raises BadInput when the artifact is no TFLite one.
    """
    stages = artifact.manifest.built.stages
    repeat = {o.index: o.repeat for o in artifact.manifest.built.operators}
    if not stages or not all(s.file.endswith(".tflite") for s in stages):
        raise BadInput(f"{artifact.folder} holds no .tflite stages (backend {artifact.manifest.backend})",
                       "build it with the tflite backend")
    if not artifact.path(GOLDEN_INPUTS).is_file():
        raise BadInput(f"{artifact.folder} has no {GOLDEN_INPUTS}", "build it again")
    (folder / "artifact").symlink_to(artifact.folder.resolve())
    here = Path("artifact")
    job: dict[str, Any] = {
        "passes": list(passes), "marks": marks, "out": ".", "inputs": str(here / GOLDEN_INPUTS),
        "stages": [{"file": str(here / s.file), "repeat": s.repeat, "times": s.times} for s in stages],
        "operators": [{"index": indices[0], "file": str(here / f), "runs": sum(repeat[k] for k in indices)}
                      for f, indices in sliced(artifact).items()],
        **request.model_dump(include={"threads", "warmup", "iterations", "duration_s", "energy_operators"}),
    }
    if clock == "instructions":
        job |= {"counter": True, "warmup": COUNTED, "iterations": COUNTED, "duration_s": 0.0,
                "operator_iterations": COUNTED, "operator_duration_s": 0.0}
    write_json(folder / JOB, job)
    return folder / JOB


def read_result(folder: Path) -> Result:
    """What the TFLite payload wrote. Raises BoardError."""
    return read_answer(folder, Result)


def read_answer(folder: Path, model: type[A]) -> A:
    """What a payload wrote. Raises BoardError when it wrote nothing, or nothing sensible."""
    path = folder / "result.json"
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BoardError("the board ran the payload but wrote no result") from None
    except (ValidationError, OSError) as e:
        raise BoardError(f"the board wrote a result that cannot be read: {str(e).splitlines()[0]}") from None


def read_outputs(folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(raw outputs, outputs as float32) of all golden inputs. Raises BoardError."""
    try:
        return (np.load(folder / "raw_outputs.npy", allow_pickle=False),
                np.load(folder / "outputs.npy", allow_pickle=False))
    except (OSError, ValueError, EOFError) as e:
        raise BoardError(f"the board's outputs cannot be read: {str(e).splitlines()[0]}") from None


def progress_of(line: str) -> str | None:
    """What a line of the payload tells the user, None for any other line."""
    return line.removeprefix(PROGRESS) if line.startswith(PROGRESS) else None


def salvaged(folder: Path, died: BoardError) -> tuple[Result, str]:
    """The result of a payload that died, and why the operators are missing, when they are all that is missing.

    Raises `died` again when anything else is.
    """
    if not (folder / "result.json").is_file():
        raise died
    result = read_result(folder)
    require_all_but_operators(folder, result.passes, died)
    return result, died.message


def require_all_but_operators(folder: Path, passes: Frozen, died: BoardError) -> None:
    """Raise `died` unless single operators are all that the job in `folder` did not reach."""
    wanted = json.loads((folder / JOB).read_text())["passes"]
    reached = passes.model_dump(exclude_none=True)
    missing = {p for p in wanted if p not in reached}
    if not missing or missing - {"operators", "energy_operators"}:
        raise died


LOADED = "packed weights and the interpreter's own structures; the model file stays mapped and is not in it"


def memory_figures(memory: Memory, kind: Kind, conditions: dict[str, Any], loaded: str = LOADED, *,
                   own_process: bool | None = None) -> list[Measurement]:
    """runtime_rss and resident_weights; the peak too where it is of a process of its own.

    loaded        what the memory that loading takes holds
    own_process   the process has no emulator in it; by default, whether it was "measured"
    """
    one_process = "pages of this program counted in /proc/self/smaps"
    figures = [
        Measurement(quantity="runtime_rss", unit="bytes", kind=kind, samples=(memory.before.rss,),
                    source=f"Python, numpy and the interpreter before any model; {one_process}",
                    conditions=conditions),
        Measurement(quantity="resident_weights", unit="bytes", kind=kind,
                    samples=(max(0, memory.loaded.anonymous - memory.before.anonymous),),
                    source=f"anonymous memory gained by loading: {loaded}; {one_process}",
                    conditions=conditions),
    ]
    if (kind == "measured" if own_process is None else own_process) and memory.peak_rss is not None:
        figures.append(Measurement(quantity="peak_rss", unit="bytes", kind=kind, samples=(memory.peak_rss,),
                                   source="VmHWM after the first inference, Python included",
                                   conditions=conditions))
    return figures


def told(artifact: Artifact, board: Board, request: Request, folder: Path, *, clock: Clock,
         lost: str = "") -> Run:
    """What the payload left in `folder`, after a job of `passes_of`.

    lost   why the operators are missing although they were asked for, see `salvaged`
    Raises BoardError for a result that cannot be read or lacks a pass.
    """
    result, (raw, outputs) = read_result(folder), read_outputs(folder)
    found = result.passes
    if found.latency is None or found.memory is None:
        raise BoardError("the board's result lacks a pass that was asked for")
    conditions: dict[str, Any] = {"threads": request.threads, "board": board.name,
                                  "runtime": f"{result.runtime} {result.runtime_version}"}
    per_unit = 1.0 if clock == "instructions" else 1e9
    samples = [ns / per_unit for ns in found.latency.ns]
    timed, not_measured = _timed(samples, board, clock, result.counter, {**conditions, "warmup": request.warmup,
                                                         "kept": f"1 of {found.latency.every}"})
    whole = timed[-1]
    findings: list[Finding | None] = [_findings.same_outputs(artifact, raw),
                                      _findings.same_answers(artifact, outputs)]
    if clock != "instructions":
        controls = [[ns / 1e9 for ns in w.ns] for w in found.controls]
        findings += [*_findings.steadiness(samples, found.latency.windows, controls),
                     *(power.clocks(folder / "clocks.jsonl") if found.clocks else ())]
    if found.application:
        timed.append(_application(found.application, board, conditions))
    drawn = _power(folder, found, board, conditions)
    not_measured |= drawn.not_measured
    one = {o.index: statistics.median(o.ns) / per_unit for o in found.operators or () if o.ns}
    operator_costs = costs(artifact, one) if request.operators and clock != "emulated" else ()
    if operator_costs:
        failed = [o.error for o in found.operators or () if o.error]
        findings.append(_findings.operators_add_up(artifact, operator_costs, failed, whole.value, whole.unit))
    elif request.operators:
        not_measured["operators"] = lost or (NO_TIME if clock == "emulated" else
                                             "the artifact has no model of a single operator")
    memory = memory_figures(found.memory, board.kind, conditions, own_process=True)
    unit, kind = (whole.unit, whole.kind) if operator_costs else ("", "")
    return Run(board=board.name, measurements=(*timed, *drawn.measurements, *memory),
               operator_costs=operator_costs, operator_unit=unit, operator_kind=kind,
               operator_energies=_each(artifact, drawn.operators),
               findings=tuple(f for f in (*findings, *drawn.findings) if f), not_measured=not_measured,
               tool_versions=result.versions)


def _application(found: Application, board: Board, conditions: dict[str, Any]) -> Measurement:
    return sampled("application_latency", "s", board.kind, [ns / 1e9 for ns in found.ns],
                   conditions={**conditions, "evicted_bytes": found.evicted_bytes},
                   source=f"wall time of one inference after {found.evicted_bytes / 2**20:.0f} MiB of other data "
                          "went through the caches: input quantised and copied in, output dequantised, its "
                          "largest value found")


def _power(folder: Path, found: Passes, board: Board, conditions: dict[str, Any]) -> power.Accounts:
    """Of both passes that sensors watched, as far as they were asked for and there are any."""
    if found.power is None:
        whole = power.Accounts(not_measured={"energy": "not asked for (--energy)"})
    elif found.power.sensed:
        whole = power.accounts(folder / "power.jsonl", found.power.problem, conditions, board.kind)
    else:
        whole = power.Accounts(not_measured={"energy": found.power.problem or NO_ENERGY})
    if (single := found.energy_operators) is None:
        return whole
    problem = single.problem or ("" if single.sensed else NO_ENERGY)
    each = power.energies_of_operators(folder / "operators.jsonl", problem, single.operators, board.kind)
    return whole.model_copy(update={"operators": each.operators, "findings": (*whole.findings, *each.findings),
                                    "not_measured": {**whole.not_measured, **each.not_measured}})


def _each(artifact: Artifact, energies: Sequence[OperatorEnergy]) -> tuple[OperatorEnergy, ...]:
    """Energies of all operators that share a file with one of these."""
    alike = {indices[0]: indices for indices in sliced(artifact).values()}
    return tuple(one.model_copy(update={"index": k}) for one in energies for k in alike[one.index])


def _timed(samples: Sequence[float], board: Board, clock: Clock, counter: bool,
           conditions: dict[str, Any]) -> tuple[list[Measurement], dict[str, str]]:
    """Figures of the timed pass, that of the clock itself last; and what is not known of it."""
    if clock == "real":
        return [sampled("latency", "s", board.kind, samples, conditions=conditions,
                        source="wall time of one inference, copies between its stages included")], {}
    if clock == "emulated":
        return [sampled("guest_latency", "s", "simulated", samples, conditions=conditions,
                        source="wall time of one inference inside an emulator")], {"latency": NO_TIME}
    counted = sampled("instructions", "instructions", "simulated", samples, conditions=conditions,
                      source="of the whole chain, Python's calls into it included, by " +
                             ("the kernel's own counter" if counter else "a clock that moves on by one with each "
                              "instruction, what the kernel did meanwhile included"))
    latency = estimated_latency(counted.value, target(board.target), conditions)
    if latency is None:
        return [counted], {"latency": f"target {board.target} gives no range of instructions a cycle"}
    return [latency, counted], {}
