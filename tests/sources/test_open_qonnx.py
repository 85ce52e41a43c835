"""A QONNX file is taken as it is, once it has been read as integers; what hardware cannot take is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hwkit.errors import BadModel
from hwkit.integer.graph import IntegerGraph
from hwkit.sources import files, resolve
from tests.integer.graphs import F32, Graph
from tests.sources.opening import Outcomes, model, opened, refusal

RANDOM = np.random.default_rng(0)
WEIGHT, MATRIX = RANDOM.integers(-7, 8, (4, 1, 3, 3)), RANDOM.integers(-7, 8, (3, 4))
IMAGE = (1, 1, 6, 6)


def network(shape: tuple[object, ...] = IMAGE, domain: str = "qonnx.custom_op.general") -> Graph:
    """Convolution with bias, ReLU, mean over the image, linear layer; constants that have to be folded."""
    g = Graph(shape)
    x = g.quant("x", 2.0**-4, name="input", domain=domain)
    x = g.node("Conv", x, g.weight(WEIGHT, 0.125, 4, domain=domain), F32([0.1, 0.2, 0.3, -0.4]), name="conv")
    x = g.quant(g.node("Relu", x, name="relu"), 0.21, 4, signed=0, name="act", domain=domain)
    x = g.node("ReduceMean", x, np.array([-2, -1]), name="mean")
    flat = g.node("Concat", np.array([1]), np.array([-1]), axis=0)
    x = g.node("Reshape", x, flat)
    weight = g.node("Transpose", g.weight(MATRIX, 0.5, 4, domain=domain), perm=[1, 0])
    g.node("MatMul", x, weight, name="fc")
    return g


def shared() -> Graph:
    """One weight in two convolutions, as the steps of an ODE block have it."""
    g = Graph(IMAGE)
    weight = g.constant(F32(WEIGHT[:1]))
    x = g.quant("x", 0.25)
    for _ in range(2):
        x = g.quant(g.node("Conv", x, g.quant(weight, 1.0, 4), pads=[1, 1, 1, 1]), 0.25)
    return g


def signed_after_relu() -> Graph:
    g = Graph()
    g.quant(g.node("Relu", g.quant("x"), name="relu"), name="behind")
    return g


def signed_after_unsigned() -> Graph:
    g = Graph(IMAGE)
    x = g.quant(g.node("Relu", g.quant("x")), signed=0, name="first")
    x = g.node("MaxPool", x, kernel_shape=[2, 2])
    g.quant(x, name="second")
    return g


def float_weight() -> Graph:
    g = Graph()
    g.node("MatMul", g.quant("x"), F32(RANDOM.standard_normal((4, 3))), name="fc")
    return g


def tanh() -> Graph:
    g = Graph()
    g.quant(g.node("Tanh", g.quant("x"), name="squash"))
    return g


def threshold() -> Graph:
    """What FINN makes of a quantiser: it is no longer QONNX."""
    g = Graph()
    g.node("MultiThreshold", g.quant("x"), F32([[0.0, 1.0]]), name="steps", domain="qonnx.custom_op.general")
    return g


def nan_scale() -> Graph:
    g = Graph()
    g.quant("x", np.nan, name="input")
    return g


def nan_weight() -> Graph:
    g = Graph()
    g.node("MatMul", g.quant("x"), g.quant(F32([[1], [np.nan], [2], [3]]), name="weights"))
    return g


def two_outputs() -> onnx.ModelProto:
    made = network().model()
    made.graph.output.append(helper.make_tensor_value_info("t0", TensorProto.FLOAT, None))
    return made


def two_inputs() -> onnx.ModelProto:
    made = network().model()
    made.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, (1, 2)))
    return made


def data_dependent() -> Graph:
    """Its shape depends on values."""
    g = Graph()
    g.node("NonZero", g.quant("x"), name="which")
    return g


BREVITAS = """
import brevitas.nn as qnn, torch
from brevitas.quant import Int8ActPerTensorFixedPoint, Int8WeightPerTensorFixedPoint, Uint8ActPerTensorFixedPoint
from torch import nn

