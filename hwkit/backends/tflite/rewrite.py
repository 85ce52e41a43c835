"""Changes to a converted float32 graph that compute the same with fewer instructions.

All of them keep every output value, in float32 and after quantisation.
"""

from __future__ import annotations

from typing import Any

from hwkit.backends.tflite import edit, flat
from hwkit.backends.tflite.stem import merge_columns

_REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
_CLAMPS = ("RELU", "RELU6", "RELU_N1_TO_1")   # each is an operator, and an activation of the same name


def rewrite(content: bytes) -> bytes:
    """For any precision."""
    model = flat.read(content)
    drop_transposes_before_reductions(model)
    return flat.write(model)


def rewrite_for_integers(content: bytes, dot_products: bool) -> bytes:
    """For a graph that is going to be quantised to int8; `dot_products`: the core has them (asimddp)."""
    model = flat.read(content)
    clamp_by_pooling(model)
    merge_columns(model, dot_products)
    return flat.write(model)


def clamp_by_pooling(model: Any) -> int:
    """Lone RELUs on images become 1x1 max-pooling with that activation. How many.

    XNNPACK has no int8 RELU of its own, so one that follows no convolution runs on the runtime's
    scalar kernel; a 1x1 pooling with an activation it runs as a vectorised clamp.
    """
    graph = model.subgraphs[0]
    changed = 0
    for operator in graph.operators:
        name = flat.operator_name(model, operator)
        if name in _CLAMPS and len(flat.shape(graph.tensors[flat.inputs(operator)[0]])) == 4:
            options = flat.new("Pool2DOptionsT")
            options.strideW = options.strideH = options.filterWidth = options.filterHeight = 1
            options.padding = flat.number("Padding", "VALID")
            options.fusedActivationFunction = flat.number("ActivationFunctionType", name)
            edit.turn_into(model, operator, "MAX_POOL_2D", options)
            changed += 1
    return changed


def drop_transposes_before_reductions(model: Any) -> int:
    """Reduce over the axes of the original layout, as global pooling of a channels-last map can. How many."""
    graph = model.subgraphs[0]
    dropped = 0
    for transpose in list(graph.operators):
        if flat.operator_name(model, transpose) != "TRANSPOSE":
            continue
        source, order = flat.inputs(transpose)
        result = flat.outputs(transpose)[0]
        readers = [o for o in graph.operators if result in flat.inputs(o)]
        if result in graph.outputs or not readers or not all(_follows(model, o, order) for o in readers):
            continue
        for reduction in readers:
            axes = edit.values(model, flat.inputs(reduction)[1])
            reduction.inputs = [source, edit.add_constant(model, edit.values(model, order)[axes])]
        graph.operators.remove(transpose)
        dropped += 1
    return dropped


def _follows(model: Any, operator: Any, order: int) -> bool:
    """Whether a reduction gives the same when it reduces the untransposed tensor over the matching axes."""
    if flat.operator_name(model, operator) not in _REDUCTIONS or operator.builtinOptions.keepDims:
        return False
    tensors = model.subgraphs[0].tensors
    axes = flat.inputs(operator)[1]
    if not flat.is_constant(model, tensors[axes]) or not flat.is_constant(model, tensors[order]):
        return False
    permutation = edit.values(model, order)
    reduced = set((edit.values(model, axes).reshape(-1) % len(permutation)).tolist())
    left = [int(source) for place, source in enumerate(permutation) if place not in reduced]
    return left == sorted(left)
