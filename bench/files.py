"""What dsodenet takes on a device: its files against its parameters' own bytes, its weights in RAM."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from bench import models
from bench.lines import Line, judged, main, say
from hwkit import pipeline
from hwkit.artifact import Artifact
from hwkit.board import board
from hwkit.runners import Request
from hwkit.units import shown

PRECISIONS = ("f32", "int8")
FACTOR, OVERHEAD_BYTES = 1.05, 20_000
RESIDENT_RATIO = 1.3
BOARD = "host"
RUNS = 5
IMAGES = "64"                      # to compare on: this is not about accuracy


def figures() -> list[Line]:
    with tempfile.TemporaryDirectory(prefix="hwkit-bench-") as scratch:
        folder = Path(scratch)
        return [*(_size(precision, folder) for precision in PRECISIONS),
                *(_resident(precision, folder) for precision in PRECISIONS)]


def _built(model: str, precision: str, folder: Path, ode: str = "auto") -> Artifact:
    wanted = pipeline.Wanted(model=model, options={"precision": precision, "ode": ode, "images": IMAGES})
    place = folder / f"{model.rpartition(':')[2]}-{precision}-{ode}"
    return pipeline.build(wanted, board(BOARD).target, place, say)


def _figure(artifact: Artifact, quantity: str) -> float:
    return next(m.value for m in artifact.manifest.built.figures if m.quantity == quantity)


def _own_bytes(artifact: Artifact) -> tuple[float, str]:
    """What the parameters alone take, and how that was counted."""
    number = artifact.manifest.parameters
    assert number is not None
    if artifact.manifest.precision == "int8":
        return (_figure(artifact, "weights"),
                f"int8 weights and int32 biases (one byte each would be {shown(number, 'bytes')})")
    return 4.0 * number, f"{number} parameters of 4 bytes"


def _size(precision: str, folder: Path) -> Line:
    stepped, unrolled = _built("dsodenet", precision, folder), _built("dsodenet", precision, folder, "unrolled")
    (own, counted), size = _own_bytes(stepped), _figure(stepped, "flash")
    limit = FACTOR * own + OVERHEAD_BYTES
    number = len(stepped.manifest.built.stages)
    return Line(f"dsodenet {precision}: size of its files", shown(size, "bytes"), shown(limit, "bytes"),
                "measured", judged(size <= limit),
                f"{number} files. Limit: {shown(own, 'bytes')} of {counted}, times {FACTOR}, and "
                f"{shown(OVERHEAD_BYTES, 'bytes')}. One file with all steps: "
                f"{shown(_figure(unrolled, 'flash'), 'bytes')}")


def _resident(precision: str, folder: Path) -> Line:
    one = _anonymous(_built(_factory("one_step"), precision, folder))
    forty = _anonymous(_built(_factory("forty_steps"), precision, folder))
    unrolled = _anonymous(_built(_factory("forty_steps"), precision, folder, "unrolled"))
    return Line(f"dsodenet {precision}: resident weights at 40 steps over those at 1", f"{forty / one:.2f}",
                f"{RESIDENT_RATIO:.2f}", "measured", judged(forty <= RESIDENT_RATIO * one),
                f"{shown(forty, 'bytes')} against {shown(one, 'bytes')}; one file with all 40: "
                f"{shown(unrolled, 'bytes')}. Anonymous memory gained by loading, median of {RUNS} processes")


def _factory(name: str) -> str:
    return f"{models.__file__}:{name}"


def _anonymous(artifact: Artifact) -> float:
    request = Request(iterations=1, duration_s=0.0, warmup=1, operators=False)
    taken = [next(m.value for m in pipeline.run(artifact, board(BOARD), request, say).measurements
                  if m.quantity == "resident_weights") for _ in range(RUNS)]
    return statistics.median(taken)


if __name__ == "__main__":
    sys.exit(main("dsodenet's files and memory", figures))
