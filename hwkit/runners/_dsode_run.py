"""An on-chip engine as a job for boards/payloads/simulated_pl.py, and what that payload writes as values.

The engine is the board's own programmable logic, or the artifact's RTL simulated on this machine: `serving` offers
it on a port, which must then be led to the board. Outputs and cycles are then exact, and nothing is known of time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwkit.artifact import Artifact, Finding
from hwkit.board import Board
from hwkit.data import shipped
from hwkit.describe import Frozen
from hwkit.eda import bus, verilator
from hwkit.errors import BadInput, BoardError
from hwkit.files import write_json
from hwkit.integer import separable
from hwkit.jobs import Say
from hwkit.measurement import Measurement, Unit
from hwkit.runners import Request, Run
from hwkit.runners._tflite_run import JOB, Answer, read_answer

ENGINE, DRIVER = "engine", "engine/lab/driver/dsode_driver.py"
INPUTS = "golden/inputs.npy"
SLOWEST_HZ = 500.0         # of clock cycles that are simulated for an answer, the link to the board included
LINK_S = 60.0
NO_TIME = "the programmable logic is simulated: its cycles are exact, how long one takes is not known"


class Report(Frozen):
    """What the driver showed of its images. cycles: of each, as the engine counted; expected_cycles: as scheduled.

    clock_hz   of the engine, None where it is simulated
    seconds    of all images: "before" the engine, "transfer" to it, in it and back, "after" it
    """

    images: int
    cycles: tuple[int, ...]
    expected_cycles: int
    clock_hz: float | None
    seconds: dict[str, float]
    kernel_s: float | None


class Check(Report):
    """The same of the images that are stored with the driver, and how many of their outputs are wrong."""

    differing: int
    outputs: int


class Result(Answer):
    """result.json of the payload."""

    report: Report
    check: Check


def holds(artifact: Artifact) -> bool:
    """Whether it is an on-chip engine with a driver."""
    return "bench" in artifact.manifest.built.details and DRIVER in artifact.manifest.sha256


def payload() -> Path:
    """The program that runs on the board."""
    return shipped("boards", "payloads", "simulated_pl.py")


def _bench(artifact: Artifact) -> verilator.Bench:
    return verilator.Bench.model_validate(artifact.manifest.built.details["bench"])


@contextlib.contextmanager
def serving(artifact: Artifact, say: Say) -> Iterator[int]:
    """The port on this machine's loopback where the artifact's RTL is simulated meanwhile.

    Raises ToolMissing, JobFailed.
    """
    server = shipped("hls", "dsode", "sim", "bus_server.cpp")
    with bus.serving(_bench(artifact), artifact.path(ENGINE), server, say) as port:
        yield port


def write_job(artifact: Artifact, request: Request, folder: Path, *, port: int | None = None,
              bitfile: str = "") -> Path:
    """job.json in `folder`, which also takes the results and is where the payload runs. It names all files
    that it needs, relative to that folder, through a link to the artifact.

    port      on the board's loopback that leads to the simulated engine; or else
    bitfile   on the board, with its .hwh beside it: its own programmable logic is the engine
    Raises BadInput when the artifact is no engine.
    """
    del request            # every golden image once: more of them would show nothing else
    if not holds(artifact):
        raise BadInput(f"{artifact.folder} holds no engine with a driver (backend {artifact.manifest.backend})",
                       "build it with the dsode backend")
    (folder / "artifact").symlink_to(artifact.folder.resolve())
    beside = [f"artifact/{f}" for f in artifact.manifest.sha256 if Path(f).parent == Path(DRIVER).parent]
    timeout_s = LINK_S + _bench(artifact).limit_cycles / SLOWEST_HZ
    reached: Mapping[str, Any] = ({"transport": "pynq", "bitfile": bitfile} if port is None else
                                  {"transport": "socket", "host": "127.0.0.1", "port": port,
                                   "timeout_s": timeout_s})
    write_json(folder / JOB, {"driver": f"artifact/{DRIVER}", "beside": beside, "inputs": f"artifact/{INPUTS}",
                              "out": ".", **reached})
    return folder / JOB


def told(artifact: Artifact, board: Board, request: Request, folder: Path) -> Run:
    """What the payload left in `folder`. Raises BoardError for a result that cannot be read."""
    del request
    result = read_answer(folder, Result)
    report = result.report
    conditions: dict[str, Any] = {"board": board.name, "images": report.images}
    simulated = report.clock_hz is None
    what = "the artifact's RTL simulated by Verilator" if simulated else "the engine in programmable logic"
    cycles = Measurement(
        quantity="cycles", unit="cycles", kind="simulated" if simulated else board.kind, n=report.images,
        samples=tuple(map(float, report.cycles)), conditions=conditions,
        source=f"{what}, fed by the driver on the board: from the start of each run to its last write")
    times = [] if simulated else _times(report, board, conditions)
    tools = {"verilator": verilator.version()} if simulated else {}
    return Run(board=board.name, measurements=(cycles, *times), findings=_findings(artifact, result, folder),
               not_measured={"latency": NO_TIME, "energy": NO_TIME} if simulated else {},
               tool_versions={**tools, **result.versions})


def _times(report: Report, board: Board, conditions: dict[str, Any]) -> list[Measurement]:
    """Means over all images, from the driver's clock; the engine's own time is subtracted from the transfer's."""
    assert report.clock_hz
    n = report.images
    kernel_s = sum(report.cycles) / n / report.clock_hz
    parts = {name: seconds / n for name, seconds in report.seconds.items()}
    found = {"kernel_latency": (kernel_s, f"cycles at {report.clock_hz / 1e6:g} MHz, as the board sets it"),
             "transfer_latency": (parts["transfer"] - kernel_s, "the driver's clock, less the engine's own time"),
             "host_latency": (parts["before"] + parts["after"], "the driver's clock: layers around the engine"),
             "latency": (sum(parts.values()), "the driver's clock, images one after the other")}
    unit: Unit = "s"
    return [Measurement(quantity=name, unit=unit, kind=board.kind, samples=(value,), n=n, conditions=conditions,
                        source=f"mean of {n} images: {source}") for name, (value, source) in found.items()]


