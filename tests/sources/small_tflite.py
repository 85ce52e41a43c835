"""Small .tflite files made with the flatbuffer schema alone: no converter is needed to have some."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def _tensor(name: str, shape: tuple[int, ...], buffer: int, signature: tuple[int, ...] | None) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name = name.encode()
    tensor.shape = list(shape)
    tensor.shapeSignature = list(signature) if signature else None
    tensor.type = schema.TensorType.FLOAT32
    tensor.buffer = buffer
    return tensor


def fully_connected(weight: Floats, bias: Floats, *, batch: int = 1, signature: tuple[int, ...] | None = None,
                    outputs: int = 1, operator: int = schema.BuiltinOperator.FULLY_CONNECTED) -> bytes:
    """y = x W^T + b, `outputs` times; W is (out, in). `signature` is the input's, with -1 for an open size."""
    out_size, in_size = weight.shape
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version = 3
    model.buffers = [schema.BufferT(), schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.frombuffer(weight.tobytes(), np.uint8)
    model.buffers[2].data = np.frombuffer(bias.tobytes(), np.uint8)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = operator
    model.operatorCodes = [code]
    graph.tensors = [_tensor("x", (batch, in_size), 0, signature), _tensor("weight", (out_size, in_size), 1, None),
                     _tensor("bias", (out_size,), 2, None)]
    graph.operators, graph.inputs, graph.outputs = [], [0], []
    for k in range(outputs):
        graph.tensors.append(_tensor(f"y{k}", (batch, out_size), 0, None))
        step = schema.OperatorT()
        step.inputs, step.outputs = [0, 1, 2], [3 + k]
        step.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        step.builtinOptions = schema.FullyConnectedOptionsT()
        graph.operators.append(step)
        graph.outputs.append(3 + k)
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
