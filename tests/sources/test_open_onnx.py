"""Whole .onnx files: what torch exports, what other tools write, and what cannot be deployed."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from hwkit.nn.ode import ODEBlock
from hwkit.sources import files, resolve
from tests.sources.opening import Outcomes, model, opened, refusal

F32, INT = np.float32, np.int64
RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.standard_normal((4, 3)).astype(F32)
STEPS = 10


def make(nodes: list[onnx.NodeProto], constants: dict[str, Any], shape: tuple[Any, ...] = (1, 4),
         out: tuple[Any, ...] = (1, 3), opset: int = 18, inputs: int = 1, outputs: int = 1,
         datatype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    names_in, names_out = ["x", "x2"][:inputs], ["y", "y2"][:outputs]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info(n, datatype, shape) for n in names_in],
                              [helper.make_tensor_value_info(n, datatype, out) for n in names_out],
                              [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("custom", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def matmul(**changes: Any) -> onnx.ModelProto:
    return make([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": WEIGHT}, **changes)


def ode() -> nn.Module:
    """Ten Euler steps of one convolution without BatchNorm, which the exporter would fold."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh())
    return nn.Sequential(OrderedDict(
        stem=nn.Conv2d(1, 4, 3), ode=ODEBlock(inner, STEPS), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(),
        head=nn.Linear(4, 3))).eval()


class Attention(nn.Module):
    """One transformer layer: LayerNorm, attention, GELU, shapes computed in the graph."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x).mean(1))   # type: ignore[no-any-return]


def shape_arithmetic() -> onnx.ModelProto:
    """Reshape to a shape that nodes compute: Shape, Gather, Range, ConstantOfShape, Size, Constant."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Shape", ["x"], ["tail"], start=1),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Constant", [], ["minus"], value_ints=[-1]),
        helper.make_node("Unsqueeze", ["batch", "axis"], ["batch1"]),
        helper.make_node("Concat", ["batch1", "minus"], ["flat"], axis=0),
        helper.make_node("Reshape", ["x", "flat"], ["xf"]),
        helper.make_node("Size", ["x"], ["size"]),
        helper.make_node("Range", ["zero", "size", "one"], ["positions"]),
        helper.make_node("Cast", ["positions"], ["table"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["xf", "table"], ["moved"]),
        helper.make_node("ConstantOfShape", ["tail"], ["ones"], value=helper.make_tensor("v", 1, [1], [1.0])),
        helper.make_node("ReduceSum", ["ones"], ["count"], keepdims=0),
        helper.make_node("Div", ["moved", "count"], ["y"]),
    ]
    return make(nodes, {"zero": np.array(0, INT), "one": np.array(1, INT), "axis": np.array([0], INT)},
                (1, 2, 3), (1, 6))


def function() -> onnx.ModelProto:
    """A graph that calls a function defined in the file, as torch's newer exporter writes."""
    body = helper.make_function("custom", "twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
                                [helper.make_opsetid("", 18)])
    made = make([helper.make_node("twice", ["x"], ["y"], domain="custom")], {}, out=(1, 4))
    made.functions.append(body)
    return made


def branch() -> onnx.ModelProto:
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "b", [],
                              [helper.make_tensor_value_info("b", TensorProto.FLOAT, (1, 4))])
    return make([helper.make_node("If", ["c"], ["y"], name="choose", then_branch=graph, else_branch=graph)],
                {"c": np.array(True)}, out=(1, 4))


def transposed_in_each_step() -> onnx.ModelProto:
    """A shared weight that every step transposes by a node of its own."""
    square = RANDOM.standard_normal((4, 4)).astype(F32) / 4
    nodes, last = [], "x"
    for k in range(STEPS):
        nodes += [helper.make_node("Transpose", ["w"], [f"t{k}"]),
                  helper.make_node("MatMul", [last, f"t{k}"], [f"m{k}"])]
        last = f"m{k}"
    return make([*nodes, helper.make_node("Identity", [last], ["y"])], {"w": square}, out=(1, 4))


def gelu(order: str) -> onnx.ModelProto:
    """GELU as older exporters spell it, in each order of the three factors; wrong in one of them."""
    scale = [helper.make_node("Div", ["x", "root"], ["s"]), helper.make_node("Erf", ["s"], ["e"]),
             helper.make_node("Add", ["one", "e"], ["a"])]
    ends = {
        "x, half": [("Mul", "x", "a", "p"), ("Mul", "p", "half", "y")],
        "half, x": [("Mul", "half", "a", "p"), ("Mul", "p", "x", "y")],
        "half of x": [("Mul", "x", "half", "p"), ("Mul", "p", "a", "y")],
        "by division": [("Mul", "x", "a", "p"), ("Div", "p", "two", "y")],
        "another": [("Mul", "x", "a", "p"), ("Mul", "p", "two", "y")],
    }
    nodes = [*scale, *(helper.make_node(op, [a, b], [c]) for op, a, b, c in ends[order])]
    return make(nodes, {"root": F32(2**0.5), "one": F32(1), "half": F32(0.5), "two": F32(2)}, out=(1, 4))


