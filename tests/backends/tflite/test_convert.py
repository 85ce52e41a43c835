"""The deployed network against torch, run here by a loop of the test's own."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from hwkit import backends
from hwkit.artifact import Built
from hwkit.model import Model
from hwkit.target import target
from tests.backends.tflite import nets
from tests.backends.tflite.conftest import Builds

# share of the outputs' RMS that each precision may cost on this network
RMS = {"f32": 1e-5, "f16": 2e-3, "dynamic": 3e-2, "int8": 8e-2}


def invoke(built: Built, folder: Path, raw: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Stages one after the other, raw values handed on, times quantised as their input says."""
    for stage in built.stages:
        runtime = Interpreter(str(folder / stage.file))
        runtime.allocate_tensors()
        inputs = runtime.get_input_details()
        for k in range(stage.repeat):
            runtime.set_tensor(inputs[0]["index"], raw)
            if stage.times:
                scale, zero = inputs[1]["quantization"]
                time = np.array([stage.times[k]], np.float32)
                if inputs[1]["dtype"] != np.float32:
                    time = np.round(time / np.float32(scale) + zero).astype(inputs[1]["dtype"])
                runtime.set_tensor(inputs[1]["index"], time)
            runtime.invoke()
            raw = runtime.get_tensor(runtime.get_output_details()[0]["index"])
    return raw


def golden(folder: Path, name: str) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.load(folder / "golden" / f"{name}.npy")
    return array


def finding(built: Built, name: str) -> Any:
    return next(f for f in built.findings if f.name.startswith(name))


def figure(built: Built, quantity: str) -> float:
    return next(m.value for m in built.figures if m.quantity == quantity)


@pytest.mark.parametrize(("precision", "ode"), [
    ("f32", "stepped"), ("f32", "unrolled"), ("int8", "stepped"), ("int8", "unrolled"), ("f16", "unrolled"),
    ("dynamic", "unrolled")])