class Conv(qnn.QuantConv2d):
    "A class of the user's own."

def build(signed_last=False):
    torch.manual_seed(0)
    net = nn.Sequential(
        qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint),
        Conv(1, 4, 3, bias=False, weight_quant=Int8WeightPerTensorFixedPoint, weight_bit_width=4),
        qnn.QuantReLU(act_quant=Uint8ActPerTensorFixedPoint, bit_width=4),
        *([qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint)] if signed_last else []),
        nn.Flatten(), qnn.QuantLinear(64, 3, bias=False, weight_quant=Int8WeightPerTensorFixedPoint))
    for _ in range(5):
        net(torch.randn(8, 1, 6, 6))
    net.input_shape = (1, 6, 6)
    return net

def refused():
    return build(True)
"""
MADE: dict[str, Callable[[], Graph | onnx.ModelProto]] = {
    "good": network, "brevitas": lambda: network(domain="onnx.brevitas"),
    "finn": lambda: network(domain="finn.custom_op.general"), "shared": shared,
    "open size": lambda: network((1, 1, "height", 6)), "batch": lambda: network((2, 1, 6, 6)),
    "open batch": lambda: network(("n", 1, 6, 6)),
    "after relu": signed_after_relu, "after unsigned": signed_after_unsigned, "float weight": float_weight,
    "operator": tanh, "nan scale": nan_scale, "nan weight": nan_weight, "two outputs": two_outputs,
    "threshold": threshold, "two inputs": two_inputs, "data dependent": data_dependent,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("qonnx")


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> Outcomes:
    for name, make in MADE.items():
        made = make()
        onnx.save(made.model() if isinstance(made, Graph) else made, folder / f"{name}.onnx")
    for name in ("beside", "missing"):
        onnx.save(network().model(), folder / f"{name}.onnx", save_as_external_data=True, location=f"{name}.bin",
                  size_threshold=0)
    (folder / "missing.bin").unlink()
    (folder / "truncated.onnx").write_bytes((folder / "good.onnx").read_bytes()[:-300])
    cases: dict[str, object] = {name: str(folder / f"{name}.onnx")
                                for name in (*MADE, "beside", "missing", "truncated")}
    cases["shape"] = (str(folder / "good.onnx"), {"input_shape": (1, 7, 7)})
    (folder / "net.py").write_text(BREVITAS)
    cases["factory"], cases["bad factory"] = f"{folder}/net.py:build", f"{folder}/net.py:refused"
    return opened(cases, folder / "out")  # type: ignore[arg-type]


def expected(x: np.ndarray) -> np.ndarray:
    """The network in numpy, float64."""
    codes = np.clip(np.rint(x * 16), -128, 127)
    out = np.zeros((len(x), 4, 4, 4))
    for k in range(3):
        for j in range(3):
            out += codes[:, :, k:k + 4, j:j + 4] * WEIGHT[None, :, 0, k, j, None, None]
    out = out / 16 / 8 + F32([0.1, 0.2, 0.3, -0.4])[:, None, None]
    act = np.clip(np.rint(np.maximum(out, 0) / F32(0.21)), 0, 15) * F32(0.21)
    return act.mean((2, 3)) @ (MATRIX.T / 2)


@pytest.mark.parametrize("name", ["good", "brevitas", "finn", "beside"])
def test_it_is_taken_as_it_is(name: str, outcomes: Outcomes) -> None:
    found = model(outcomes[name])
    assert (found.name, found.format, found.input_shape, found.stages) == (name, "qonnx", (1, 6, 6), ())
    assert (found.parameters, found.parameter_bytes) == (36 + 4 + 12, 4 * 52)
    assert found.history == (f"read from {name}.onnx (QONNX)",)


def test_what_is_written_is_clean_and_computes_the_same(outcomes: Outcomes) -> None:
    found = model(outcomes["good"])
    held = onnx.load(found.path)
    assert {node.op_type for node in held.graph.node} == {"Quant", "Conv", "Relu", "GlobalAveragePool", "Reshape",
                                                          "MatMul"}
    assert {"input", "conv", "relu", "act", "fc"} <= {node.name for node in held.graph.node}
    x = RANDOM.standard_normal((20, 1, 6, 6)).astype(F32)
    np.testing.assert_allclose(IntegerGraph.from_qonnx(found.path).run(x).values(), expected(x), rtol=0, atol=1e-9)


def test_a_shared_weight_is_counted_once(outcomes: Outcomes) -> None:
    assert model(outcomes["shared"]).parameters == 9


def test_a_module_of_brevitas_is_exported_as_its_author_quantised_it(outcomes: Outcomes) -> None:
    found = model(outcomes["factory"])
    assert (found.name, found.format, found.input_shape) == ("net-build", "qonnx", (1, 6, 6))
    assert found.parameters == 36 + 192
    assert found.history == ("built by net.py:build", "quantised with Brevitas, exported to QONNX")
    held = onnx.load(found.path)
    assert sum(node.op_type == "Quant" for node in held.graph.node) == 4
    graph = IntegerGraph.from_qonnx(found.path)
    x = RANDOM.standard_normal((50, 1, 6, 6)).astype(F32)
    assert len(np.unique(graph.run(x).codes)) > 20


def test_a_module_of_brevitas_that_cannot_be_deployed(outcomes: Outcomes) -> None:
    line = refusal(outcomes["bad factory"])
    assert "net.py:refused: the signed quantiser" in line
    assert "reads what the unsigned quantiser" in line


@pytest.mark.parametrize(("name", "says"), [
    ("open size", "takes inputs of varying shape (1, 1, height, 6)"),
    ("open batch", "takes inputs of varying shape (n, 1, 6, 6)"),
    ("batch", "takes an input of shape (2, 1, 6, 6)"),
    ("after relu", "the signed quantiser behind reads the ReLU relu"),
    ("after unsigned", "the signed quantiser second reads what the unsigned quantiser first gave"),
    ("float weight", "node fc (MatMul) has a float weight"),
    ("operator", "node squash (Tanh) is an operator with no integer form"),
    ("threshold", "node steps (MultiThreshold) of the domain 'qonnx.custom_op.general' has no integer form"),
    ("nan scale", "node input (Quant) has 1 scales among 1 that are not positive numbers"),
    ("nan weight", "node weights (Quant) has NaN or infinity among its values"),
    ("two outputs", "has 1 inputs and 2 outputs (x -> "),
    ("two inputs", "has 2 inputs and 1 outputs (x, more -> "),
    ("data dependent", "node which (NonZero) gives a shape that is not constant"),
    ("missing", "the file 'missing.bin', which holds"),
    ("truncated", "cannot be read"),
    ("shape", "takes inputs of shape (1, 6, 6), not (1, 7, 7)"),
])
def test_what_cannot_be_deployed(name: str, says: str, outcomes: Outcomes) -> None:
    line = refusal(outcomes[name])
    assert says in line
    assert (name if name != "shape" else "good") in line
    assert " -> " in line


def test_quantisers_make_an_onnx_a_qonnx(tmp_path: Path, folder: Path, outcomes: Outcomes) -> None:
    assert resolve(str(folder / "good.onnx")).kind == "qonnx"
    plain = Graph()
    plain.node("Relu", "x", name="Quant")
    onnx.save(plain.model(), tmp_path / "plain.onnx")   # the domain is imported, and no node is of it
    assert resolve(str(tmp_path / "plain.onnx")).kind == "onnx"
    (tmp_path / "text.onnx").write_text("Quant in qonnx.custom_op.general")
    assert resolve(str(tmp_path / "text.onnx")).kind == "onnx"


def test_files_that_opening_reads(folder: Path, outcomes: Outcomes) -> None:
    path = folder / "beside.onnx"
    assert files(resolve(str(path))) == [path, folder / "beside.bin"]


def test_data_outside_the_folder_are_not_read(folder: Path, tmp_path: Path) -> None:
    from hwkit.sources._external import check_external
    tensor = TensorProto(name="w", data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    with pytest.raises(BadModel, match="outside the model's folder"):
        check_external(tensor, tmp_path, "net.onnx")
