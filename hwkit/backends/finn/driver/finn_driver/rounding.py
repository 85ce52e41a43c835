"""Quantisers that round down, in the only terms FINN knows.

FINN turns every quantiser into thresholds halfway between its levels, whatever its rounding_mode says: that is
rounding half up. floor(x) is round_half_up(x - 1/2), so half a level is subtracted in front: exact, no ties.
"""

from __future__ import annotations

import numpy as np
import onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp


def floors_as_rounds(model: ModelWrapper) -> tuple[ModelWrapper, int]:
    """The model where quantisers of activations that floor have become ones that round half up, and how many.

    Their result is the same only under FINN's reading; QONNX's own executor would round halves to even.
    """
    changed = 0
    for node in list(model.graph.node):
        if node.op_type not in ("Quant", "IntQuant") or model.get_initializer(node.input[0]) is not None:
            continue
        quantiser, node.op_type = getCustomOp(node), "Quant"     # FINN knows IntQuant by its old name only
        if quantiser.get_nodeattr("rounding_mode").upper() != "FLOOR":
            continue
        quantiser.set_nodeattr("rounding_mode", "ROUND")
        scale = np.asarray(model.get_initializer(node.input[1]), dtype=np.float32)
        before = model.find_producer(node.input[0])
        # in front of a ReLU, so that FINN still sees quantiser and ReLU as one: below half a level both give 0
        place = before if before is not None and before.op_type == "Relu" else node
        half, shifted = f"{node.name}_half", f"{node.name}_shifted"
        model.set_initializer(half, -scale / 2)
        # right-aligned broadcasting also keeps a (1, C, 1, 1) scale where it was
        model.graph.node.insert(list(model.graph.node).index(place), onnx.helper.make_node(
            "Add", [place.input[0], half], [shifted], name=f"{node.name}_floor"))
        model.set_tensor_shape(shifted, model.get_tensor_shape(place.input[0]))
        place.input[0] = shifted
        changed += 1
    return model, changed
