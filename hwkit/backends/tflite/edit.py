"""Small changes to a TFLite graph: values of constants, new constants, tensors and operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwkit.backends.tflite import flat

_NUMPY = {"FLOAT32": np.float32, "INT32": np.int32}


def values(model: Any, index: int) -> NDArray[Any]:
    """Values of a constant float32 or int32 tensor, in its shape."""
    tensor = model.subgraphs[0].tensors[index]
    data = bytes(model.buffers[tensor.buffer].data)
    return np.frombuffer(data, _NUMPY[flat.datatype(tensor)]).reshape(flat.shape(tensor))


def add_constant(model: Any, array: NDArray[Any]) -> int:
    """Index of a new constant tensor, float32 or int32."""
    datatype = next(name for name, kind in _NUMPY.items() if array.dtype == kind)
    buffer = flat.new("BufferT")
    buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    model.buffers.append(buffer)
    return _add(model, array.shape, datatype, len(model.buffers) - 1)


def add_variable(model: Any, shape: Sequence[int]) -> int:
    """Index of a new float32 tensor that an operator computes."""
    return _add(model, shape, "FLOAT32", 0)


def _add(model: Any, shape: Sequence[int], datatype: str, buffer: int) -> int:
    graph, tensor = model.subgraphs[0], flat.new("TensorT")
    tensor.shape, tensor.type = [int(n) for n in shape], flat.number("TensorType", datatype)
    tensor.buffer, tensor.name = buffer, f"added_{len(graph.tensors)}".encode()
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def make(model: Any, name: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None) -> Any:
    """A new operator, to be put among graph.operators; `options` is e.g. a PadOptionsT."""
    operator = flat.new("OperatorT")
    turn_into(model, operator, name, options)
    operator.inputs, operator.outputs = list(inputs), list(outputs)
    return operator


def turn_into(model: Any, operator: Any, name: str, options: Any = None) -> None:
    """Make an operator another kind, with that kind's options; what it reads and writes stays."""
    operator.opcodeIndex = _code(model, name)
    operator.builtinOptions = options
    kind = type(options).__name__.removesuffix("T") if options is not None else "NONE"
    operator.builtinOptionsType = flat.number("BuiltinOptions", kind)


def _code(model: Any, name: str) -> int:
    wanted = flat.number("BuiltinOperator", name)
    for index, found in enumerate(model.operatorCodes):
        if max(found.builtinCode, found.deprecatedBuiltinCode) == wanted:
            return index
    added = flat.new("OperatorCodeT")
    added.builtinCode, added.version = wanted, 1
    added.deprecatedBuiltinCode = min(wanted, 127)   # the old field has one byte: 127 means "see the new one"
    model.operatorCodes.append(added)
    return len(model.operatorCodes) - 1


def only_reader(model: Any, index: int) -> Any:
    """The operator that alone reads a tensor; None when there are more, or when it is an output."""
    graph = model.subgraphs[0]
    readers = [o for o in graph.operators if index in flat.inputs(o)]
    return readers[0] if len(readers) == 1 and index not in graph.outputs else None
