"""Every operator of the ONNX importer, in every form that exporters write it, against onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from hwkit.errors import BadModel
from hwkit.sources._onnx.network import build
from hwkit.sources._onnx.operator import OPERATORS
from hwkit.sources.onnx import compare, load

INT, F32 = np.int64, np.float32


def ints(*values: int) -> np.ndarray:
    return np.array(values, INT)


def floats(*shape: int, seed: int = 1, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(F32)


@dataclass(frozen=True)
class Case:
    """A graph of one node. `constants` are its operands after x; an empty string is an operand left out."""

    op: str
    shape: tuple[int, ...]
    constants: tuple[Any, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 18
    first: bool = True     # x is operand 0, otherwise the last one
    prepare: str = ""      # an operator that x goes through before
    outputs: int = 1


def graph_of(case: Case) -> onnx.ModelProto:
    initializers, names = [], []
    for k, constant in enumerate(case.constants):
        if isinstance(constant, str):
            names.append("")
            continue
        names.append(f"c{k}")
        initializers.append(onnx.numpy_helper.from_array(np.asarray(constant), f"c{k}"))
    nodes, x = [], "x"
    if case.prepare:
        nodes, x = [helper.make_node(case.prepare, ["x"], ["prepared"])], "prepared"
    operands = [x, *names] if case.first else [*names, x]
    outputs = ["y", *(f"unused{k}" for k in range(1, case.outputs))]
    nodes.append(helper.make_node(case.op, operands, outputs, name="the_node", **case.attributes))
    nodes.append(helper.make_node("Cast", ["y"], ["out"], to=TensorProto.FLOAT))
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, *case.shape))
    result = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [entry], [result], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)   # a graph's output needs a shape
    if not model.graph.output[0].type.tensor_type.HasField("shape"):
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("out", TensorProto.FLOAT, (1, *case.shape)))
    return model


IMAGE = (4, 9, 10)
MATRIX = (5, 6)
WEIGHT = floats(6, 4, 3, 3)
CONVS = [
    Case("Conv", IMAGE, (WEIGHT,)),
    Case("Conv", IMAGE, (WEIGHT, floats(6)), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    Case("Conv", IMAGE, (WEIGHT, floats(6)), {"pads": [0, 1, 1, 2], "strides": [2, 1]}),
    Case("Conv", IMAGE, (WEIGHT,), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    Case("Conv", IMAGE, (WEIGHT,), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    Case("Conv", IMAGE, (WEIGHT,), {"auto_pad": "VALID"}),
    Case("Conv", IMAGE, (WEIGHT,), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    Case("Conv", IMAGE, (floats(4, 1, 3, 3), floats(4)), {"group": 4, "pads": [1, 1, 1, 1]}),
    Case("Conv", (4, 9), (floats(6, 4, 3),), {"pads": [1, 1]}),
    Case("Conv", (2, 4, 5, 6), (floats(3, 2, 2, 2, 2),)),
    Case("ConvTranspose", IMAGE, (floats(4, 6, 3, 3), floats(6)), {"strides": [2, 2], "pads": [1, 1, 1, 1],
                                                                  "output_padding": [1, 1]}),
    Case("ConvTranspose", IMAGE, (floats(4, 2, 2, 2),), {"strides": [2, 2], "group": 2}),
    Case("ConvTranspose", (4, 9), (floats(4, 2, 3),), {"strides": [2]}),
]
POOLS = [
    *(Case(op, IMAGE, (), {"kernel_shape": [3, 3], **more}) for op in ("MaxPool", "AveragePool") for more in (
        {}, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, {"strides": [2, 2], "pads": [0, 0, 1, 1]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, {"strides": [2, 2], "ceil_mode": 1})),
    Case("MaxPool", IMAGE, (), {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    Case("MaxPool", (4, 9), (), {"kernel_shape": [3], "strides": [2]}),
    Case("AveragePool", IMAGE, (), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    Case("AveragePool", IMAGE, (), {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0], "count_include_pad": 1}),
    Case("GlobalAveragePool", IMAGE), Case("GlobalMaxPool", IMAGE),
]
NORMS = [
    Case("BatchNormalization", IMAGE, (floats(4), floats(4), floats(4), floats(4, low=0.5, high=2.0))),
    Case("BatchNormalization", (6,), (floats(6), floats(6), floats(6), floats(6, low=0.5)), {"epsilon": 0.1}),
    Case("InstanceNormalization", IMAGE, (floats(4), floats(4))),
    Case("LayerNormalization", MATRIX, (floats(6), floats(6))),
    Case("LayerNormalization", MATRIX, (floats(5, 6),), {"axis": 1, "epsilon": 0.1}),
    Case("GroupNormalization", IMAGE, (floats(4), floats(4)), {"num_groups": 2}, opset=21),
    Case("LRN", IMAGE, (), {"size": 3, "alpha": 0.1, "beta": 0.6, "bias": 1.2}),
    Case("LpNormalization", MATRIX), Case("LpNormalization", MATRIX, (), {"p": 1, "axis": 1}),
]
LINEAR = [
    Case("Gemm", (6,), (floats(6, 3), floats(3))), Case("Gemm", (6,), (floats(3, 6), floats(3)), {"transB": 1}),
    Case("Gemm", (6,), (floats(6, 3),)), Case("Gemm", (6,), (floats(1, 3), floats(6, 3)), {"transA": 1}),
    Case("Gemm", (6,), (floats(6, 3), floats(1, 3)), {"alpha": 0.5, "beta": 2.0}),
    Case("MatMul", MATRIX, (floats(6, 3),)), Case("MatMul", MATRIX, (floats(1, 6, 3),)),
    Case("MatMul", MATRIX, (floats(1, 3, 5),), first=False), Case("MatMul", (5, 6), (floats(6),)),
    Case("Einsum", MATRIX, (floats(6, 3),), {"equation": "bij,jk->bik"}),
]
UNARY = [
    *(Case(op, MATRIX) for op in ("Relu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Sign", "Floor", "Ceil", "Round",
                                  "Erf", "Sin", "Cos", "HardSwish", "Softplus", "Softsign", "Mish", "Identity",
                                  "Dropout", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "HardSigmoid",
                                  "IsNaN")),
    *(Case(op, MATRIX, prepare="Abs") for op in ("Log", "Sqrt", "Reciprocal")),
    Case("Not", MATRIX, prepare="IsNaN"),
    Case("Gelu", MATRIX, opset=20), Case("Gelu", MATRIX, (), {"approximate": "tanh"}, opset=20),
    Case("LeakyRelu", MATRIX, (), {"alpha": 0.3}), Case("Elu", MATRIX, (), {"alpha": 0.3}),
    Case("Celu", MATRIX, (), {"alpha": 0.3}), Case("ThresholdedRelu", MATRIX, (), {"alpha": 0.3}),
    Case("HardSigmoid", MATRIX, (), {"alpha": 1 / 6}), Case("Selu", MATRIX, (), {"alpha": 0.3, "gamma": 2.0}),
    Case("PRelu", IMAGE, (floats(4, 1, 1),)), Case("PRelu", IMAGE, (floats(1, 1, 1),)),
    Case("PRelu", IMAGE, (floats(4, 9, 10),)),
    Case("Clip", MATRIX, (F32(-0.5), F32(0.5))), Case("Clip", MATRIX, (F32(0), F32(6))),
    Case("Clip", MATRIX, ("", F32(0.5))), Case("Clip", MATRIX, (F32(0.1),)), Case("Clip", MATRIX),
    Case("Clip", MATRIX, (), {"min": -0.5, "max": 0.25}, opset=8),
    Case("Cast", MATRIX, (), {"to": TensorProto.INT32}), Case("Cast", MATRIX, (), {"to": TensorProto.BOOL}),
    Case("CastLike", MATRIX, (ints(1),)),
    Case("Trilu", MATRIX), Case("Trilu", MATRIX, (np.array(1, INT),), {"upper": 0}),
]
BINARY = [
    *(Case(op, MATRIX, (floats(5, 6),), first=first) for first in (True, False)
      for op in ("Add", "Sub", "Mul", "Div", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Min",
                 "Max", "Sum", "Mean")),
    *(Case(op, MATRIX, (F32(0.7),), first=first) for first in (True, False)
      for op in ("Add", "Sub", "Mul", "Div", "Greater", "Less", "Min", "Max")),
    *(Case(op, MATRIX, (np.ones((5, 6), bool),), prepare="IsNaN") for op in ("And", "Or", "Xor")),
    Case("Pow", MATRIX, (F32(2),)), Case("Pow", MATRIX, (np.array([0.5], F32),), prepare="Abs"),
    Case("Pow", MATRIX, (F32(3),), first=False),
    Case("Mod", MATRIX, (floats(6, low=0.5, high=2),), {"fmod": 1}),
    Case("Max", MATRIX, (floats(6), floats(1))), Case("Add", IMAGE, (floats(4, 1, 1),)),
    Case("Where", MATRIX, (np.arange(6) % 2 == 0, floats(5, 6)), first=False),
]
SHAPES = [
    Case("Reshape", MATRIX, (ints(1, -1),)), Case("Reshape", MATRIX, (ints(0, 3, -1),)),
    Case("Flatten", IMAGE), Case("Flatten", IMAGE, (), {"axis": 2}), Case("Flatten", IMAGE, (), {"axis": -1}),
    Case("Transpose", IMAGE), Case("Transpose", IMAGE, (), {"perm": [0, 2, 3, 1]}),
    Case("Squeeze", (5, 1, 3), (ints(2),)), Case("Squeeze", (5, 1, 3)),
    Case("Squeeze", (5, 1), (), {"axes": [2]}, 11),
    Case("Unsqueeze", MATRIX, (ints(1, -1),)), Case("Unsqueeze", MATRIX, (), {"axes": [0, 2]}, 11),
    Case("Concat", MATRIX, (floats(1, 2, 6),), {"axis": 1}),
    Case("Concat", MATRIX, (floats(1, 5, 2),), {"axis": -1}),
    Case("Split", MATRIX, (ints(2, 4),), {"axis": 2}, outputs=2),
    Case("Split", MATRIX, (), {"axis": 2}, 13, outputs=2),
    Case("Split", MATRIX, (), {"axis": 1, "num_outputs": 2}, outputs=2),
    Case("Split", MATRIX, (), {"axis": 2, "split": [1, 5]}, 11, outputs=2),
    Case("Slice", MATRIX, (ints(1), ints(4), ints(1))),
    Case("Slice", MATRIX, (ints(0, 1), ints(9, -1), ints(1, 2), ints(2, 2))),
    Case("Slice", MATRIX, (ints(-1), ints(-(2**63)), ints(2), ints(-1))),
    Case("Slice", MATRIX, (ints(4), ints(0), ints(2), ints(-2))), Case("Slice", MATRIX, (ints(0, 1), ints(1, 3))),
    Case("Slice", MATRIX, (), {"starts": [1], "ends": [3], "axes": [1]}, 9),
    Case("Gather", MATRIX, (ints(0, 2, -1),), {"axis": 1}),
    Case("Gather", MATRIX, (np.array(1, INT),), {"axis": 2}),
    Case("Gather", MATRIX, (np.array([[0, 1], [2, 3]], INT),), {"axis": 2}),
    Case("GatherElements", MATRIX, (np.array([[[0, 1], [-1, 2]]], INT),), {"axis": 2}),
    Case("Expand", (1, 6), (ints(1, 5, 6),)), Case("Expand", (5, 1), (ints(3, 1, 1, 4),)),
    Case("Tile", MATRIX, (ints(1, 2, 3),)),
    Case("Pad", MATRIX, (ints(0, 1, 0, 0, 2, 3),)), Case("Pad", MATRIX, (ints(0, 1, 0, 0, 0, 0), F32(1.5))),
    Case("Pad", IMAGE, (ints(0, 0, 1, 2, 0, 0, 2, 1),), {"mode": "reflect"}),
    Case("Pad", IMAGE, (ints(0, 0, 1, 2, 0, 0, 2, 1),), {"mode": "edge"}),
    Case("Pad", IMAGE, (ints(1, 2), F32(0), ints(-1)),), Case("Pad", IMAGE, (ints(0, 0, 0, 0, 0, 0, 0, 0),)),
    Case("Pad", MATRIX, (), {"pads": [0, 1, 0, 0, 2, 3], "value": 2.0}, 10),
    Case("Pad", IMAGE, (ints(0, 0, -1, 0, 0, 0, -1, 2),)),
    Case("Pad", IMAGE, (ints(1, 2), F32(0), ints(-1)), {"mode": "wrap"}, 19),
    Case("DepthToSpace", (8, 3, 4), (), {"blocksize": 2}),
    Case("DepthToSpace", (8, 3, 4), (), {"blocksize": 2, "mode": "CRD"}),
    Case("SpaceToDepth", (2, 4, 6), (), {"blocksize": 2}),
    Case("Upsample", IMAGE, (np.array([1, 1, 2, 3], F32),), opset=9),
]
SCALES = np.array([1, 1, 2, 2], F32)
RESIZES = [
    Case("Resize", IMAGE, ("", SCALES), {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
                                         "nearest_mode": "floor"}),
    Case("Resize", IMAGE, ("", SCALES), {"mode": "nearest"}),
    Case("Resize", IMAGE, ("", SCALES), {"mode": "linear"}),
    Case("Resize", IMAGE, ("", SCALES), {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    Case("Resize", IMAGE, ("", "", ints(1, 4, 5, 13)),
         {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
    Case("Resize", IMAGE, ("", SCALES), {"mode": "cubic"}),
    Case("Resize", (4, 9), ("", np.array([1, 1, 2], F32)), {"mode": "linear"}),
    Case("Resize", IMAGE, (SCALES,), {"mode": "nearest"}, 10),
]
REDUCTIONS = [
    *(Case(op, MATRIX, (), {"axes": [1], "keepdims": keep}, 11) for keep in (0, 1) for op in (
        "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare",
        "ReduceLogSumExp", "ReduceProd")),
    *(Case(op, MATRIX, (ints(1, -1),)) for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceProd")),
    Case("ReduceMean", MATRIX), Case("ReduceSum", MATRIX, (), {"noop_with_empty_axes": 1}),
    Case("ReduceLogSum", MATRIX, (ints(1),), prepare="Abs"),
    Case("Softmax", MATRIX), Case("Softmax", MATRIX, (), {"axis": 1}),
    Case("Softmax", MATRIX, (), {"axis": 1}, 11),
    Case("LogSoftmax", MATRIX), Case("LogSoftmax", IMAGE, (), {"axis": 2}, 11),
    Case("ArgMax", MATRIX, (), {"axis": 2}), Case("ArgMin", MATRIX, (), {"axis": 1, "keepdims": 0}),
    Case("CumSum", MATRIX, (np.array(2, INT),)),
]
RMS = [Case("RMSNormalization", MATRIX, (floats(6),), opset=23)]
CASES = [*CONVS, *POOLS, *NORMS, *LINEAR, *UNARY, *BINARY, *SHAPES, *RESIZES, *REDUCTIONS, *RMS]


def compared(case: Case, folder: Path) -> None:
    path = folder / "case.onnx"
    onnx.save(graph_of(case), path)
    model, opset = load(path, "case")
    network = build(model.graph, opset, torch.zeros(1, *case.shape), "case")
    compare(network, path, case.shape, "case")


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.op}-{c.opset}-{'-'.join(map(str, c.attributes))}")
def test_agrees_with_onnxruntime(case: Case, tmp_path: Path) -> None:
    compared(case, tmp_path)


MADE_OF_CONSTANTS = {"Constant", "ConstantOfShape", "Range", "Shape", "Size"}   # in test_onnx.py, within graphs
NOT_IN_THIS_ONNXRUNTIME = {"Swish"}


def test_every_operator_has_a_case() -> None:
    assert set(OPERATORS) - {c.op for c in CASES} == MADE_OF_CONSTANTS | NOT_IN_THIS_ONNXRUNTIME


def test_the_check_sees_another_definition(tmp_path: Path) -> None:
    """GELU by tanh differs from GELU by erf by 5e-4: the smallest mistake that must not pass."""
    path = tmp_path / "case.onnx"
    onnx.save(graph_of(Case("Gelu", MATRIX, (), {"approximate": "tanh"}, opset=20)), path)
    other = graph_of(Case("Gelu", MATRIX, opset=20))
    with pytest.raises(BadModel, match="differs from onnxruntime"):
        compare(build(other.graph, 20, torch.zeros(1, *MATRIX), "case"), path, MATRIX, "case")
