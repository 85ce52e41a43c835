"""What each operator reads, writes and multiplies, by hand; and the interval of a latency that follows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference

from hwkit.backends._onnx.bounds import Bounds, bounded, layers
from hwkit.backends._onnx.forms import Piece, unrolled
from hwkit.backends._onnx.tidy import tidied
from hwkit.gpu.roofline import Layer, kernels
from hwkit.target import target

SIDE, CHANNELS, CLASSES = 6, 4, 3
PIXELS = SIDE * SIDE
MAP = CHANNELS * PIXELS
WEIGHT = CHANNELS * CHANNELS * 9


def graph(nodes: list, constants: dict[str, tuple[int, ...]], out: tuple[int, ...],
          shape: tuple[int, ...] = (1, CHANNELS, SIDE, SIDE)) -> ModelProto:
    made = helper.make_graph(nodes, "tiny", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                             [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
                             [numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in constants.items()])
    return shape_inference.infer_shapes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)]),
                                        strict_mode=True)


def step() -> ModelProto:
    """y = x + relu(conv(x)): one kernel, which reads x, and again for the addition."""
    return graph([helper.make_node("Conv", ["x", "w", "b"], ["1"], pads=[1] * 4),
                  helper.make_node("Relu", ["1"], ["2"]),
                  helper.make_node("Add", ["x", "2"], ["y"])],
                 {"w": (CHANNELS, CHANNELS, 3, 3), "b": (CHANNELS,)}, (1, CHANNELS, SIDE, SIDE))


def head() -> ModelProto:
    return graph([helper.make_node("GlobalAveragePool", ["x"], ["1"]),
                  helper.make_node("Flatten", ["1"], ["2"]),
                  helper.make_node("Gemm", ["2", "w"], ["y"])],
                 {"w": (CHANNELS, CLASSES)}, (1, CLASSES))


PIECES = [Piece("ode", tidied(step(), "ode"), repeat=3), Piece("head", tidied(head(), "head", 3))]


def test_every_operator_by_hand() -> None:
    found = layers(PIECES)
    conv = Layer("ode/Conv0@0", PIXELS * WEIGHT, WEIGHT + CHANNELS, MAP, MAP)
    relu = Layer("ode/Relu1@0", 0, 0, 0, MAP, fused=True)
    add = Layer("ode/Add2@0", 0, 0, MAP, MAP, fused=True)
    assert found[:3] == [conv, relu, add]
    later = conv._replace(name="ode/Conv0@1", weights=0)          # they are in the file once
    assert found[3] == later
    assert [layer.name for layer in found[3:9]] == [
        f"ode/{name}@{k}" for k in (1, 2) for name in ("Conv0", "Relu1", "Add2")]
    assert found[9:] == [Layer("head/GlobalAveragePool3", 0, 0, MAP, CHANNELS),
                         Layer("head/Flatten4", 0, 0, 0, CHANNELS, fused=True),
                         Layer("head/Gemm5", CHANNELS * CLASSES, CHANNELS * CLASSES, CHANNELS, CLASSES)]
    assert len(kernels(found)) == 5
    assert sum(layer.weights for layer in found) == WEIGHT + CHANNELS + CHANNELS * CLASSES


def test_the_unrolled_file_is_the_same_work() -> None:
    """Names apart."""
    whole = layers([Piece("net", unrolled(PIECES))])
    assert [layer[1:] for layer in whole] == [layer[1:] for layer in layers(PIECES)]


def test_quantisers_are_no_layers_and_weights_count_behind_them() -> None:
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["r"]),
             helper.make_node("QuantizeLinear", ["w", "s", "z"], ["wq"]),
             helper.make_node("DequantizeLinear", ["wq", "s", "z"], ["wr"]),
             helper.make_node("Conv", ["r", "wr"], ["y"], name="net/Conv0")]
    model = graph(nodes, {"w": (CHANNELS, CHANNELS, 3, 3), "s": ()}, (1, CHANNELS, SIDE - 2, SIDE - 2))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.int8), "z"))
    small = (SIDE - 2) ** 2
    assert layers([Piece("net", model)]) == [Layer("net/Conv0", small * WEIGHT, WEIGHT, MAP, CHANNELS * small)]


@pytest.mark.parametrize("precision", ["f32", "f16", "int8"])
def test_an_interval_that_holds_its_value(precision: str) -> None:
    """Its low end is at least all operations at the peak; its high end at least a launch a kernel."""
    orin = target("jetson-orin-nano")
    found = bounded(PIECES, precision, orin)
    (latency,) = found.figures
    assert (latency.quantity, latency.unit, latency.kind) == ("latency", "s", "estimated")
    assert latency.low is not None
    assert latency.high is not None
    assert latency.low <= latency.value <= latency.high
    assert orin.gpu is not None
    assert orin.gpu.kernel_launch_s is not None
    peak = getattr(orin.gpu.peak_ops_per_s, precision)
    ops = 2 * (3 * PIXELS * WEIGHT + CHANNELS * CLASSES)
    assert latency.low >= ops / peak.value
    assert latency.high >= 5 * orin.gpu.kernel_launch_s.high
    assert math.isfinite(latency.high)
    (roofline,) = found.findings
    assert "of 5 kernels are memory-bound" in roofline.text
    assert latency.conditions["power_mode"] == orin.gpu.power_mode


def test_none_where_the_figures_are_not_known() -> None:
    """cuda is whatever GPU is there; a Jetson Nano has no int8; a Raspberry Pi no GPU."""
    for name, precision in (("cuda", "f16"), ("jetson-nano", "int8"), ("rpi4", "f32")):
        assert bounded(PIECES, precision, target(name)) == Bounds()
