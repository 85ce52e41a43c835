"""Exported stages and the forms made of them against torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hwkit.backends._onnx.export import content
from hwkit.backends._onnx.forms import Piece, looped, unrolled
from hwkit.backends._onnx.half import halved
from hwkit.backends._onnx.operators import constant_bytes, operators, stored_weights
from hwkit.backends._onnx.session import Chain, optimised_bytes, whole
from hwkit.errors import BadModel
from tests.backends.onnx import nets

RANDOM = np.random.RandomState(5)
SHAPE = (1, nets.SIDE, nets.SIDE)
X = RANDOM.standard_normal((4, 1, *SHAPE)).astype(np.float32)


def apart(network: nn.Module, chain: Chain) -> float:
    """Largest difference from torch over the largest output."""
    with torch.no_grad():
        wanted = [network(torch.from_numpy(x)).numpy() for x in X]
    return max(float(np.abs(chain(x) - w).max() / np.abs(w).max()) for x, w in zip(X, wanted, strict=True))


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "timed"])
def network(request: pytest.FixtureRequest) -> nn.Sequential:
    return nets.ode_network(time=request.param)


@pytest.fixture(scope="module")
def pieces(network: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> list[Piece]:
    return nets.pieces(network, SHAPE, tmp_path_factory.mktemp("pieces"))


def test_all_forms_compute_what_torch_does(network: nn.Sequential, pieces: list[Piece]) -> None:
    assert apart(network, Chain(pieces)) < 1e-5
    assert apart(network, whole(unrolled(pieces))) < 1e-5
    assert apart(network, whole(looped(pieces))) < 1e-5


def test_float16_is_float16_inside_and_near(network: nn.Sequential, pieces: list[Piece]) -> None:
    half = halved(unrolled(pieces))
    assert half.ir_version == unrolled(pieces).ir_version == 8
    assert {t.data_type for t in half.graph.initializer if len(t.dims) == 4} == {onnx.TensorProto.FLOAT16}
    assert half.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert 1e-6 < apart(network, whole(half)) < 1e-2
    assert apart(network, Chain([p.with_model(halved(p.model)) for p in pieces])) < 1e-2


def test_weights_stand_once_whatever_the_steps(tmp_path: Path) -> None:
    few, many = (nets.pieces(nets.ode_network(steps=n), SHAPE, tmp_path) for n in (2, 12))
    for form in (unrolled, looped):
        assert stored_weights([form(few)]) == stored_weights([form(many)]) == (4, 9 * 4 + 9 * 4 + 4 * 4 + 4 * 5)
    assert constant_bytes(unrolled(few)) == constant_bytes(unrolled(many))
    assert optimised_bytes(unrolled(many)) == pytest.approx(constant_bytes(unrolled(many)), rel=0.1)


def test_a_step_costs_few_bytes(pieces: list[Piece]) -> None:
    graph = unrolled(pieces)
    grown = len(content(graph, "net")) - sum(len(content(p.model, p.name)) for p in pieces)
    assert grown < 600 * (nets.STEPS - 1)


def test_no_batch_norm_is_left_and_nodes_are_numbered_through(pieces: list[Piece]) -> None:
    names = [node.name for piece in pieces for node in piece.model.graph.node]
    assert not [n for n in names if "Normalization" in n]
    numbers = [int("".join(c for c in name.split("/")[1] if c.isdigit())) for name in names]
    assert numbers == list(range(len(names)))
    listed = operators(pieces, "f32")
    assert [f"{o.stage}/{o.name}{o.index}" for o in listed] == names
    steps = [n.name for n in unrolled(pieces).graph.node if n.name.startswith("ode@1/")]
    assert steps == [n.replace("ode/", "ode@1/") for n in names if n.startswith("ode/")]


def test_operators_by_hand(tmp_path: Path) -> None:
    listed = operators(nets.pieces(nets.ode_network(), SHAPE, tmp_path), "f32")
    by = {(o.stage, o.name, o.macs): o for o in listed}
    pixels = nets.SIDE**2
    assert ("stem", "Conv", pixels * 4 * 9) in by
    assert by[("ode", "Conv", pixels * 4 * 9)].weight_bytes == 4 * 4 * 9            # depthwise, no bias
    assert by[("ode", "Conv", pixels * 4 * 4)].weight_bytes == 4 * (4 * 4 + 4)      # pointwise, folded bias
    assert by[("head", "Gemm", 4 * 5)].repeat == 1
    assert {o.repeat for o in listed if o.stage == "ode"} == {nets.STEPS}
    halves = operators(nets.pieces(nets.ode_network(), SHAPE, tmp_path), "f16")
    assert sum(o.weight_bytes for o in halves) * 2 == sum(o.weight_bytes for o in listed)
    assert {o.datatype for o in halves} == {"FLOAT16"}


class Padded(nn.Module):
    """Asymmetric padding as EfficientNet has it, and constants that an exporter computes at run time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(nn.functional.pad(x, (0, 1, 0, 1)))
        return (y.flatten(2).transpose(1, 2) + torch.arange(9.0).reshape(9, 1)).flatten(1)


def test_padding_goes_into_the_convolution_and_constants_are_computed(tmp_path: Path) -> None:
    network = Padded().eval()
    (piece,) = nets.pieces(network, SHAPE, tmp_path)
    kinds = [node.op_type for node in piece.model.graph.node]
    assert kinds == ["Conv", "Reshape", "Transpose", "Add", "Flatten"]
    pads = next(list(a.ints) for a in piece.model.graph.node[0].attribute if a.name == "pads")
    assert pads == [0, 0, 1, 1]
    assert apart(network, Chain([piece])) < 1e-5


class Attention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, x * 2, x + 1)


def test_attention_reaches_down_to_the_oldest_opset(tmp_path: Path) -> None:
    (piece,) = nets.pieces(Attention().eval(), SHAPE, tmp_path, opset=13)
    assert [o.version for o in piece.model.opset_import] == [13]
    assert apart(Attention(), Chain([piece])) < 1e-5


class Fresh(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.i1(x)


def test_an_operator_without_a_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"cannot be written as ONNX opset 17.*i1"):
        nets.pieces(Fresh().eval(), SHAPE, tmp_path)
