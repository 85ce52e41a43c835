"""Additions of branches with different power-of-two scales, in integers.

Where a residual addition is followed by thresholds, both branches and the thresholds may be multiplied by one
number: with a large enough power of two every scale and shift in the branches is whole, and nothing is float.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper

FINEST = 24      # binary places: beyond, float32 cannot hold the sums


def integer_joins(model: ModelWrapper) -> tuple[ModelWrapper, int]:
    """The same network, and how many additions were made whole. Thresholds are to be rounded up afterwards."""
    done = 0
    for thresholds in list(model.get_nodes_by_op_type("MultiThreshold")):
        join = model.find_producer(thresholds.input[0])
        if join is None or join.op_type != "Add" or len(model.find_consumers(join.output[0])) != 1:
            continue
        if any(model.get_initializer(name) is not None for name in join.input):
            continue
        branches = [_linear(model, name) for name in join.input]
        values = [value for branch in branches for _, value in branch]
        places = _places(values)
        if not values or places is None or places == 0:
            continue
        factor = float(2**places)
        for index, branch in enumerate(branches):
            _scale(model, join, index, branch, factor)
        model.set_initializer(thresholds.input[1], model.get_initializer(thresholds.input[1]) * np.float32(factor))
        done += 1
    return model, done


def _linear(model: ModelWrapper, tensor: str) -> list[tuple[NodeProto, NDArray[np.float32]]]:
    """Additions and multiplications by constants that end in `tensor`, last first, down to a multiplication."""
    found: list[tuple[NodeProto, NDArray[np.float32]]] = []
    node = model.find_producer(tensor)
    while node is not None and node.op_type in ("Add", "Mul") and len(model.find_consumers(node.output[0])) == 1:
        value = model.get_initializer(node.input[1])
        if value is None:
            break
        found.append((node, value))
        if node.op_type == "Mul":
            break
        node = model.find_producer(node.input[0])
    return found


def _places(values: list[NDArray[np.float32]]) -> int | None:
    """Binary places after which all of them are whole; None when FINEST are not enough."""
    for places in range(FINEST + 1):
        if all(np.all(np.rint(v * 2.0**places) == v * 2.0**places) for v in values):
            return places
    return None


def _scale(model: ModelWrapper, join: NodeProto, index: int, branch: list[tuple[NodeProto, NDArray[np.float32]]],
           factor: float) -> None:
    """Multiply one branch of `join` by `factor`: in its own constants, by one more multiplication if need be."""
    for node, value in branch:
        _set_whole(model, node.input[1], value * factor)
    if branch and branch[-1][0].op_type == "Mul":
        return
    user, place = (branch[-1][0], 0) if branch else (join, index)
    source, name = user.input[place], f"{join.name}_{index}_whole"
    _set_whole(model, f"{name}_factor", np.asarray(factor, np.float32))
    model.graph.node.insert(list(model.graph.node).index(user), onnx.helper.make_node(
        "Mul", [source, f"{name}_factor"], [name], name=name))
    model.set_tensor_shape(name, model.get_tensor_shape(source))
    user.input[place] = name


def _set_whole(model: ModelWrapper, name: str, value: NDArray[np.float32]) -> None:
    value = np.asarray(value, np.float32)
    model.set_initializer(name, value)
    low, high = int(value.min()), int(value.max())
    kind = DataType.get_smallest_possible(low if abs(low) > abs(high) or low < 0 else high)
    if not kind.allowed(high) or not kind.allowed(low):
        kind = DataType[f"INT{max(abs(low), abs(high)).bit_length() + 1}"]
    model.set_tensor_datatype(name, kind)
