"""The operators of a network's stages: what each multiplies, reads and writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from hwkit.artifact import Operator
from hwkit.backends._onnx.forms import Piece

_TYPES = {TensorProto.FLOAT: "FLOAT32", TensorProto.FLOAT16: "FLOAT16", TensorProto.INT8: "INT8",
          TensorProto.INT64: "INT64", TensorProto.INT32: "INT32", TensorProto.BOOL: "BOOL"}
_WIDTH = {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2, TensorProto.INT8: 1, TensorProto.INT64: 8,
          TensorProto.INT32: 4, TensorProto.BOOL: 1}
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Value:
    """Shape and datatype of one value; `constant` when it is stored in the file."""

    shape: tuple[int, ...]
    datatype: int
    constant: bool = False

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.elements * _WIDTH.get(self.datatype, 4)


def values(model: ModelProto) -> dict[str, Value]:
    """Every value of the graph whose shape is known."""
    graph = model.graph
    found = {v.name: Value(tuple(d.dim_value for d in v.type.tensor_type.shape.dim), v.type.tensor_type.elem_type)
             for v in (*graph.input, *graph.value_info, *graph.output)}
    found.update({t.name: Value(tuple(t.dims), t.data_type, True) for t in graph.initializer})
    return found


def behind(model: ModelProto, operators: Sequence[str] = QUANTISERS) -> dict[str, str]:
    """What `operators`, which only convert, give -> the value that they were given in the first place."""
    found: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type in operators:
            found[node.output[0]] = found.get(node.input[0], node.input[0])
    return found


def macs(node: NodeProto, known: dict[str, Value]) -> int | None:
    """Multiply-accumulates of one execution; None where the notion does not apply."""
    output = known.get(node.output[0])
    weight = known.get(node.input[1]) if len(node.input) > 1 else None
    if output is None or weight is None:
        return None
    if node.op_type == "Conv":
        return output.elements * math.prod(weight.shape[1:])
    if node.op_type == "ConvTranspose":
        given = known.get(node.input[0])
        return given.elements * math.prod(weight.shape[1:]) if given else None
    if node.op_type in ("Gemm", "MatMul"):
        given = known.get(node.input[0])
        turned = any(a.name == "transA" and a.i for a in node.attribute)
        if given is None or not given.shape:
            return None
        return output.elements * given.shape[-2 if turned and len(given.shape) > 1 else -1]
    return None


def operators(pieces: Sequence[Piece], precision: str) -> list[Operator]:
    """One for each node of the stages' own graphs, in order; quantisers are part of the operator they serve.

    Its index is the number in the node's name. A weight counts where it is read first. `pieces` are float32
    graphs where `precision` is "f16": the files in float16 are made of them.
    """
    found: list[Operator] = []
    half = precision == "f16"
    for piece in pieces:
        known = values(piece.model)
        raw = behind(piece.model)
        counted: set[str] = set()
        for node in piece.model.graph.node:
            if node.op_type in QUANTISERS:
                continue
            weight_bytes, quantized = 0, False
            for name in node.input:
                quantized |= name in raw
                first = raw.get(name, name)
                stored = known.get(first)
                if stored is not None and stored.constant and first not in counted:
                    counted.add(first)
                    halves = half and stored.datatype == TensorProto.FLOAT
                    weight_bytes += stored.size_bytes // (2 if halves else 1)
            output = known.get(node.output[0])
            datatype = _TYPES.get(output.datatype, "") if output else ""
            if quantized:
                datatype = "INT8"
            elif half and datatype == "FLOAT32":
                datatype = "FLOAT16"
            found.append(Operator(
                index=len(found), name=node.op_type, stage=piece.name, repeat=piece.repeat, datatype=datatype,
                output_shape=output.shape if output else (), macs=macs(node, known), weight_bytes=weight_bytes))
    return found


def stored_weights(models: Sequence[ModelProto]) -> tuple[int, int]:
    """(number, elements) of stored tensors with two or more dimensions."""
    found = [t for model in models for t in model.graph.initializer if len(t.dims) >= 2]
    return len(found), sum(math.prod(t.dims) for t in found)


def constant_bytes(model: ModelProto) -> int:
    """Bytes of all constants, each once."""
    return sum(numpy_helper.to_array(t).nbytes for t in model.graph.initializer)