def _array(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:         # EOFError: an empty file
        raise BoardError(f"the board's {path.name} cannot be read: {str(e).splitlines()[0]}") from None
    return found


def _compared(name: str, found: NDArray[Any], wanted: NDArray[Any], what: str) -> Finding:
    """Bit for bit, image by image."""
    n = len(wanted)
    if found.dtype != wanted.dtype or found.size != wanted.size:
        return Finding(name=name, ok=False, text=f"the board gives {found.size:,} {what} as {found.dtype}, wanted "
                                                 f"are {wanted.size:,} as {wanted.dtype}")
    differing = int(np.sum(found.reshape(wanted.shape) != wanted))
    return Finding(name=name, ok=differing == 0,
                   text=f"{differing:,} of {wanted.size:,} {what} of {n} images differ")


def _findings(artifact: Artifact, result: Result, folder: Path) -> tuple[Finding, ...]:
    """What went into the engine, what came out, what became of it; and the integer reference, run here again."""
    images = _array(artifact.path(INPUTS))
    outputs = _array(folder / "outputs.npy")
    golden = {name: _array(artifact.path(f"golden/{name}.npy")) for name in ("states", "results", "outputs")}
    network = separable.load(artifact.path("network.npz"))
    report, check = result.report, result.check
    seen = {*report.cycles, *check.cycles}
    return (
        _compared("states as built", _array(folder / "states.npy"), golden["states"],
                  "bytes that the board's processor gives the engine"),
        _compared("results as built", _array(folder / "results.npy"), golden["results"],
                  "bytes that the engine answers"),
        _compared("outputs as built", outputs, golden["outputs"], "outputs"),
        _compared("outputs = integer reference", outputs, network.logits(images), "outputs, computed here again,"),
        Finding(name="stored images", ok=check.differing == 0,
                text=f"{check.differing:,} of {check.outputs:,} outputs differ over {check.images} images of "
                     "noise beyond the range of the input"),
        Finding(name="cycles as scheduled", ok=seen == {report.expected_cycles},
                text=f"{report.expected_cycles:,} foretold, {' and '.join(f'{c:,}' for c in sorted(seen))} "
                     "counted by the engine"),
        Finding(name="images on the board", ok=len(images) == report.images,
                text=f"{report.images} of {len(images)} golden images went through the board's processor and the "
                     "engine"))
