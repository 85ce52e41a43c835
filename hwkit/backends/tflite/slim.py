"""Take out of a .tflite what no runtime reads, so that a small network is not mostly names.

The converter names a tensor after its path through several Python classes; an unrolled network repeats
such names, and equal shapes, scales and zero points, once a step.
"""

from __future__ import annotations

from typing import Any

from hwkit.backends.tflite import flat

KEPT_METADATA = (b"min_runtime_version",)


def slim(content: bytes) -> bytes:
    """The same network: short names inside, no conversion notes, no unused buffer, equal vectors shared.

    Names of inputs and outputs, and the signature, stay.
    """
    model = flat.read(content)
    model.metadata = [m for m in model.metadata or [] if m.name in KEPT_METADATA] or None
    for number, graph in enumerate(model.subgraphs):
        public = {int(i) for i in (*graph.inputs, *graph.outputs)}
        for index, tensor in enumerate(graph.tensors):
            if index not in public:
                tensor.name = (f"{number}.{index}" if number else str(index)).encode()
    _drop_unused_buffers(model)
    return flat.write(model)


def _drop_unused_buffers(model: Any) -> None:
    """Buffer 0 stays, the empty one; equal buffers become one."""
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    places: dict[int, int] = {0: 0}
    contents: dict[bytes, int] = {}
    kept = [model.buffers[0]]
    for owner in [*tensors, *(model.metadata or [])]:
        if owner.buffer not in places:
            data = model.buffers[owner.buffer].data
            key = b"" if data is None else bytes(data)
            if not key:
                places[owner.buffer] = 0
            elif key in contents:
                places[owner.buffer] = contents[key]
            else:
                places[owner.buffer] = contents[key] = len(kept)
                kept.append(model.buffers[owner.buffer])
        owner.buffer = places[owner.buffer]
    model.buffers = kept
