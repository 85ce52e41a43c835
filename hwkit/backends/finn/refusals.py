"""What FINN cannot build, found in the QONNX file itself, before any tool starts.

Whatever makes a file no integer network at all (float leftovers, dynamic shapes, a signed quantiser behind an
unsigned one) is refused when it is opened; here stands what is an integer network and yet not one for FINN.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from hwkit.artifact import Problem
from hwkit.integer.graph import QUANTISERS
from hwkit.integer.requantize import mode_named

WIDEST_ACTIVATION_BITS = 8      # a threshold a level: 255 a channel
ROUNDING = ("ROUND", "FLOOR")
LAYERS = ("Conv", "MatMul", "Gemm", "BatchNormalization", "Relu", "Add", "Sub", "Mul", "Div", "MaxPool",
          "GlobalAveragePool", "AveragePool", "ReduceSum", "ReduceMean", "Reshape", "Flatten", "Transpose",
          "Squeeze", "Unsqueeze", "Identity", "Dropout", "Concat", "Split", "Pad", "TopK", "Constant")


def refusals(path: Path) -> list[Problem]:
    """Every node that stands in the way, by its name in the file, with what to do. Milliseconds."""
    graph = onnx.load(str(path)).graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    found = []
    for node in graph.node:
        text = _quantiser(node, constants) if node.op_type in QUANTISERS else _layer(node)
        if text:
            found.append(Problem(message=f"node {node.name} ({node.op_type}) {text}"))
    return found


def _layer(node: NodeProto) -> str | None:
    if node.op_type not in LAYERS:
        return "has no hardware layer in FINN: take it out of the network, or run it on the processor"
    if node.op_type == "Conv":
        sizes = next((list(a.ints) for a in node.attribute if a.name == "dilations"), [1])
        if any(size != sizes[0] for size in sizes):
            return f"has dilations {sizes}: use the same in both directions"
    return None


def _quantiser(node: NodeProto, constants: dict[str, NDArray[np.generic]]) -> str | None:
    if node.op_type in ("BipolarQuant", "Trunc"):
        return None
    settings = [constants[name] for name in node.input[1:4] if name in constants]
    if len(settings) < 3:
        return "computes its scale, zero point or bit width while running: export it with constant ones"
    zero_point, bits = settings[1], float(np.max(settings[2]))
    if np.any(zero_point):
        return "has a zero point that is not 0: quantise symmetrically"
    if node.input[0] in constants:
        return None
    if bits > WIDEST_ACTIVATION_BITS:
        return (f"has {bits:g} bits: FINN compares activations with one threshold a level, for at "
                f"most {WIDEST_ACTIVATION_BITS} bits")
    name = next((a.s.decode() for a in node.attribute if a.name == "rounding_mode"), "ROUND")
    if mode_named(name) not in ROUNDING:
        return f"rounds {name}: FINN can do ROUND and FLOOR"
    return None
