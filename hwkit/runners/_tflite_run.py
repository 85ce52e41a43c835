"""A TFLite artifact as a job for boards/payloads/tflite.py, and what that payload writes as values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from hwkit.artifact import Artifact
from hwkit.data import shipped
from hwkit.describe import Frozen, Kind
from hwkit.errors import BadInput, BoardError, JobFailed
from hwkit.files import write_json
from hwkit.measurement import Measurement
from hwkit.runners import OperatorCost, Request

GOLDEN_INPUTS = "golden/inputs.npy"
PROGRESS = "progress: "
JOB = "job.json"


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
    """Nanoseconds of every `every`-th inference."""

    ns: tuple[int, ...]
    every: int


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
    instructions: Instructions | None = None
    operators: tuple[OneOperator, ...] | None = None


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
    """result.json of the TFLite payload. `nothing` are labels of marks with no work between them."""

    nothing: tuple[int, ...] = ()
    passes: Passes


A = TypeVar("A", bound=Answer)


def payload() -> Path:
    """The program that runs on the board."""
    return shipped("boards", "payloads", "tflite.py")


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


def write_job(artifact: Artifact, request: Request, passes: Sequence[str], folder: Path, *, marks: bool) -> Path:
    """job.json in `folder`, which also takes the results and is where the payload runs.

    All paths in it are relative to that folder, through a link to the artifact: an instruction count must not
    depend on where the artifact lies. Raises BadInput when the artifact is no TFLite one.
    """
    stages = artifact.manifest.built.stages
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
        "operators": [{"index": indices[0], "file": str(here / f)} for f, indices in sliced(artifact).items()],
        **request.model_dump(include={"threads", "warmup", "iterations", "duration_s"}),
    }
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
    except (OSError, ValueError) as e:
        raise BoardError(f"the board's outputs cannot be read: {str(e).splitlines()[0]}") from None


def progress_of(line: str) -> str | None:
    """What a line of the payload tells the user, None for any other line."""
    return line.removeprefix(PROGRESS) if line.startswith(PROGRESS) else None


def salvaged(folder: Path, died: JobFailed) -> tuple[Result, str]:
    """The result of a payload that died, and why the operators are missing, when they are all that is missing.

    Raises `died` again when anything else is.
    """
    if not (folder / "result.json").is_file():
        raise died
    result = read_result(folder)
    require_all_but_operators(folder, result.passes, died)
    return result, died.message


def require_all_but_operators(folder: Path, passes: Frozen, died: JobFailed) -> None:
    """Raise `died` unless the operators are the one pass of the job in `folder` that was not reached."""
    wanted = json.loads((folder / JOB).read_text())["passes"]
    reached = passes.model_dump(exclude_none=True)
    if [p for p in wanted if p not in reached] != ["operators"]:
        raise died


LOADED = "packed weights and the interpreter's own structures; the model file stays mapped and is not in it"


def memory_figures(memory: Memory, kind: Kind, conditions: dict[str, Any],
                   loaded: str = LOADED) -> list[Measurement]:
    """runtime_rss and resident_weights; the peak too where the number is this process's own ("measured").

    loaded   what the memory that loading takes holds
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
    if kind == "measured" and memory.peak_rss is not None:
        figures.append(Measurement(quantity="peak_rss", unit="bytes", kind=kind, samples=(memory.peak_rss,),
                                   source="VmHWM after the first inference, Python included",
                                   conditions=conditions))
    return figures
