"""Quantised stages: where the quantisers stand, what they cost, and the layers that go back to float."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hwkit.backends._onnx import fallback, qdq
from hwkit.backends._onnx.forms import Piece, looped, unrolled
from hwkit.backends._onnx.operators import operators, stored_weights
from hwkit.backends._onnx.session import Chain, whole
from tests.backends.onnx import nets

RANDOM = np.random.RandomState(7)
SHAPE = (1, nets.SIDE, nets.SIDE)
IMAGES = RANDOM.standard_normal((24, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    """Its answers differ from image to image."""
    made = nets.ode_network(time=True)
    with torch.no_grad():
        made.head[2].bias -= made(torch.from_numpy(IMAGES)).mean(0)
    return made


@pytest.fixture(scope="module")
def floats(network: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> list[Piece]:
    return nets.pieces(network, SHAPE, tmp_path_factory.mktemp("pieces"))


def quantised(floats: list[Piece], placement: qdq.Placement = "gpu") -> list[Piece]:
    chain, made = Chain(floats), []
    seen: list[list[dict[str, np.ndarray]]] = [[] for _ in floats]
    for image in IMAGES:
        value = image[None]
        for stage, given in zip(chain.stages, seen, strict=True):
            value = stage(value, given)
    for piece, given in zip(floats, seen, strict=True):
        made.append(piece.with_model(qdq.quantized(piece.model, piece.name, given, placement)))
    return made


@pytest.fixture(scope="module")
def ints(floats: list[Piece]) -> list[Piece]:
    return quantised(floats)


def error(pieces: list[Piece], floats: list[Piece]) -> float:
    got, wanted = (np.concatenate([Chain(p)(x[None]) for x in IMAGES]) for p in (pieces, floats))
    return fallback.relative_error(got, wanted)


def test_quantisers_stand_before_products_and_nowhere_else(ints: list[Piece]) -> None:
    """Symmetric, no integer bias, and what is added or activated is the float value itself."""
    for piece in ints:
        graph = piece.model.graph
        constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        made_by = {n.output[0]: n for n in graph.node}
        for node in graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                assert not constants[node.input[2]].any()
            elif node.op_type in qdq.QUANTISED:
                assert [made_by[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
                assert all(constants[name].dtype == np.float32 for name in node.input[2:])
            else:
                read = [made_by[name].op_type for name in node.input if name in made_by]
                assert "DequantizeLinear" not in read, node.name


def test_the_state_of_an_ode_goes_round_f_unrounded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where f begins with a convolution, the state is rounded for it, and the sum still reads the state itself."""
    plain = quantised(nets.pieces(nets.ode_network(), SHAPE, tmp_path_factory.mktemp("plain")))
    step = next(p.model.graph for p in plain if p.name == "ode")
    (rounded,) = [n.output[0] for n in step.node if n.op_type == "QuantizeLinear" and n.input[0] == "x"]
    assert any(rounded in n.input for n in step.node)
    (add,) = [n for n in step.node if n.op_type == "Add"]
    assert "x" in add.input


def test_all_forms_are_the_same_integers(ints: list[Piece], floats: list[Piece]) -> None:
    for image in IMAGES[:6]:
        wanted = Chain(ints)(image[None])
        assert np.array_equal(whole(unrolled(ints))(image[None]), wanted)
        assert np.array_equal(whole(looped(ints))(image[None]), wanted)
    assert 1e-4 < error(ints, floats) < 0.1


def test_a_weight_is_quantised_once_for_all_steps(ints: list[Piece]) -> None:
    graph = unrolled(ints).graph
    reading_constants = [n for n in graph.node if n.op_type == "DequantizeLinear"
                         and n.input[0] in {t.name for t in graph.initializer}]
    assert len(reading_constants) == 4
    assert {t.data_type for t in graph.initializer if len(t.dims) == 4} == {onnx.TensorProto.INT8}
    assert stored_weights([unrolled(ints)]) == stored_weights([p.model for p in ints])


def test_weights_stored_as_floats_are_the_same_integers(ints: list[Piece], floats: list[Piece]) -> None:
    """TensorRT 8 wants to quantise them itself."""
    with_floats = quantised(floats, "gpu, float weights")
    graph = unrolled(with_floats).graph
    assert {t.data_type for t in graph.initializer if len(t.dims) == 4} == {onnx.TensorProto.FLOAT}
    for image in IMAGES[:6]:
        assert np.allclose(Chain(with_floats)(image[None]), Chain(ints)(image[None]), atol=1e-6)


