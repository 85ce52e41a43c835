"""Runner `local` with TensorRT: the plan executed here, a stand-in in place of trtexec."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.artifact import Artifact
from hwkit.board import Board
from hwkit.errors import BadInput, BoardError, ToolMissing
from hwkit.model import Model
from hwkit.runners import Request, Run, _trt_run, local
from tests.backends.onnx import builds

STANDIN = Path(__file__).parents[1] / "gpu" / "standins" / "trtexec"
QUICK = Request(duration_s=0.05)


def say(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A user's classifier in float32 for the GPU of this machine: one engine, nothing beside it."""
    folder = tmp_path_factory.mktemp("classifier")
    builds.classifier(folder / "net.onnx")
    model = Model(name="net", path=folder / "net.onnx", onnx=folder / "net.onnx", format="onnx", opset=13,
                  input_shape=builds.SHAPE, data=builds.data(folder / "inputs.npz"))
    return builds.built(model, "cuda", folder / "cuda", precision="f32")


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """This machine with a trtexec, its cache empty, its idle power not waited for."""
    program = tmp_path / "trtexec"
    program.write_text(f"#!{sys.executable}\n{STANDIN.read_text()}")
    program.chmod(0o755)
    monkeypatch.setenv("HWKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_trt_run, "IDLE_S", 0)
    monkeypatch.setattr(_trt_run, "CHECKED", 2)
    plays(monkeypatch, version="11.0.0")
    return Board(name="mine", description="this machine", target="cuda", kind="measured", runner="local",
                 options={"trtexec": str(program)})


def plays(monkeypatch: pytest.MonkeyPatch, **standin: Any) -> None:
    monkeypatch.setenv("STANDIN_TRTEXEC", json.dumps({"gpu": "Some GPU", "sm": "9.0", **standin}))


def finding(run: Run, name: str) -> Any:
    (found,) = [f for f in run.findings if f.name == name]
    return found


@pytest.mark.parametrize("version", ["8.2.1", "8.5.2", "10.3.0", "11.0.0"])
def test_what_is_told_of_a_run_here(version: str, artifact: Artifact, board: Board,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in's engine takes 1.5 ms, each copy 0.25 ms, its layers 0.25 and 1 ms; warm-up is not counted."""
    plays(monkeypatch, version=version)
    run = local.run(artifact, board, QUICK, say)
    assert run.tool_versions["TensorRT (board)"] == version
    latency = next(m for m in run.measurements if m.quantity == "latency")
    assert (latency.value, latency.kind) == (pytest.approx(2.0e-3), "measured")
    assert len(latency.samples) == QUICK.iterations
    assert latency.conditions["gpu"] == "Some GPU"
    assert finding(run, "as accurate as built").ok is True
    assert [f for f in run.findings if f.ok is False] == []
    first = len(artifact.manifest.built.operators)
    assert [o.index for o in run.operators] == [first, first + 1, first + 2]
    assert [c.index for c in run.operator_costs] == [first, first + 1, first + 2]
    assert [c.value for c in run.operator_costs] == pytest.approx([0.25e-3, 1e-3, 0.0])
    assert "energy" in run.not_measured
    events = json.loads(run.files[_trt_run.TRACE])
    assert "Conv_0" in json.dumps(events)


def test_an_engine_is_kept_and_one_of_another_gpu_built_anew(artifact: Artifact, board: Board,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    def built() -> str:
        run = local.run(artifact, board, QUICK.model_copy(update={"operators": False}), say)
        assert run.not_measured["operators"] == "not profiled"
        return str(finding(run, "engines").text)

    assert "1 built there" in built()
    assert "0 built there" in built()
    plays(monkeypatch, version="11.0.0", gpu="Another GPU", sm="8.9")
    assert "1 for Another GPU, SM 8.9 and TensorRT 11.0.0: 1 built there" in built()


@pytest.mark.parametrize(("standin", "words"), [
    ({"fail": "build"}, "building deployed-model: .*Error Code 2"), ({"fail": "time"}, "timing deployed-model"),
    ({"fail": "device"}, "no CUDA-capable device"), ({"version": "7.1.3"}, "TensorRT 7.1.3: is older"),
    ({"damage": "time"}, "times"), ({"damage": "output"}, "output")])
def test_a_board_that_fails_is_one_line(standin: dict[str, Any], words: str, artifact: Artifact, board: Board,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    plays(monkeypatch, **standin)
    with pytest.raises(BoardError, match=words) as caught:
        local.run(artifact, board, QUICK, say)
    assert "\n" not in caught.value.line()
    assert "Traceback" not in caught.value.line()


def test_a_trtexec_that_is_not_there(artifact: Artifact, board: Board, tmp_path: Path) -> None:
    lost = board.model_copy(update={"options": {"trtexec": str(tmp_path / "no" / "trtexec")}})
    with pytest.raises(ToolMissing, match="is not installed") as caught:
        local.run(artifact, lost, QUICK, say)
    assert caught.value.hint == _trt_run.ON_BOARD


def test_an_artifact_without_a_plan(artifact: Artifact) -> None:
    built = artifact.manifest.built.model_copy(update={"board_plan": None})
    bare = artifact.model_copy(update={"manifest": artifact.manifest.model_copy(update={"built": built})})
    assert not _trt_run.holds(bare)
    with pytest.raises(BadInput, match="has no plan for a board"):
        _trt_run.plan(bare)


def test_golden_inputs_are_what_the_board_is_given(artifact: Artifact, tmp_path: Path) -> None:
    job = json.loads(_trt_run.write_job(artifact, QUICK, tmp_path, tmp_path / "engines", "").read_text())
    assert np.load(job["inputs"]).shape == (8, *builds.SHAPE)
    assert job["passes"] == ["build", "outputs", "latency", "operators"]
    assert (job["duration_s"], job["iterations"]) == (1, QUICK.iterations)
