"""One-operator models: run one after another, they are the whole network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from hwkit.artifact import Operator
from hwkit.backends.tflite import flat
from hwkit.model import Model
from tests.backends.tflite.conftest import Builds


def run(content: bytes, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
    runtime = Interpreter(model_content=content)
    runtime.allocate_tensors()
    for detail, value in zip(runtime.get_input_details(), inputs, strict=True):
        runtime.set_tensor(detail["index"], value)
    runtime.invoke()
    return [runtime.get_tensor(d["index"]) for d in runtime.get_output_details()]


@pytest.mark.parametrize(("precision", "ode"), [("int8", "unrolled"), ("f32", "unrolled"), ("f16", "unrolled"),
                                                ("dynamic", "unrolled")])
def test_operators_one_by_one_are_the_whole(precision: str, ode: str, builds: Builds, ode_model: Model) -> None:
    built, folder = builds(ode_model, precision=precision, ode=ode)
    model = flat.read((folder / built.stages[0].file).read_bytes())
    graph = model.subgraphs[0]
    values: dict[int, NDArray[Any]] = {int(graph.inputs[0]): np.load(folder / "golden" / "raw_inputs.npy")[:1]}
    for operator, listed in zip(graph.operators, built.operators, strict=True):
        variable = [i for i in dict.fromkeys(flat.inputs(operator)) if i in values]
        if listed.file is None:
            assert not variable
            continue
        found = run((folder / listed.file).read_bytes(), [values[i] for i in variable])
        values.update(zip(flat.outputs(operator), found, strict=True))
    whole = np.load(folder / "golden" / "raw_outputs.npy")[0]
    last = values[int(graph.outputs[0])][0]
    if precision == "int8":
        np.testing.assert_array_equal(last, whole)
    else:
        np.testing.assert_allclose(last, whole, rtol=1e-4, atol=1e-5)


def test_every_operator_of_the_artifact_is_listed(builds: Builds, ode_model: Model) -> None:
    built, folder = builds(ode_model, precision="int8", ode="stepped")
    assert [o.index for o in built.operators] == list(range(len(built.operators)))
    for stage in built.stages:
        model = flat.read((folder / stage.file).read_bytes())
        names = [flat.operator_name(model, o) for o in model.subgraphs[0].operators]
        assert [o.name for o in built.operators if o.stage == stage.name] == names
        assert {o.repeat for o in built.operators if o.stage == stage.name} == {stage.repeat}
    assert all(o.file and (folder / o.file).is_file() for o in built.operators)


def test_equal_steps_share_a_file(builds: Builds, ode_model: Model) -> None:
    built, _ = builds(ode_model, precision="f32", ode="unrolled")
    convolutions = [o for o in built.operators if o.name == "CONV_2D"]
    assert len({o.file for o in convolutions}) < len(convolutions)


def by_name(operators: tuple[Operator, ...], name: str, shape: tuple[int, ...]) -> Operator:
    return next(o for o in operators if o.name == name and o.output_shape == shape)


def test_cost_of_operators(builds: Builds, ode_model: Model) -> None:
    built, _ = builds(ode_model, precision="f32", ode="stepped")
    depthwise = by_name(built.operators, "DEPTHWISE_CONV_2D", (1, 6, 6, 8))
    pointwise = by_name(built.operators, "CONV_2D", (1, 6, 6, 8))
    classify = by_name(built.operators, "FULLY_CONNECTED", (1, 4))
    assert (depthwise.macs, pointwise.macs, classify.macs) == (6 * 6 * 8 * 9, 6 * 6 * 8 * 8, 4 * 16)
    assert pointwise.weight_bytes == 4 * (8 * 8 + 8)
    assert classify.weight_bytes == 4 * (4 * 16 + 4)
    assert by_name(built.operators, "ADD", (1, 6, 6, 8)).macs is None
