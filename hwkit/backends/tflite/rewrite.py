"""Changes to a converted float32 graph that compute the same with fewer operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwkit.backends.tflite import flat

_REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")


def rewrite(content: bytes) -> bytes:
    """The same network, the values of its outputs unchanged."""
    model = flat.read(content)
    return flat.write(model) if drop_transposes_before_reductions(model) else content


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
            axes = _values(model, flat.inputs(reduction)[1])
            reduction.inputs = [source, _constant(model, _values(model, order)[axes])]
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
    permutation = _values(model, order)
    reduced = set((_values(model, axes) % len(permutation)).tolist())
    left = [int(source) for place, source in enumerate(permutation) if place not in reduced]
    return left == sorted(left)


def _values(model: Any, index: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    data = model.buffers[model.subgraphs[0].tensors[index].buffer].data
    return np.frombuffer(bytes(data), np.int32)


def _constant(model: Any, values: np.ndarray[Any, np.dtype[np.int32]]) -> int:
    """Index of a new constant int32 tensor."""
    graph = model.subgraphs[0]
    buffer, tensor = flat.new("BufferT"), flat.new("TensorT")
    buffer.data = np.frombuffer(values.astype("<i4").tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.shape, tensor.type, tensor.buffer = [len(values)], flat.number("TensorType", "INT32"), len(model.buffers) - 1
    tensor.name = f"hwkit_constant_{len(graph.tensors)}".encode()
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1
