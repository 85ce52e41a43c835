"""What is refused before any tool starts, and what a plan needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwkit.backends import finn
from hwkit.backends.finn import gather, reference
from hwkit.backends.finn.options import Options
from hwkit.backends.finn.refusals import refusals
from hwkit.errors import BadInput, BadModel, ToolMissing
from hwkit.model import Model
from hwkit.target import Target, target
from tests.integer.graphs import Graph

WEIGHTS = np.arange(-8, 8).reshape(4, 4)


def product(graph: Graph, **quantiser: object) -> Graph:
    """x quantised, times a matrix, quantised as told."""
    x = graph.quant("x", 0.125, 8)
    y = graph.node("MatMul", x, graph.weight(WEIGHTS, 0.25, 4))
    graph.quant(y, 0.5, **({"bits": 4} | quantiser))
    return graph


def model(path: Path, **more: object) -> Model:
    return Model(**({"name": "net", "path": path, "format": "qonnx", "input_shape": (4,)} | more))


def test_a_plain_integer_network_is_accepted(tmp_path: Path) -> None:
    assert refusals(product(Graph()).saved(tmp_path / "net.onnx")) == []


@pytest.mark.parametrize(("quantiser", "says"), [
    ({"bits": 9}, "9 bits"), ({"mode": "CEIL"}, "rounds CEIL"), ({"zero": 3}, "zero point")])
def test_a_quantiser_it_cannot_do_is_named(quantiser: dict[str, object], says: str, tmp_path: Path) -> None:
    (problem,) = refusals(product(Graph(), name="odd", **quantiser).saved(tmp_path / "net.onnx"))
    assert problem.fatal
    assert problem.message.startswith("node odd (Quant)")
    assert says in problem.message


def test_floor_and_wide_weights_are_fine(tmp_path: Path) -> None:
    graph = Graph()
    y = graph.node("MatMul", graph.quant("x", 0.125, 8), graph.weight(WEIGHTS, 0.25, 16))
    graph.quant(y, 0.5, 8, mode="FLOOR")
    assert refusals(graph.saved(tmp_path / "net.onnx")) == []


def test_an_operator_without_a_layer_is_named(tmp_path: Path) -> None:
    graph = product(Graph())
    graph.node("Sigmoid", graph.last, name="gate")
    (problem,) = refusals(graph.saved(tmp_path / "net.onnx"))
    assert problem.message.startswith("node gate (Sigmoid) has no hardware layer in FINN")


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    graph = product(Graph(), bits=12)
    graph.node("Sigmoid", graph.last)
    assert len(refusals(graph.saved(tmp_path / "net.onnx"))) == 2


def test_other_formats_and_targets_are_refused(fpga: Target, tmp_path: Path) -> None:
    (problem,) = finn.check(model(tmp_path / "net.tflite", format="tflite"), fpga, Options())
    assert "takes a network or a QONNX file" in problem.message
    (problem,) = finn.check(model(tmp_path / "net.pt2", format="pt2"), fpga, Options())
    assert "without real images no range can be chosen" in problem.message
    (problem,) = finn.check(model(tmp_path / "net.onnx"), target("rpi4"), Options())
    assert "rpi4 has no programmable logic" in problem.message
    with pytest.raises(BadInput, match="rpi4 has no programmable logic"):
        finn.plan(model(tmp_path / "net.onnx"), target("rpi4"), Options())


def test_without_finn_check_says_so_and_plan_refuses(fpga: Target, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWKIT_CACHE", str(tmp_path / "empty"))
    given = model(product(Graph()).saved(tmp_path / "net.onnx"))
    (problem,) = finn.check(given, fpga, Options())
    assert not problem.fatal
    assert "hwkit toolchain install finn" in problem.message
    with pytest.raises(ToolMissing) as caught:
        finn.plan(given, fpga, Options())
    assert caught.value.exit_code == 3
    assert caught.value.hint == "hwkit toolchain install finn"


def test_an_estimate_before_building_is_refused_not_invented(fpga: Target, tmp_path: Path) -> None:
    estimate = finn.estimate(model(tmp_path / "net.onnx"), fpga, Options())
    assert estimate.figures == ()
    assert any(line.startswith("LUT:") for line in estimate.refused)


def test_an_empty_folder_holds_no_build(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no FINN build"):
        finn.collect(tmp_path)


def test_outputs_and_ties_come_from_the_qonnx_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """x * 1/4 on a grid of 1/8 and a scale of 1/2: every fourth product is half way between two codes."""
    monkeypatch.chdir(tmp_path)
    graph = Graph(shape=(1, 1))
    y = graph.node("MatMul", graph.quant("x", 0.25, 8), graph.weight(np.ones((1, 1)), 1.0, 4))
    graph.quant(y, 0.5, 8, name="half")
    path = graph.saved(tmp_path / "net.onnx")
    images = np.arange(-8, 8, dtype=np.float32).reshape(-1, 1) / 4
    np.savez(tmp_path / "data.npz", calibration=images, images=images)
    given = model(path, input_shape=(1,), data=tmp_path / "data.npz")
    spec = {"model": given.model_dump(mode="json"), "options": Options(golden=16).model_dump(mode="json")}
    found = reference.job(spec, lambda text: None)
    golden = np.load(tmp_path / "golden.npz", allow_pickle=False)
    assert found["ties"] == {"half": 8}
    np.testing.assert_array_equal(golden["outputs"], np.round(images * 2) / 2)            # numpy: half to even
    np.testing.assert_array_equal(golden["half_up"], np.floor(images * 2 + 0.5) / 2)
    np.testing.assert_array_equal(np.load(tmp_path / "golden/inputs.npy"), images)


def test_what_the_driver_refuses_is_the_models_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "finn.json").write_text('{"refused": {"message": "no layer for Foo", "hint": "take it out"}}')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadModel, match="net: no layer for Foo") as caught:
        gather.job({"model": {"name": "net"}}, lambda text: None)
    assert caught.value.hint == "take it out"