def test_for_a_cpu_every_operator_is_an_integer_one(floats: list[Piece]) -> None:
    """And the forms still compute the same."""
    ints = quantised(floats, "cpu")
    for image in IMAGES[:6]:
        wanted = Chain(ints)(image[None])
        assert np.array_equal(whole(unrolled(ints))(image[None]), wanted)
        assert np.array_equal(whole(looped(ints))(image[None]), wanted)
    assert 1e-4 < error(ints, floats) < 0.2
    (add,) = [n for n in ints[1].model.graph.node if n.op_type == "Add" and n.name.endswith("Add8")]
    made_by = {n.output[0]: n.op_type for n in ints[1].model.graph.node}
    assert [made_by[name] for name in add.input] == ["DequantizeLinear"] * 2
    layers = [name for p in ints for name in qdq.quantised_nodes(p.model)]
    back = [q.with_model(qdq.restored(q.model, f.model, q.name, layers))
            for q, f in zip(ints, floats, strict=True)]
    assert error(back, floats) < error(ints, floats)


def test_each_weight_is_the_nearest_step_of_its_channel(ints: list[Piece], floats: list[Piece]) -> None:
    (weight,) = (onnx.numpy_helper.to_array(t) for t in floats[0].model.graph.initializer if len(t.dims) == 4)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in ints[0].model.graph.initializer}
    node = next(n for n in ints[0].model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants)
    codes, scale = constants[node.input[0]], constants[node.input[1]].reshape(-1, 1, 1, 1)
    assert np.allclose(scale.ravel(), np.abs(weight).max(axis=(1, 2, 3)) / 127, rtol=1e-5)
    assert np.array_equal(codes, np.clip(np.round(weight / scale), -127, 127))


def test_restored_layers_are_the_floats(ints: list[Piece], floats: list[Piece]) -> None:
    layers = [name for p in ints for name in qdq.quantised_nodes(p.model)]
    assert layers == [f"{o.stage}/{o.name}{o.index}" for o in operators(ints, "int8") if o.datatype == "INT8"]
    back = [q.with_model(qdq.restored(q.model, f.model, q.name, layers))
            for q, f in zip(ints, floats, strict=True)]
    for image in IMAGES[:4]:
        assert np.array_equal(Chain(back)(image[None]), Chain(floats)(image[None]))
    assert not any("Quantize" in n.op_type for p in back for n in p.model.graph.node)


def damaged(ints: list[Piece], layer: str) -> list[Piece]:
    """With one layer's activations quantised a hundred times too coarsely."""
    made = []
    for piece in ints:
        model = onnx.ModelProto()
        model.CopyFrom(piece.model)
        for node in model.graph.node:
            if node.name == layer:
                real = next(n for n in model.graph.node if n.output[0] == node.input[0])
                coarse = f"{real.input[1]}.coarse"
                scale = next(t for t in model.graph.initializer if t.name == real.input[1])
                model.graph.initializer.append(onnx.numpy_helper.from_array(
                    100 * onnx.numpy_helper.to_array(scale), coarse))
                rounding = next(n for n in model.graph.node if n.output[0] == real.input[0])
                rounding.input[1] = real.input[1] = coarse
        made.append(piece.with_model(model))
    return made


def test_the_layer_that_costs_most_goes_back_first(ints: list[Piece], floats: list[Piece]) -> None:
    wanted = np.concatenate([Chain(floats)(x[None]) for x in IMAGES])
    judge = fallback.Judge(IMAGES, wanted, wanted.argmax(axis=1), 0.05)
    layers = [name for p in ints for name in qdq.quantised_nodes(p.model)]
    bad = damaged(ints, layers[1])
    assert judge.drop(bad) > 0.05
    chosen = fallback.chosen(bad, floats, judge, lambda text: None)
    assert judge.drop(chosen.pieces) <= 0.05
    assert layers[1] in chosen.finding.text
    assert chosen.finding.text.startswith("1 of 4")
    assert set(layers) - {n for p in chosen.pieces for n in qdq.quantised_nodes(p.model)} == {layers[1]}


def test_nothing_goes_back_when_nothing_is_lost(ints: list[Piece], floats: list[Piece]) -> None:
    wanted = np.concatenate([Chain(floats)(x[None]) for x in IMAGES])
    judge = fallback.Judge(IMAGES, wanted, None, 1.0)
    chosen = fallback.chosen(ints, floats, judge, lambda text: None)
    assert chosen.pieces == ints
    assert chosen.finding.ok
