"""ONNX: the size of an unrolled ODE network's file, what int8 costs, and the time against bare ONNX Runtime.

    python -m bench.onnx_files
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from bench import models
from bench.bare_onnxruntime import BARE, exported
from bench.lines import Line, judged, main, say
from hwkit import pipeline, zoo
from hwkit.artifact import Artifact
from hwkit.board import board
from hwkit.process import run as run_process
from hwkit.runners import Request
from hwkit.units import percent, shown

BOARD, BACKEND = "host", "onnxruntime"
FACTOR, OVERHEAD_BYTES = 1.05, 30_000
LARGEST_DROP = 0.01
TIMED = ("dsodenet", "resnet8", "efficientnet_lite0")
RATIO, ROUNDS, SECONDS = 1.05, 5, 1.0
GPU_TARGET = "jetson-orin-nano"


def figures() -> list[Line]:
    with tempfile.TemporaryDirectory(prefix="hwkit-bench-") as scratch:
        folder = Path(scratch)
        networks = [*zoo.trained(), "efficientnet_lite0"]
        return [_size(folder), *(_drop(name, folder) for name in networks),
                *(_time(name, folder) for name in TIMED), _forms(folder)]


def _built(model: str, target: str, backend: str, precision: str, folder: Path, **options: str) -> Artifact:
    wanted = pipeline.Wanted(model=model, backend=backend, options={"precision": precision, **options})
    name = model.rpartition(":")[2].replace("@", "-")
    return pipeline.build(wanted, target, folder / f"{name}-{target}-{precision}", say)


def _figure(artifact: Artifact, quantity: str) -> float:
    return next(m.value for m in artifact.manifest.built.figures if m.quantity == quantity)


def _size(folder: Path) -> Line:
    artifact = _built(f"{models.__file__}:ten_steps", board(BOARD).target, BACKEND, "f32", folder, images="64")
    number = artifact.manifest.parameters
    assert number is not None
    size, limit = _figure(artifact, "flash"), FACTOR * 4 * number + OVERHEAD_BYTES
    return Line("dsodenet with 10 steps, unrolled f32 ONNX file", shown(size, "bytes"), shown(limit, "bytes"),
                "measured", judged(size <= limit),
                f"limit: {FACTOR} times the {shown(4 * number, 'bytes')} of {number} parameters, and "
                f"{shown(OVERHEAD_BYTES, 'bytes')}")


def _drop(name: str, folder: Path) -> Line:
    artifact = _built(name, GPU_TARGET, "tensorrt", "int8", folder, beside="no")
    before, after = _figure(artifact, "accuracy_float"), _figure(artifact, "accuracy")
    left = next(f.text for f in artifact.manifest.built.findings if f.name == "layers left in float")
    n = next(m.n for m in artifact.manifest.built.figures if m.quantity == "accuracy")
    return Line(f"{name}: accuracy that int8 QDQ costs", f"{100 * (before - after):+.2f} points", "1 point",
                "measured", judged(before - after <= LARGEST_DROP),
                f"{percent(before)} and {percent(after)} of {n} test images, QDQ executed on this CPU; layers "
                f"left in float: {left.partition(':')[0]}")


def _forms(folder: Path) -> Line:
    """Each form built as what is deployed, and timed in turns."""
    artifacts = {form: _built("dsodenet", board(BOARD).target, BACKEND, "f32", folder / form, images="64",
                              ode=form, beside="no") for form in ("unrolled", "stepped", "loop")}
    request = Request(iterations=30, duration_s=SECONDS, operators=False)
    taken: dict[str, list[float]] = {form: [] for form in artifacts}
    for number in range(ROUNDS):
        say(f"forms of dsodenet: round {number + 1} of {ROUNDS}")
        for form, artifact in artifacts.items():
            found = pipeline.run(artifact, board(BOARD), request, say)
            taken[form].append(next(m.value for m in found.measurements if m.quantity == "latency"))
    medians = {form: statistics.median(times) for form, times in taken.items()}
    return Line("dsodenet f32: a Loop over the faster of unrolled and stepped, this CPU",
                f"{medians['loop'] / min(medians['unrolled'], medians['stepped']):.2f}", "", "measured",
                "for information", ", ".join(f"{form} {shown(value, 's')}" for form, value in medians.items()))


def _time(name: str, folder: Path) -> Line:
    """Medians of processes that take turns, so that what else the machine does hits both."""
    artifact = _built(name, board(BOARD).target, BACKEND, "f32", folder, images="64", beside="no")
    file = exported(name, folder)
    request = Request(iterations=30, duration_s=SECONDS, operators=False)
    ours, bare = [], []
    for number in range(ROUNDS):
        say(f"{name}: round {number + 1} of {ROUNDS}")
        told = run_process([sys.executable, str(BARE), str(file), str(SECONDS)], timeout_s=120.0,
                           what="bare ONNX Runtime")
        bare.append(float(told.stdout.split()[-1]))
        found = pipeline.run(artifact, board(BOARD), request, say)
        ours.append(next(m.value for m in found.measurements if m.quantity == "latency"))
    ratio = statistics.median(ours) / statistics.median(bare)
    return Line(f"{name} f32: latency over bare ONNX Runtime's on this CPU", f"{ratio:.2f}", f"{RATIO:.2f}",
                "measured", judged(ratio <= RATIO),
                f"{shown(statistics.median(ours), 's')} against {shown(statistics.median(bare), 's')} of "
                "torch.onnx.export's file under session.run, one thread each")


if __name__ == "__main__":
    sys.exit(main("ONNX files", figures))
