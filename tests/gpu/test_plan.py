"""The plan that a board with TensorRT executes."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from hwkit.artifact import StageFile, Variant
from hwkit.errors import BadDescription
from hwkit.files import write_json
from hwkit.gpu.plan import DEPLOYED, BoardPlan, Engine, board_plan, engines, load, variant_engines

STAGES = (StageFile(name="stem", file="stages/0-stem.onnx"),
          StageFile(name="block.0", file="stages/1-block.onnx", repeat=3, times=(0.0, 0.5, 1.0)))
SHAPES = [(1, 1, 8, 8), (1, 4, 8, 8)]
PLACEHOLDERS = {"trtexec", "onnx", "engine", "timing_cache", "workspace_mib", "warmup_ms", "duration_s",
                "iterations", "inputs", "times", "profile", "layers", "output"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stages").mkdir()
    for name in ("model.onnx", "stages/0-stem.onnx", "stages/1-block.onnx"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def plan(folder: Path) -> BoardPlan:
    beside = Variant(name="f16 unrolled", precision="f16", form="unrolled",
                     stages=(StageFile(name="model", file="model.onnx"),))
    return board_plan([*engines(folder, STAGES, "int8", SHAPES), *variant_engines(folder, beside, SHAPES[:1])])


def test_engines_of_every_form(plan: BoardPlan) -> None:
    assert [e.name for e in plan.engines] == ["deployed-stem", "deployed-block-0", "f16-unrolled-model"]
    assert {form: [e.file for e in chain] for form, chain in plan.forms().items()} == {
        DEPLOYED: ["stages/0-stem.onnx", "stages/1-block.onnx"], "f16 unrolled": ["model.onnx"]}
    step = plan.engines[1]
    assert (step.repeat, step.times, step.inputs) == (3, (0.0, 0.5, 1.0), {"x": (1, 4, 8, 8), "t": (1,)})
    assert plan.engines[2].sha256 == hashlib.sha256(b"model.onnx").hexdigest()
    assert plan.engines[0].batch == 1


def test_commands_for_every_family(plan: BoardPlan) -> None:
    assert [f.name for f in plan.families] == ["8.2", "8.4", "8.6", "10", "11"]
    for family in plan.families:
        assert set(family.build) == {"f16", "int8"}                 # what the engines need, and no more
        for command in (*family.build.values(), family.time, family.profile, family.output):
            assert command.argv[0] == "{trtexec}"
            used = {name for word in command.argv for name in re.findall(r"\{(\w+)\}", word)}
            assert used <= PLACEHOLDERS
    assert all(f"{{{name}}}" in (BoardPlan.__doc__ or "") for name in PLACEHOLDERS)


def test_it_survives_its_file(plan: BoardPlan, tmp_path: Path) -> None:
    write_json(tmp_path / "plan.json", plan.model_dump(mode="json"))
    assert load(tmp_path / "plan.json") == plan
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(BadDescription):
        load(tmp_path / "plan.json")


@pytest.mark.parametrize(("change", "why"), [
    ({"inputs": {"x": ()}}, "fixed dimensions"), ({"inputs": {"x": (1, -1)}}, "fixed dimensions"),
    ({"inputs": {"y": (1, 2)}}, "has the inputs"), ({"inputs": {"x": (1, 2), "t": (1,)}}, "has the inputs"),
    ({"inputs": {"x": (1, 2), "t": (1,)}, "times": (0.5,), "repeat": 2}, "1 times for 2 repeats"),
    ({"repeat": 0}, "greater than"), ({"precision": "int4"}, "int8"), ({"name": "a b"}, "letters")])
def test_an_engine_that_cannot_be_run_is_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Engine.model_validate({"name": "net", "file": "m.onnx", "sha256": "0", "precision": "f32",
                               "inputs": {"x": (1, 2)}, **change})


def test_engines_that_are_no_chains_are_refused() -> None:
    def engine(name: str, form: str) -> Engine:
        return Engine(name=name, file="m.onnx", sha256="0", precision="f32", form=form, inputs={"x": (1, 2)})

    for wrong in ([], [engine("a", DEPLOYED), engine("a", "other")], [engine("a", "other")],
                  [engine("a", DEPLOYED), engine("b", "other"), engine("c", DEPLOYED)]):
        with pytest.raises(ValidationError, match="engines"):
            board_plan(wrong)
