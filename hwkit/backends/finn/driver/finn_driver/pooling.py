"""Sums over the whole map as FINN knows them: a global average times the number of places."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper


def _axes(model: ModelWrapper, node: NodeProto) -> list[int]:
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if len(node.input) > 1:
        return [int(axis) for axis in np.atleast_1d(model.get_initializer(node.input[1]))]
    return list(given.get("axes", []))


def sums_as_averages(model: ModelWrapper) -> ModelWrapper:
    """ReduceSum over height and width becomes GlobalAveragePool and a multiplication; dropped axes come back by a
    Reshape."""
    for node in [n for n in model.graph.node if n.op_type == "ReduceSum"]:
        shape = model.get_tensor_shape(node.input[0])
        if len(shape) != 4 or sorted(axis % 4 for axis in _axes(model, node)) != [2, 3]:
            continue
        mean, scaled, places = (f"{node.name}_{what}" for what in ("mean", "sum", "places"))
        out = node.output[0]
        flat = model.get_tensor_shape(out)
        model.set_initializer(places, np.asarray(float(shape[2] * shape[3]), np.float32))
        at = list(model.graph.node).index(node)
        model.graph.node.remove(node)
        made = [onnx.helper.make_node("GlobalAveragePool", [node.input[0]], [mean], name=f"{node.name}_average"),
                onnx.helper.make_node("Mul", [mean, places], [scaled], name=f"{node.name}_scaled")]
        if len(flat) == 4:
            made[-1].output[0] = out
        else:
            model.set_initializer(f"{node.name}_shape", np.asarray(flat, np.int64))
            made.append(onnx.helper.make_node("Reshape", [scaled, f"{node.name}_shape"], [out]))
            model.set_tensor_shape(scaled, [*shape[:2], 1, 1])
        model.set_tensor_shape(mean, [*shape[:2], 1, 1])
        for offset, new in enumerate(made):
            model.graph.node.insert(at + offset, new)
    return model