def test_outputs_are_torchs(
        precision: str, ode: str, builds: Builds, ode_model: Model, network: nn.Sequential) -> None:
    built, folder = builds(ode_model, precision=precision, ode=ode)
    images = np.load(ode_model.data or "")["images"][:32]
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(golden(folder, "expected"), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(golden(folder, "inputs"), images.transpose(0, 2, 3, 1))
    raw = np.concatenate([invoke(built, folder, one[None]) for one in golden(folder, "raw_inputs")])
    np.testing.assert_array_equal(raw, golden(folder, "raw_outputs"))
    error = np.sqrt(np.mean((golden(folder, "outputs") - expected) ** 2) / np.mean(expected**2))
    assert error < RMS[precision]
    assert figure(built, "rms_error") == pytest.approx(error, rel=0.5)   # that one is over all images


def test_a_step_that_takes_the_time(builds: Builds, timed_model: Model) -> None:
    stepped, folder = builds(timed_model, precision="int8", ode="stepped")
    assert [s.times is not None for s in stepped.stages] == [False, True, False, False, False]
    raw = np.concatenate([invoke(stepped, folder, one[None]) for one in golden(folder, "raw_inputs")])
    np.testing.assert_array_equal(raw, golden(folder, "raw_outputs"))
    assert figure(stepped, "rms_error") < RMS["int8"]


def test_stepped_equals_unrolled_in_float(builds: Builds, ode_model: Model) -> None:
    stepped, unrolled = (golden(builds(ode_model, precision="f32", ode=ode)[1], "outputs")
                         for ode in ("stepped", "unrolled"))
    np.testing.assert_allclose(stepped, unrolled, rtol=1e-5, atol=1e-6)


def test_stepped_is_near_unrolled_in_int8(builds: Builds, ode_model: Model) -> None:
    """Unrolled, every step has ranges of its own; stepped, all share one: a few steps of the output's scale."""
    outputs = [golden(builds(ode_model, precision="int8", ode=ode)[1], "raw_outputs").astype(int)
               for ode in ("stepped", "unrolled")]
    assert np.abs(outputs[0] - outputs[1]).max() <= 12
    assert np.abs(outputs[0] - outputs[1]).mean() <= 3


def test_int8_values_go_from_stage_to_stage_as_they_are(builds: Builds, timed_model: Model) -> None:
    built, _ = builds(timed_model, precision="int8", ode="stepped")
    def quantisation(detail: dict[str, float]) -> tuple[float, float]:
        return detail["scale"], detail["zero_point"]

    borders = [(quantisation(s["inputs"][0]), quantisation(s["output"])) for s in built.details["stages"]]
    for (_, before), (after, _) in itertools.pairwise(borders):
        assert before == after
    for stage, (going_in, coming_out) in zip(built.stages, borders, strict=True):
        assert stage.repeat == 1 or going_in == coming_out


def test_auto_steps_where_there_are_steps(builds: Builds, ode_model: Model) -> None:
    built, _ = builds(ode_model, precision="f32", ode="stepped")
    assert [(s.name, s.repeat) for s in built.stages] == [
        ("stem", 1), ("ode1", nets.STEPS), ("down", 1), ("ode2", nets.STEPS), ("pool-classify", 1)]
    assert {s["datatype"] for stage in built.details["stages"] for s in stage["inputs"]} == {"float32"}


def test_figures(builds: Builds, ode_model: Model, network: nn.Sequential) -> None:
    built, folder = builds(ode_model, precision="int8", ode="stepped")
    data = np.load(ode_model.data or "")
    assert figure(built, "flash") == sum((folder / s.file).stat().st_size for s in built.stages)
    assert 0 < figure(built, "weights") < figure(built, "flash")
    with torch.no_grad():
        answers = network(torch.from_numpy(data["images"])).argmax(1).numpy()
    assert figure(built, "accuracy_float") == pytest.approx(np.mean(answers == data["labels"]))
    assert all(m.kind == "estimated" if m.quantity == "arena" else m.kind == "measured" for m in built.figures)
    assert {m.n for m in built.figures if m.quantity == "accuracy"} == {nets.IMAGES}
    for file in built.files:
        assert (folder / file).is_file(), file


def test_findings_of_a_clean_build(builds: Builds, ode_model: Model) -> None:
    built, _ = builds(ode_model, precision="int8", ode="stepped")
    for name in ("weights stored once", "delegate", "layout", "datatypes"):
        assert finding(built, name).ok is True, finding(built, name)
    assert "int8 without dot products" in {f.name for f in built.findings}


def test_unrolled_int8_is_smaller_than_its_float_parameters(builds: Builds, ode_model: Model) -> None:
    for precision in ("int8", "dynamic", "f16"):
        built, _ = builds(ode_model, precision=precision, ode="unrolled")
        assert figure(built, "weights") < (ode_model.parameter_bytes or 0)
        assert figure(built, "flash") <= 1.05 * (ode_model.parameter_bytes or 0) + 20_000


def test_the_plan_runs_in_a_child_process_and_gives_the_same_bytes(
        builds: Builds, ode_model: Model, tmp_path: Path) -> None:
    tool = backends.backend("tflite")
    pi = target("rpi4")
    plan = tool.plan(ode_model, pi, tool.options({"precision": "int8", "ode": "stepped"}, pi))
    assert json.loads(plan.files["spec.json"])["dot_products"] is False
    said: list[str] = []
    plan.execute(tmp_path, said.append)
    again = tool.collect(tmp_path)
    built, folder = builds(ode_model, precision="int8", ode="stepped")
    assert again.files == built.files
    for file in built.files:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file
    assert again.model_dump() == built.model_dump()
    assert any("converting ode1" in line for line in said)


def test_the_parent_imports_no_framework() -> None:
    code = ("import sys; from hwkit import backends; b = backends.backend('tflite'); b.options({}, None); "
            "assert not {'torch', 'litert_torch', 'ai_edge_litert', 'numpy'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