GELUS = {f"gelu, {order}": gelu(order) for order in ("x, half", "half, x", "half of x", "by division", "another")}
GOOD = {
    **GELUS,
    "matmul": matmul(), "open batch": matmul(shape=("n", 4), out=("n", 3)), "shape arithmetic": shape_arithmetic(),
    "function": function(), "transposed": transposed_in_each_step(),
    "old": make([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], {"w": WEIGHT, "b": WEIGHT[0]}, opset=9),
    "open size": make([helper.make_node("Relu", ["x"], ["y"])], {}, (1, 3, "h", "w"), (1, 3, "h", "w")),
}
quantise = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantise"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]
NAN = WEIGHT.copy()
NAN[1, 2] = np.nan
AS_GIVEN = {
    "branch": (branch(), "node choose: the operator If is not supported"),
    "quantised": (make(quantise, {"s": F32(0.1), "z": np.uint8(3)}, out=(1, 4)),
                  "is quantised already (node quantise, QuantizeLinear)"),
}
BAD = {
    "nan": (make([helper.make_node("MatMul", ["x", "layer.w"], ["y"])], {"layer.w": NAN}),
            "layer.w has 1 NaN among its 12 values"),
    "operator": (make([helper.make_node("NonZero", ["x"], ["nz"], name="find"),
                       helper.make_node("Cast", ["nz"], ["y"], to=1)], {}, out=(2, "n")),
                 "node find: the operator NonZero is not supported"),
    "custom": (make([helper.make_node("Fancy", ["x"], ["y"], domain="custom", name="mine")], {}, out=(1, 4)),
               "node mine: the operator custom.Fancy is not supported"),
    "two inputs": (make([helper.make_node("Add", ["x", "x2"], ["y"])], {}, out=(1, 4), inputs=2), "has 2 inputs"),
    "two outputs": (make([helper.make_node("Split", ["x"], ["y", "y2"], num_outputs=2, axis=1)], {}, out=(1, 2),
                         outputs=2), "has 1 inputs and 2 outputs"),
    "double": (make([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": WEIGHT.astype(np.float64)},
                    datatype=TensorProto.DOUBLE), "takes double inputs"),
    "batch": (matmul(shape=(8, 4), out=(8, 3)), "takes an input of shape (8, 4)"),
    "no shape": (GOOD["open size"], "--input-shape 3,?,?"),
    "varying shape": (make([helper.make_node("Cast", ["x"], ["s"], to=TensorProto.INT64),
                            helper.make_node("ConstantOfShape", ["s"], ["y"])], {}, out=("n",)),
                      "operand 0 (s) that depends on the network's input is not supported"),
    "huge": (matmul(shape=(1, 2**40)), "is larger than 1 GiB"),
    "future": (matmul(opset=999), ""),
    "fixed": (make([helper.make_node("ConstantOfShape", ["s"], ["y"])], {"s": np.array([1, 3], INT)}),
              "does not depend on its input"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> Outcomes:
    for name, made in {**GOOD, **{name: made for name, (made, _) in {**AS_GIVEN, **BAD}.items()}}.items():
        onnx.save(made, folder / f"{name}.onnx")
    cases: dict[str, Any] = {name: str(folder / f"{name}.onnx") for name in [*GOOD, *AS_GIVEN, *BAD]}
    cases["open size"] = (cases["open size"], {"input_shape": (3, 4, 5)})
    cases["other shape"] = (cases["no shape"], {"input_shape": (2, 4, 5)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # this exporter is the one that needs no further package
        for name, network, x in (("ode", ode(), torch.randn(1, 1, 8, 8)),
                                 ("attention", Attention().eval(), torch.randn(1, 5, 8))):
            torch.onnx.export(network, (x,), folder / f"{name}.onnx", dynamo=False, opset_version=17)
            cases[name] = str(folder / f"{name}.onnx")
    cases.update(external(folder))
    return opened(cases, folder / "out")


def external(folder: Path) -> dict[str, str]:
    """Models whose weights lie in files beside them, in a missing one, and in one of somebody else's."""
    cases = {}
    (folder / "secret").write_bytes(WEIGHT.tobytes())
    for name, location in (("beside", "beside.bin"), ("missing", "gone.bin"), ("outside", "../secret"),
                           ("absolute", str(folder / "secret"))):
        place = folder / name
        place.mkdir()
        onnx.save(matmul(), place / "net.onnx", save_as_external_data=True, location="beside.bin",
                  size_threshold=0)
        made = onnx.load(place / "net.onnx", load_external_data=False)
        made.graph.initializer[0].external_data[0].value = location
        (place / "net.onnx").write_bytes(made.SerializeToString())
        cases[name] = str(place / "net.onnx")
    return cases


def differs(path: Path, onnx_file: Path, shape: tuple[int, ...]) -> float:
    """Largest difference between the opened model and onnxruntime on an input of this test's own."""
    x = np.random.default_rng(7).standard_normal((1, *shape)).astype(F32)
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: x})[0]
    got = torch.export.load(path).module()(torch.from_numpy(x)).numpy()
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max())


@pytest.mark.parametrize("name", [*GOOD, "ode", "attention", "beside"])
def test_it_computes_what_onnxruntime_does(name: str, outcomes: Outcomes, folder: Path) -> None:
    found = model(outcomes[name])
    file = folder / ("beside/net.onnx" if name == "beside" else f"{name}.onnx")
    assert differs(found.path, file, found.input_shape) < 1e-5


def test_it_computes_what_torch_did(outcomes: Outcomes) -> None:
    for name, network in (("ode", ode()), ("attention", Attention().eval())):
        found = model(outcomes[name])
        x = torch.randn(1, *found.input_shape)
        torch.testing.assert_close(torch.export.load(found.path).module()(x), network(x), rtol=1e-5, atol=1e-5)


def test_a_weight_of_ten_steps_is_one_tensor(outcomes: Outcomes) -> None:
    found = model(outcomes["ode"])
    assert found.parameters == sum(p.numel() for p in ode().parameters())
    program = torch.export.load(found.path)
    calls = [n for n in program.graph.nodes if n.target == torch.ops.aten.conv2d.default]
    assert len(calls) == 1 + STEPS
    assert len({n.args[1] for n in calls}) == 2


def test_a_weight_that_each_step_transposes_is_one_tensor(outcomes: Outcomes) -> None:
    found = model(outcomes["transposed"])
    assert found.parameters == 16
    program = torch.export.load(found.path)
    linears = [n for n in program.graph.nodes if n.target == torch.ops.aten.linear.default]
    assert len(linears) == STEPS
    assert len({n.args[1] for n in linears}) == 1


def test_shapes_are_computed_while_opening(outcomes: Outcomes) -> None:
    program = torch.export.load(model(outcomes["shape arithmetic"]).path)
    assert [n.target._opname for n in program.graph.nodes if n.op == "call_function"] == ["reshape", "add", "div"]


@pytest.mark.parametrize("name", list(GELUS))
def test_gelu_is_one_operator(name: str, outcomes: Outcomes) -> None:
    program = torch.export.load(model(outcomes[name]).path)
    found = [n.target._opname for n in program.graph.nodes if n.op == "call_function"]
    assert found == (["div", "erf", "add", "mul", "mul"] if "another" in name else ["gelu"])


@pytest.mark.parametrize("name", list(AS_GIVEN))
def test_what_has_no_form_in_torch_stays_an_onnx_file(name: str, outcomes: Outcomes) -> None:
    kept = model(outcomes[name])
    assert (kept.format, kept.path) == ("onnx", kept.onnx)
    assert AS_GIVEN[name][1] in kept.not_torch


def test_the_given_file_is_kept_with_fixed_shapes(outcomes: Outcomes, folder: Path) -> None:
    """And computes what the user's does."""
    path = model(outcomes["open batch"]).onnx
    assert path is not None
    kept = onnx.load(path)
    assert [d.dim_value for d in kept.graph.input[0].type.tensor_type.shape.dim] == [1, 4]
    x = RANDOM.standard_normal((1, 4)).astype(F32)
    ours, theirs = (onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0]
                    for path in (path, folder / "open batch.onnx"))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("name", list(BAD))
def test_what_cannot_be_deployed(name: str, outcomes: Outcomes) -> None:
    assert BAD[name][1] in refusal(outcomes[name])


def test_the_files_that_a_model_is_read_from(outcomes: Outcomes, folder: Path) -> None:
    """The data beside a graph belong to it: a model is opened again when they change."""
    assert files(resolve(str(folder / "ode.onnx"))) == [folder / "ode.onnx"]
    there = folder / "beside"
    assert files(resolve(str(there / "net.onnx"))) == [there / "net.onnx", there / "beside.bin"]


@pytest.mark.parametrize(("name", "says"), [
    ("other shape", "takes inputs of shape (3,?,?), not (2, 4, 5)"),
    ("missing", "the file 'gone.bin', which holds w, is missing"),
    ("outside", "outside the model's folder: '../secret'"),
    ("absolute", "outside the model's folder"),
])
def test_shape_and_files(name: str, says: str, outcomes: Outcomes) -> None:
    assert says in refusal(outcomes[name])
