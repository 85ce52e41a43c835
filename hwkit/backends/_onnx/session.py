"""Run ONNX graphs on this machine's CPU, stage after stage, as a board does."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from hwkit.backends._onnx.export import INPUTS, OUTPUT
from hwkit.backends._onnx.forms import Piece
from hwkit.backends._onnx.operators import constant_bytes
from hwkit.errors import BadModel

Floats = NDArray[np.float32]


def session(content: bytes, name: str = "the network", optimise: bool = True) -> Any:
    """One thread. Raises BadModel when the runtime refuses the file."""
    options = onnxruntime.SessionOptions()
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as e:   # onnxruntime's exceptions have no common base but this
        raise BadModel(f"ONNX Runtime refuses {name}: {' '.join(str(e).split()):.300}",
                       "export it for standard ONNX operators") from None


@dataclass(frozen=True)
class Stage:
    """An open graph, run `repeat` times on its own output."""

    runtime: Any
    repeat: int
    times: tuple[float, ...] | None

    def __call__(self, value: Floats, seen: list[dict[str, Floats]] | None = None) -> Floats:
        """Output for one input with batch; `seen` collects what every run was given."""
        for k in range(self.repeat):
            given = {INPUTS[0]: value}
            if self.times is not None:
                given[INPUTS[1]] = np.array([self.times[k]], np.float32)
            if seen is not None:
                seen.append(given)
            value = self.runtime.run([OUTPUT], given)[0]
        return value


class Chain:
    """The stages of one form, open."""

    def __init__(self, pieces: Sequence[Piece], optimise: bool = True) -> None:
        self.stages = [Stage(session(p.model.SerializeToString(), p.name, optimise), p.repeat, p.times)
                       for p in pieces]

    def __call__(self, value: Floats) -> Floats:
        for stage in self.stages:
            value = stage(value)
        return value


def optimised_bytes(model: ModelProto) -> int:
    """Bytes of constants in what onnxruntime's optimiser makes of a graph before it runs it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="hwkit-ort-") as scratch:
        path = Path(scratch) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return constant_bytes(onnx.load(str(path)))


def whole(model: ModelProto, optimise: bool = True) -> Chain:
    """A form that is one graph."""
    return Chain([Piece("the network", model)], optimise)
