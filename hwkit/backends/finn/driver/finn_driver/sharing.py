"""Constants as FINN wants them: biases plain, and every weight with one consumer.

FINN refuses a weight quantiser with two consumers. The N steps of a neural ODE share every weight; unrolled, each
step's layer becomes hardware of its own. It cannot read a bias from a quantiser either: thresholds take it up.
"""

from __future__ import annotations

import copy

from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.general import (
    GiveReadableTensorNames,
    GiveUniqueNodeNames,
    GiveUniqueParameterTensors,
    RemoveUnusedTensors,
    SortGraph,
)

QUANTISERS = ("Quant", "IntQuant", "BipolarQuant")


def plain_biases(model: ModelWrapper) -> ModelWrapper:
    """The same network where the biases of Conv and Gemm are constants, as their quantisers leave them."""
    biases = {n.input[2] for n in model.graph.node if n.op_type in ("Conv", "Gemm") and len(n.input) > 2}
    for node in [n for n in model.graph.node if n.op_type in QUANTISERS and n.output[0] in biases]:
        constants = {name: model.get_initializer(name) for name in node.input}
        if any(value is None for value in constants.values()):
            continue
        getCustomOp(node).execute_node(constants, model.graph)
        model.set_initializer(node.output[0], constants[node.output[0]])
        model.graph.node.remove(node)
    return model


def unshare(model: ModelWrapper) -> tuple[ModelWrapper, int]:
    """The same network where every weight quantiser and every parameter has one consumer, and the copies made."""
    copies = 0
    for quantiser in [n for n in model.graph.node if n.op_type in QUANTISERS]:
        weights = model.get_initializer(quantiser.input[0])
        if weights is None:
            continue
        shared = quantiser.output[0]
        uses = [(n, i) for n in model.graph.node for i, name in enumerate(n.input) if name == shared]
        for consumer, index in uses[1:]:
            twin = copy.deepcopy(quantiser)
            suffix = f"_copy{copies}"
            twin.name, twin.input[0], twin.output[0] = (
                f"{quantiser.name}{suffix}", f"{quantiser.input[0]}{suffix}", f"{shared}{suffix}")
            model.set_initializer(twin.input[0], weights)
            model.set_tensor_shape(twin.output[0], model.get_tensor_shape(shared))
            consumer.input[index] = twin.output[0]
            model.graph.node.append(twin)
            copies += 1
    for step in (SortGraph(), GiveUniqueParameterTensors(), GiveUniqueNodeNames(), GiveReadableTensorNames(),
                 RemoveUnusedTensors()):
        model = model.transform(step)
    return model, copies
