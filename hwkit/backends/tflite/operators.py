"""The operators of a .tflite: what each costs, and which run on a delegate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hwkit.artifact import Operator
from hwkit.backends.tflite import flat

DELEGATE = "xnnpack"


def partitions(model: Any, runtime: Any) -> list[set[int]]:
    """Positions of the operators in each delegate partition, as an allocated interpreter split the graph.

    The interpreter lists every operator of the file and then one DELEGATE node a partition, with the
    tensors that go in and out: what lies between them is inside.
    """
    graph = model.subgraphs[0]
    producer = {i: k for k, operator in enumerate(graph.operators) for i in flat.outputs(operator)}
    found = []
    for node in runtime._get_ops_details():   # the one place where the runtime tells how it split the graph
        if node["op_name"] != "DELEGATE":
            continue
        outside = {int(i) for i in node["inputs"]}
        inside: set[int] = set()
        waiting = [int(i) for i in node["outputs"]]
        while waiting:
            tensor = waiting.pop()
            if tensor in producer and tensor not in outside and producer[tensor] not in inside:
                inside.add(producer[tensor])
                waiting.extend(flat.inputs(graph.operators[producer[tensor]]))
        found.append(inside)
    return found


def operators(model: Any, inside: Sequence[set[int]], stage: str, repeat: int, first: int) -> list[Operator]:
    """The operators of one stage in the order of the file, numbered from `first`."""
    delegated = set().union(*inside)
    graph = model.subgraphs[0]
    listed = []
    for position, operator in enumerate(graph.operators):
        outputs = flat.outputs(operator)
        result = graph.tensors[outputs[0]] if outputs else None
        listed.append(Operator(
            index=first + position, name=flat.operator_name(model, operator), stage=stage, repeat=repeat,
            output_shape=flat.shape(result) if result else (),
            datatype=flat.datatype(result) if result else "",
            delegate=DELEGATE if position in delegated else "",
            macs=macs(model, operator), weight_bytes=_weight_bytes(model, operator)))
    return listed


def _weight_bytes(model: Any, operator: Any) -> int:
    """Bytes of the constants it reads, directly or through a DEQUANTIZE of constants (float16 weights)."""
    return sum(flat.tensor_bytes(t) for t in operands(model, operator) if flat.is_constant(model, t))


def operands(model: Any, operator: Any) -> list[Any]:
    """Tensors it reads, where a constant that is dequantised first stands for itself."""
    graph = model.subgraphs[0]
    made = {flat.outputs(o)[0]: o for o in graph.operators if is_constant_cast(model, o)}
    found = []
    for index in flat.inputs(operator):
        source = made.get(index)
        found.append(graph.tensors[flat.inputs(source)[0] if source is not None else index])
    return found


def is_constant_cast(model: Any, operator: Any) -> bool:
    """A DEQUANTIZE of a constant, which the runtime does once and not at each inference."""
    inputs = flat.inputs(operator)
    return (flat.operator_name(model, operator) == "DEQUANTIZE" and len(inputs) == 1
            and flat.is_constant(model, model.subgraphs[0].tensors[inputs[0]]))


def macs(model: Any, operator: Any) -> int | None:
    """Multiply-accumulates of one execution; None where the operator is not a product of matrices."""
    tensors = model.subgraphs[0].tensors
    name = flat.operator_name(model, operator)
    shapes = [flat.shape(tensors[i]) for i in flat.inputs(operator)]
    outputs = flat.outputs(operator)
    if not outputs:
        return None
    out = flat.shape(tensors[outputs[0]])
    match name:
        case "CONV_2D":          # weights (out, height, width, in)
            return math.prod(out) * math.prod(shapes[1][1:])
        case "DEPTHWISE_CONV_2D":   # weights (1, height, width, out)
            return math.prod(out) * shapes[1][1] * shapes[1][2]
        case "TRANSPOSE_CONV":   # shape, weights (out, height, width, in), input
            return math.prod(shapes[2]) * math.prod(shapes[1][:3])
        case "FULLY_CONNECTED":  # weights (out, in)
            return math.prod(out) * shapes[1][-1]
        case "BATCH_MATMUL":
            transposed = operator.builtinOptions.adjX if operator.builtinOptions else False
            return math.prod(out) * (shapes[0][-2] if transposed else shapes[0][-1])
        case _:
            return None
