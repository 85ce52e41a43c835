"""Graphs in integers against qonnx's executor, which computes in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit.errors import BadModel
from hwkit.integer.agreement import compared
from hwkit.integer.graph import IntegerGraph
from tests.integer.graphs import F32, Graph

RANDOM = np.random.default_rng(0)
IMAGE = (1, 2, 6, 6)
FINE, COARSE = 2.0**-5, 2.0**-3


def whole(*shape: int, low: int = -7, high: int = 8) -> np.ndarray:
    return RANDOM.integers(low, high, shape).astype(F32)


def start(shape: tuple[int, ...] = IMAGE, scale: float = FINE) -> tuple[Graph, str]:
    g = Graph(shape)
    return g, g.quant("x", scale)


def conv(scale: float, weight_scale: float, **attributes: object) -> Graph:
    g, x = start(scale=scale)
    group = int(str(attributes.get("group", 1)))
    bias = whole(4) * F32(scale * weight_scale)
    x = g.node("Conv", x, g.weight(whole(4, 2 // group, 3, 3), weight_scale, 4), bias, kernel_shape=[3, 3],
               **attributes)
    x = g.node("Relu", x)
    g.quant(x, COARSE if scale == FINE else 0.377, 4, signed=0)
    return g


def residual(a: float, b: float) -> Graph:
    g, x = start()
    y = g.quant(g.node("Conv", x, g.weight(whole(2, 2, 1, 1), 0.25, 4)), a)
    z = g.quant(g.node("Conv", x, g.weight(whole(2, 2, 1, 1), 0.25, 4)), b)
    g.quant(g.node("Relu", g.node("Add", y, z)), COARSE, 4, signed=0)
    return g


def pooled(op: str, **attributes: object) -> Graph:
    g, x = start()
    x = g.node("Conv", x, g.weight(whole(2, 2, 1, 1), 0.25, 4), F32([0.25, -0.5]))
    g.quant(g.node(op, x, **attributes), COARSE, 6)
    return g


def batch_norm() -> Graph:
    g, x = start()
    x = g.node("Conv", x, g.weight(whole(2, 2, 3, 3), 0.25, 4), pads=[1, 1, 1, 1])
    x = g.node("BatchNormalization", x, F32([1.3, -0.7]), F32([0.1, 0.2]), F32([0.3, -0.4]), F32([1.5, 0.6]))
    g.quant(g.node("MaxPool", g.node("Relu", x), kernel_shape=[2, 2], strides=[2, 2]), 0.31, 4, signed=0)
    return g


def channels() -> Graph:
    """A scale and a weight scale for every channel, flattened; then a matrix with a scale for every output."""
    g = Graph(IMAGE)
    x = g.quant("x", F32([0.25, 0.5]).reshape(1, 2, 1, 1), 6)
    weight_scale = F32([0.5, 0.25]).reshape(2, 1, 1, 1)
    x = g.node("Conv", x, g.weight(whole(2, 1, 3, 3), weight_scale, 4, narrow=1), group=2)
    x = g.node("Reshape", g.quant(x, 0.5, 6), np.array([0, -1]))
    g.quant(g.node("MatMul", x, g.weight(whole(32, 3), 0.125, 4)), 0.5)
    return g


def dense(scale: float) -> Graph:
    g, x = start((1, 8), scale)
    x = g.node("Gemm", x, g.weight(whole(5, 8), scale, 4), F32([0.5, 1, -1, 0, 2]), transB=1)
    x = g.quant(g.node("Relu", x), scale, 4, signed=0)
    g.node("Gemm", x, g.weight(whole(3, 5), 0.5, 2), F32([0.25, -0.125, 0.3]), transB=1, alpha=0.5, beta=2.0)
    return g


def constants() -> Graph:
    g, x = start()
    x = g.node("Mul", x, F32([0.5, -2]).reshape(2, 1, 1))
    x = g.node("Sub", F32(0.75), x)
    x = g.node("Div", x, F32(4))
    x = g.node("Clip", x, F32(-0.5), F32(0.625))
    g.quant(x, FINE, 5)
    return g


def joined() -> Graph:
    g, x = start()
    a = g.quant(g.node("Mul", x, F32(0.5)), 0.25, 4)
    x = g.node("Concat", a, g.quant(x, 0.125, 6), axis=1)
    x = g.node("Transpose", x, perm=[0, 2, 3, 1])
    x = g.node("ReduceSum", x, np.array([1, 2]), keepdims=0)
    g.node("Add", x, F32([1, 2, 3, 4]))
    return g


def zero_point() -> Graph:
    g = Graph(IMAGE)
    x = g.quant("x", FINE, 8, zero=20, signed=0)
    x = g.node("Conv", x, g.weight(whole(2, 2, 3, 3), 0.25, 4), pads=[1, 1, 1, 1])
    g.quant(g.node("Relu", x), COARSE, 4, zero=-3, signed=1)
    return g


def bipolar() -> Graph:
    g = Graph((1, 8))
    domain = "qonnx.custom_op.general"
    x = g.node("BipolarQuant", "x", F32(1), domain=domain)
    w = g.node("BipolarQuant", RANDOM.standard_normal((8, 4)).astype(F32), F32(0.25), domain=domain)
    x = g.node("Add", g.node("MatMul", x, w), F32([0.1, -0.2, 0.3, -0.4]))
    g.node("MatMul", g.node("BipolarQuant", x, F32(1), domain=domain), g.weight(whole(4, 3), 0.5, 4))
    return g


def truncating(mode: str = "FLOOR") -> Graph:
    """The way Brevitas pools: a mean, times the number of values, then a Trunc."""
    g, x = start()
    x = g.node("Mul", g.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), F32(4))
    g.node("Trunc", x, F32(FINE), F32(0), F32(10), F32(FINE * 4), F32(8), domain="qonnx.custom_op.general",
           rounding_mode=mode, signed=1, narrow=0)
    return g


EXACT: dict[str, Callable[[], Graph]] = {
    "conv": lambda: conv(FINE, 0.25, pads=[1, 1, 1, 1]),
    "strided": lambda: conv(FINE, 0.25, pads=[1, 0, 1, 2], strides=[2, 2]),
    "dilated": lambda: conv(FINE, 0.25, dilations=[2, 1]),
    "depthwise": lambda: conv(FINE, 0.25, group=2),
    "residual": lambda: residual(0.125, 0.125),
    "residual, two scales": lambda: residual(0.125, 0.5),
    "max pool": lambda: pooled("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "average pool": lambda: pooled("AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
    "average pool, padded": lambda: pooled("AveragePool", kernel_shape=[2, 2], pads=[1, 1, 1, 1],
                                           count_include_pad=1),
    "global max": lambda: pooled("GlobalMaxPool"),
    "channels": channels, "dense": lambda: dense(0.25), "constants": constants, "joined": joined,
    "zero point": zero_point, "bipolar": bipolar, "trunc": truncating,
    "trunc, half even": lambda: truncating("ROUND"),
}
FLOAT: dict[str, Callable[[], Graph]] = {
    "conv": lambda: conv(0.0311, 0.173, pads=[1, 1, 1, 1]),
    "residual, two scales": lambda: residual(0.1234, 0.0777),
    "global average": lambda: pooled("GlobalAveragePool"),
    "batch norm": batch_norm, "dense": lambda: dense(0.217),
}


def images(graph: IntegerGraph, n: int = 40) -> np.ndarray:
    return RANDOM.standard_normal((n, *graph.input_shape)).astype(F32)


@pytest.mark.parametrize("name", EXACT)
def test_powers_of_two_agree_exactly(name: str, tmp_path: Path) -> None:
    path = EXACT[name]().saved(tmp_path / "g.onnx")
    x = images(IntegerGraph.from_qonnx(path))
    found = compared(path, x)
    assert found.differing == {}
    assert (found.same, found.worst) == (len(x), 0)


@pytest.mark.parametrize("name", FLOAT)
def test_float_scales_agree_but_for_what_is_counted(name: str, tmp_path: Path) -> None:
    path = FLOAT[name]().saved(tmp_path / "g.onnx")
    found = compared(path, images(IntegerGraph.from_qonnx(path)))
    assert found.unexplained == {}
    assert set(found.differing) <= {*found.ties, *found.near}
    assert found.worst < 1e-5


@pytest.mark.parametrize("codes", [1, 2])
def test_a_wrong_rounding_would_be_seen(codes: int, tmp_path: Path) -> None:
    """The comparison compares: an executor that is off in each code is not the same network."""
    g, x = start()
    g.quant(x, COARSE, 6, mode="FLOOR", name="last")
    path = g.saved(tmp_path / "g.onnx")
    graph = IntegerGraph.from_qonnx(path)
    x = images(graph)
    from hwkit.integer import agreement
    theirs = agreement.executor(path)

    def other(path: Path) -> Callable[[np.ndarray], agreement.Executed]:
        def run(image: np.ndarray) -> agreement.Executed:
            tensors = theirs(image)
            return {**tensors, graph.output: tensors[graph.output] + F32(codes * COARSE)}
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "executor", other)
        found = compared(path, x)
    assert found.differing == found.unexplained == {"last": x.size}
    assert found.same == 0


def test_ties_are_counted_by_name(tmp_path: Path) -> None:
    g = Graph((1, 4))
    x = g.quant("x", 1.0, name="input")
    g.quant(x, 2.0, name="halved")
    graph = IntegerGraph.from_qonnx(g.saved(tmp_path / "g.onnx"))
    out = graph.run(F32([[1, 2, 3, 5], [0.5, 4, -1, 200]]))
    assert out.codes.tolist() == [[0, 1, 2, 2], [0, 2, 0, 64]]
    assert graph.ties == {"input": 1, "halved": 5}   # 0.5; 1, 3, 5, -1 and 127
    assert graph.near == {}
    graph.run(F32([[2, 4, 6, 8]]))
    assert graph.ties == {}


def test_ties_of_weights_are_counted_once(tmp_path: Path) -> None:
    g = Graph((1, 4))
    x = g.quant("x")
    g.node("MatMul", x, g.quant(F32([[0.5], [1.5], [0.75], [7.5]]), 1.0, 4, name="weights"))
    graph = IntegerGraph.from_qonnx(g.saved(tmp_path / "g.onnx"))
    assert graph.run(F32([[1, 1, 1, 1]] * 50)).codes[0, 0] == 0 + 2 + 1 + 7
    assert graph.ties == graph.weight_ties == {"weights": 2}   # 7.5 saturates


def test_batches_give_what_single_images_give(tmp_path: Path) -> None:
    graph = IntegerGraph.from_qonnx(batch_norm().saved(tmp_path / "g.onnx"))
    x = images(graph, 70)
    whole_run = graph.run(x)
    near = dict(graph.near)
    singles = [graph.run(one[None]).codes for one in x]
    np.testing.assert_array_equal(whole_run.codes, np.concatenate(singles))
    assert sum(near.values()) > 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2**24), st.integers(1, 2**24), st.integers(-2**20, 2**20))
def test_sums_of_two_scales_are_exact(a: int, b: int, offset: int) -> None:
    """Scales of 24 significant bits: no float could hold the sum, the integers do."""
    from fractions import Fraction

    from hwkit.integer.scaled import plain, rationals, shifted_by, total

    x, y = np.array([[3, -7, 100]]), np.array([[5, 11, -128]])
    summed = total(plain(x, rationals([[a]]) / 2**20), shifted_by(plain(y, rationals([[b]]) / 2**13),
                                                                 rationals([[offset]])))
    exact = [Fraction(a, 2**20) * p + Fraction(b, 2**13) * q + offset
             for p, q in zip(x[0].tolist(), y[0].tolist(), strict=True)]
    assert (summed.codes * summed.scale + summed.offset)[0].tolist() == exact


def test_a_product_too_wide_for_float64_is_exact() -> None:
    from hwkit.integer.scaled import matrix_product

    a, b = np.array([[2**40 + 1, 1]]), np.array([[2**15 + 1], [3]])
    assert matrix_product(a, b, "m")[0, 0] == (2**40 + 1) * (2**15 + 1) + 3
    with pytest.raises(BadModel, match="more than 62 bits"):
        matrix_product(a, b * 2**10, "m")


def float_weight() -> Graph:
    g, x = start((1, 8))
    g.node("MatMul", x, whole(8, 3), name="fc")
    return g


def float_activation() -> Graph:
    g, x = start()
    x = g.node("Conv", x, g.weight(whole(2, 2, 3, 3), 0.25, 4), F32([0.3, 0.1]), name="first")
    g.node("Conv", g.node("Relu", x), g.weight(whole(2, 2, 3, 3), 0.25, 4), name="second")
    return g


def one(op: str, *more: object, **attributes: object) -> Callable[[], Graph]:
    def made() -> Graph:
        g, x = start()
        g.node(op, x, *more, name="it", **attributes)
        return g
    return made


def quantiser(scale: object = 0.5, **more: Any) -> Callable[[], Graph]:
    def made() -> Graph:
        g, x = start()
        g.quant(x, scale, name="it", **more)
        return g
    return made


def unquantised_input() -> Graph:
    g = Graph(IMAGE)
    g.node("Conv", "x", g.weight(whole(2, 2, 3, 3)), name="it")
    return g


def float_network() -> Graph:
    g = Graph(IMAGE)
    g.node("Flatten", "x")
    return g


REFUSED: dict[str, tuple[Callable[[], Graph], str]] = {
    "float weight": (float_weight, "node fc (MatMul) has a float weight: it comes from no quantiser"),
    "float activation": (float_activation, "node second (Conv) has a float input: a bias, BatchNorm"),
    "float input": (unquantised_input, "node it (Conv) reads the network's float input"),
    "no quantiser": (float_network, "its output comes from no quantiser"),
    "operator": (one("Tanh"), "node it (Tanh) is an operator with no integer form here"),
    "auto pad": (one("MaxPool", kernel_shape=[2, 2], auto_pad="SAME_UPPER"), "node it (MaxPool) pads by auto_pad"),
    "uneven average": (one("AveragePool", kernel_shape=[2, 2], pads=[1, 1, 1, 1]),
                       "node it (AveragePool) averages fewer values at the border"),
    "over the batch": (one("ReduceSum", np.array([0, 1])), "node it (ReduceSum) adds up over the images"),
    "batch moved": (one("Transpose", perm=[1, 0, 2, 3]), "node it (Transpose) moves the axis of the batch"),
    "by zero": (one("Div", F32([0.0])), "node it (Div) divides by zero"),
    "nan": (one("Mul", F32([np.nan])), "node it (Mul) : a constant holds NaN or infinity"),
    "scale nan": (quantiser(np.nan), "node it (Quant) has 1 scales among 1 that are not positive numbers"),
    "scale 0": (quantiser(0.0), "node it (Quant) has 1 scales among 1 that are not positive numbers"),
    "wide": (quantiser(bits=20), "node it (Quant) has a bit width of 20"),
    "half a bit": (quantiser(bits=3.5), "node it (Quant) has a bit width of 3.5, which is not whole"),
    "bits": (quantiser(bits=[3, 4]), "node it (Quant) has a bit width that is not one constant"),
    "zero point": (quantiser(zero=0.5), "node it (Quant) has a zero point of 0.5, which is not whole"),
    "one code": (quantiser(bits=1, narrow=1, signed=0), "node it (Quant) has a single code"),
    "mode": (quantiser(mode="STOCHASTIC"), "node it (Quant) rounds by 'STOCHASTIC'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_integer_form_is_named(name: str, tmp_path: Path) -> None:
    make, says = REFUSED[name]
    import onnx
    path = tmp_path / "g.onnx"
    onnx.save(make().model(), path)
    with pytest.raises(BadModel) as caught:
        IntegerGraph.from_qonnx(path)
    assert says in caught.value.line()
    assert "\n" not in caught.value.line()


def test_not_an_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(BadModel, match="not a readable ONNX file"):
        IntegerGraph.from_qonnx(path)
