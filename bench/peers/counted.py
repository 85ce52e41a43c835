"""Instructions and errors of artifacts, ours and the peers', on the same emulated core."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.lines import say
from bench.peers.given import Given
from hwkit import pipeline
from hwkit.artifact import Artifact
from hwkit.board import Board
from hwkit.errors import BoardError
from hwkit.runners import Request, _guest

if TYPE_CHECKING:
    from bench.peers.built import Built

COUNTED = 2
TIMEOUT_S = 1800.0
PAYLOAD = Path(__file__).with_name("guest.py")


@dataclass(frozen=True)
class Count:
    """instructions: of one inference. error: RMS of the difference from torch over the RMS of torch's outputs.

    default: what `hwkit deploy` makes when it is asked for nothing in particular.
    """

    runtime: str
    precision: str
    how: str
    instructions: float | None = None
    error: float | None = None
    failure: str = ""
    default: bool = False


def _error(outputs: NDArray[Any], network: Given) -> float:
    """May be NaN, which loses every comparison."""
    expected = network.expected.reshape(len(network.expected), -1)
    apart = outputs.reshape(expected.shape).astype(np.float64) - expected
    return float(np.sqrt(np.mean(apart ** 2) / np.mean(np.square(expected, dtype=np.float64))))


def count(network: Given, artifact: Built, sites: Mapping[str, Path], cpu: str) -> Count:
    """Run a peer's artifact under QEMU on that core. What fails is said in the result."""
    about = Count(artifact.runtime, artifact.precision, artifact.how, failure=artifact.failure)
    if artifact.model is None:
        return about
    work = network.folder / "run"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    np.save(work / "inputs.npy", network.images)
    shutil.copy(PAYLOAD, work / "payload.py")
    program = ["python", "payload.py", artifact.payload or artifact.runtime, str(artifact.model), "inputs.npy",
               "outputs.npy", str(COUNTED)]
    try:
        done = _guest.run_guest(cpu, program, sites=[sites[artifact.runtime]], cwd=work, timeout_s=TIMEOUT_S,
                                what=f"{network.name} on {artifact.runtime}", marks_file=work / "marks")
        assert done.marks is not None
        nothing = done.marks.between([0, 1])[0]
        counts = done.marks.between(range(2, COUNTED + 3))
    except BoardError as e:
        return Count(artifact.runtime, artifact.precision, artifact.how, failure=" ".join(e.message.split())[:160])
    return Count(artifact.runtime, artifact.precision, artifact.how, statistics.median(counts) - nothing,
                 _error(np.load(work / "outputs.npy", allow_pickle=False), network))


def ours(network: Given, runtime: str, on: Board) -> list[Count]:
    """What hwkit deploys: int8, which is the default, and float32; unrolled too where there are ODE steps."""
    found = []
    for precision in ("int8", "f32"):
        artifact = _built(network, {"precision": precision}, on)
        found.append(_counted(network, artifact, runtime, on, "as `hwkit deploy`", default=precision == "int8"))
        if len(artifact.manifest.built.stages) > 1:
            unrolled = _built(network, {"precision": precision, "ode": "unrolled"}, on)
            found.append(_counted(network, unrolled, runtime, on, "ode=unrolled: all steps in one file"))
    return found


def _built(network: Given, options: dict[str, str], on: Board) -> Artifact:
    chosen = {"calibration": str(len(network.calibration)), "golden": str(len(network.images)), **options}
    place = network.folder / "-".join(["hwkit", *options.values()])
    return pipeline.build(pipeline.Wanted(model=network.name, data=network.data, options=chosen),
                          on.target, place, say)


def _counted(network: Given, artifact: Artifact, runtime: str, on: Board, how: str, default: bool = False,
             ) -> Count:
    result = pipeline.run(artifact, on, Request(operators=False), say)
    same = next(f for f in result.findings if f.name == "outputs as built")
    if same.ok is False:
        raise BoardError(f"{network.name}, {artifact.manifest.precision}: {same.text}")
    instructions = next(m.value for m in result.measurements if m.quantity == "instructions")
    outputs = np.load(artifact.path("golden/outputs.npy"), allow_pickle=False)
    return Count(runtime, artifact.manifest.precision, how, instructions, _error(outputs, network),
                 default=default)
