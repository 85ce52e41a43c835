"""A .tflite file as objects: read it, change it, write it again.

The object API of the schema that ships with ai-edge-litert; nothing here runs a model.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

from hwkit.errors import BadModel

IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16   # force_align of Buffer.data in the schema


@functools.cache
def _schema() -> Any:
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


@functools.cache
def _names(enum: str) -> dict[int, str]:
    values = vars(getattr(_schema(), enum)).items()
    return {value: key for key, value in values if isinstance(value, int)}


def read(content: bytes) -> Any:
    """The ModelT of a file's bytes. Raises BadModel when they are not a TFLite flatbuffer."""
    hint = "export it again, or check that the download is complete"
    if len(content) < 16 or content[4:8] != IDENTIFIER:
        raise BadModel("not a TFLite file: the TFL3 identifier is missing", hint)
    try:
        model = _schema().ModelT.InitFromPackedBuf(content, 0)
    except Exception as e:   # the generated reader does not check offsets: a damaged file raises anything
        raise BadModel(f"a damaged TFLite file: {type(e).__name__}: {e}", hint) from None
    if not model.subgraphs or not model.subgraphs[0].operators:
        raise BadModel("a TFLite file with no operators", hint)
    _take_in(model, content, hint)
    return model


def _take_in(model: Any, content: bytes, hint: str) -> None:
    """Large models keep their buffers behind the flatbuffer, by offset: bring them inside."""
    import numpy as np

    for buffer in model.buffers:
        if buffer.offset > 1:   # 0 and 1 both stand for "inside"
            if buffer.offset + buffer.size > len(content):
                raise BadModel("a damaged TFLite file: a buffer lies outside of it", hint)
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0


def write(model: Any) -> bytes:
    """The bytes of a ModelT: buffers aligned to 16 bytes, and equal vectors (shapes, scales) stored once."""
    builder = _builder()(1 << 16)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


@functools.cache
def _builder() -> Any:
    """A flatbuffer builder that stores each distinct vector of numbers once.

    An unrolled network repeats the shape, scales and zero points of a step N times; a flatbuffer may
    point to one vector from many places.
    """
    import flatbuffers

    class SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
        def __init__(self, size: int) -> None:
            super().__init__(size)
            self._known: dict[tuple[int, bytes], int] = {}
            self.head: int   # of the parent: where the next byte goes, counted down
            self._open: tuple[int, int, int] | None = None   # where the vector ends, its bytes, its alignment

        def StartVector(self, size: int, count: int, alignment: int) -> Any:  # noqa: N802
            self._open = self.Offset(), size * count, alignment
            return super().StartVector(size, count, alignment)

        def PrependUOffsetTRelative(self, offset: int) -> None:  # noqa: N802
            self._open = None   # a vector of pointers means something else in every place
            super().PrependUOffsetTRelative(offset)

        def EndVector(self, *ignored: Any) -> Any:  # noqa: N802
            offset = super().EndVector(*ignored)
            if self._open is None:
                return offset
            end, size, alignment = self._open
            self._open = None
            key = alignment, bytes(self.Bytes[self.head:self.head + 4 + size])   # its length goes before it
            if key in self._known:
                self.head = len(self.Bytes) - end
                return self._known[key]
            self._known[key] = offset
            return offset

        def CreateNumpyVector(self, values: Any) -> Any:  # noqa: N802
            if values.dtype.itemsize > 1 or values.size == 0:
                return super().CreateNumpyVector(values)
            self.StartVector(1, values.size, BUFFER_ALIGNMENT)   # the schema asks for it on Buffer.data
            data = values.tobytes()
            self.head -= len(data)
            self.Bytes[self.head:self.head + len(data)] = data
            self.vectorNumElems = values.size
            return self.EndVector()

    return SharingBuilder


def new(kind: str) -> Any:
    """An empty schema object, e.g. new("TensorT")."""
    return getattr(_schema(), kind)()


def number(enum: str, name: str) -> int:
    """Value of a name in one of the schema's enums, e.g. number("TensorType", "INT32")."""
    return int(getattr(getattr(_schema(), enum), name))


def operator_name(model: Any, operator: Any) -> str:
    """E.g. "CONV_2D"; a custom operator's own name."""
    found = model.operatorCodes[operator.opcodeIndex]
    builtin = max(found.builtinCode, found.deprecatedBuiltinCode)
    name = _names("BuiltinOperator")[builtin]
    return found.customCode.decode(errors="replace") if name == "CUSTOM" and found.customCode else name


def datatype(tensor: Any) -> str:
    """E.g. "FLOAT32", "INT8"."""
    return _names("TensorType")[tensor.type]


_BITS = {"INT64": 64, "UINT64": 64, "FLOAT64": 64, "COMPLEX64": 64, "FLOAT32": 32, "INT32": 32, "UINT32": 32,
         "FLOAT16": 16, "BFLOAT16": 16, "INT16": 16, "UINT16": 16, "INT8": 8, "UINT8": 8, "BOOL": 8,
         "INT4": 4, "INT2": 2}


def tensor_bytes(tensor: Any) -> int:
    """Bytes of a tensor's values; 0 for a datatype without a fixed size (strings, handles)."""
    return (elements(tensor) * _BITS.get(datatype(tensor), 0) + 7) // 8


def elements(tensor: Any) -> int:
    return math.prod(shape(tensor))


def shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(n) for n in tensor.shape)


def is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def inputs(operator: Any) -> list[int]:
    """Tensor indices an operator reads; an absent optional input is -1 in the file and left out here."""
    return [int(i) for i in operator.inputs if i >= 0]


def outputs(operator: Any) -> list[int]:
    return [int(i) for i in operator.outputs if i >= 0]


def constants(model: Any) -> Iterator[Any]:
    """Constant tensors that some operator reads, each one once."""
    for graph in model.subgraphs:
        for index in sorted({i for operator in graph.operators for i in inputs(operator)}):
            if is_constant(model, graph.tensors[index]):
                yield graph.tensors[index]


def weight_bytes(model: Any) -> int:
    """Bytes of all constant tensors, a buffer that several share counted once."""
    return sum({t.buffer: tensor_bytes(t) for t in constants(model)}.values())
