"""How long each tensor of a .tflite lives."""

from __future__ import annotations

from typing import Any

from hwkit.backends._arena import Block
from hwkit.backends.tflite import flat
from hwkit.backends.tflite.operators import is_constant_cast


def blocks(model: Any) -> list[Block]:
    """All variable tensors. Network inputs live from before the first operator, outputs past the last."""
    graph = model.subgraphs[0]
    first: dict[int, int] = {int(i): -1 for i in graph.inputs}
    last: dict[int, int] = {int(i): len(graph.operators) for i in (*graph.inputs, *graph.outputs)}
    for position, operator in enumerate(graph.operators):
        if is_constant_cast(model, operator):
            continue   # done once at preparation and packed with the weights
        for i in flat.inputs(operator):
            last[i] = max(last.get(i, position), position)
        for i in flat.outputs(operator):
            first.setdefault(i, position)
            last.setdefault(i, position)
    found = []
    for i, start in first.items():
        size = flat.tensor_bytes(graph.tensors[i])
        if size and not flat.is_constant(model, graph.tensors[i]):
            found.append(Block.of(size, start, last.get(i, start)))
    return found
