"""The program that runs ONNX artifacts on the board, executed here and held against plain sessions."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from hwkit.data import shipped
from hwkit.errors import JobFailed
from hwkit.process import run
from tests.payloads import loaded
from tests.runners.small_onnx import TIMES, bare, chained, make

PAYLOAD = shipped("boards", "payloads", "onnxruntime_payload.py")
N = 5
CHAIN = [("stem", 1, None), ("step", 3, None), ("head", 1, None)]
TIMED = [("stem", 1, None), ("timed", 3, TIMES), ("head", 1, None)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small models, batch 1 and (in "two/") batch 2, and inputs.npy."""
    folder = tmp_path_factory.mktemp("onnx")
    (folder / "two").mkdir()
    make(folder)
    make(folder / "two", batch=2)
    np.save(folder / "inputs.npy", np.random.default_rng(0).standard_normal((N, 3, 8, 8)).astype(np.float32))
    return folder


@pytest.fixture
def job(tmp_path: Path, models: Path) -> Callable[..., dict[str, Any]]:
    """job(stages, passes, **changes): runs the payload and returns its result; outputs are in tmp_path."""

    def listed(stages: Any) -> list[dict[str, Any]]:
        return [{"file": str(models / f"{name}.onnx"), "repeat": repeat, "times": times}
                for name, repeat, times in stages]

    def start(stages: Any, passes: list[str], variants: Any = (), **changes: Any) -> dict[str, Any]:
        spec = {"passes": passes, "inputs": str(models / "inputs.npy"), "stages": listed(stages), "threads": 1,
                "variants": [{"name": name, "stages": listed(of)} for name, of in variants], "warmup": 1,
                "iterations": 5, "duration_s": 0.01, "out": str(tmp_path),
                "providers": [["CPUExecutionProvider", {}]], **changes}
        (tmp_path / "job.json").write_text(json.dumps(spec))
        run([sys.executable, str(PAYLOAD), str(tmp_path / "job.json")], timeout_s=120, what="payload")
        return json.loads((tmp_path / "result.json").read_text())

    return start


@pytest.mark.parametrize("stages", [CHAIN, TIMED], ids=["no time", "with time"])
def test_outputs_are_those_of_plain_sessions(job: Any, models: Path, tmp_path: Path, stages: Any) -> None:
    job(stages, ["outputs"])
    inputs = np.load(models / "inputs.npy")
    by_hand = np.concatenate([chained(models, x[None], stages[1][2]) for x in inputs])
    assert np.array_equal(np.load(tmp_path / "outputs.npy"), by_hand)
    assert np.array_equal(np.load(tmp_path / "raw_outputs.npy"), by_hand)


def test_times_reach_the_step_in_their_order(job: Any, models: Path, tmp_path: Path) -> None:
    job([CHAIN[0], ("timed", 3, TIMES[::-1]), CHAIN[2]], ["outputs"])
    inputs = np.load(models / "inputs.npy")
    forwards, backwards = (np.concatenate([chained(models, x[None], times) for x in inputs])
                           for times in (TIMES, TIMES[::-1]))
    outputs = np.load(tmp_path / "outputs.npy")
    assert np.array_equal(outputs, backwards)
    assert np.abs(outputs - forwards).max() > 1e-5


@pytest.fixture(scope="module")
def module() -> Any:
    """The payload, imported."""
    return loaded(PAYLOAD)


@pytest.mark.parametrize("repeat", [1, 2, 3, 4])
def test_a_first_stage_that_repeats_leaves_its_input_alone(module: Any, models: Path, repeat: int) -> None:
    """Every inference of a timed pass must compute the same."""
    x = np.random.default_rng(1).standard_normal((1, 8, 8, 8)).astype(np.float32)
    stages = [{"file": str(models / "step.onnx"), "repeat": repeat, "times": None}]
    chain = module.Chain(stages, module.Provider([["CPUExecutionProvider", {}]]), 1)
    chain.feed(x)
    at = x
    for _ in range(repeat):
        at = bare(models / "step.onnx", x=at)
    for _ in range(3):
        chain.infer()
        assert np.array_equal(chain.result.get(), at)


class AsOnAGpu:
    """A stand-in for the CUDA provider: the processor computes, but all is bound and copied as for CUDA graphs."""

    name, device, device_id, graph_option = "CPUExecutionProvider", "cpu", 0, "enable_cuda_graph"

    def session(self, path: str, threads: int, profile: str | None = None) -> ort.InferenceSession:
        return ort.InferenceSession(path, providers=[self.name])


@pytest.mark.parametrize("stages", [CHAIN, TIMED], ids=["no time", "with time"])
def test_a_captured_step_has_one_buffer_for_its_time_and_few_graphs(module: Any, models: Path, stages: Any,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    class Device(module.Buffer):    # type: ignore[name-defined]
        def __init__(self, shape: Any, provider: Any) -> None:
            super().__init__(shape, provider)
            self.on_host = False

    monkeypatch.setattr(module, "Buffer", Device)
    chain = module.Chain([{"file": str(models / f"{name}.onnx"), "repeat": repeat, "times": times}
                          for name, repeat, times in stages], AsOnAGpu(), 1)
    inputs = np.load(models / "inputs.npy")
    for x in inputs[:2]:
        chain.feed(x[None])
        chain.infer()
        assert np.array_equal(chain.result.get(), chained(models, x[None], stages[1][2]))
    assert chain.copied_ns > 0
    step = chain.stages[1]
    assert len(step.steps) == 3
    graphs = {options.get_run_config_entry("gpu_graph_id") for _, options, _, _ in step.steps}
    assert graphs == {"1", "2"}                             # there and back between two buffers


def test_a_batch_is_filled_and_cut_to_the_inputs(job: Any, models: Path, tmp_path: Path) -> None:
    result = job([(f"two/{name}", repeat, times) for name, repeat, times in CHAIN], ["outputs", "latency"])
    inputs = np.load(models / "inputs.npy")
    one_by_one = np.concatenate([chained(models, x[None], None) for x in inputs])
    outputs = np.load(tmp_path / "outputs.npy")
    assert outputs.shape == one_by_one.shape
    assert np.allclose(outputs, one_by_one, atol=1e-6)
    assert result["passes"]["latency"]["batch"] == 2


def test_memory_is_counted(job: Any) -> None:
    memory = job(CHAIN, ["memory"])["passes"]["memory"]
    assert memory["loaded"]["anonymous"] >= memory["before"]["anonymous"] > 0
    assert memory["peak_rss"] >= memory["loaded"]["rss"]


def test_variants_take_turns_and_each_has_enough_samples(job: Any, models: Path, tmp_path: Path) -> None:
    latency = job(CHAIN, ["latency"], variants=[("one file", [("whole", 1, None)])], iterations=40,
                  duration_s=0.05)["passes"]["latency"]
    (whole,) = latency["variants"]
    assert whole["name"] == "one file"
    for one in (latency, whole):
        assert len(one["ns"]) >= 40
        assert min(one["ns"]) > 0
        assert sum(one["ns"]) * one["every"] > 0.04e9
    outputs = np.load(tmp_path / "variant-0.npy")
    inputs = np.load(models / "inputs.npy")
    assert np.allclose(outputs, np.concatenate([chained(models, x[None], None) for x in inputs]), atol=1e-5)


def test_a_variant_that_does_not_load_says_why_and_the_rest_goes_on(job: Any, models: Path) -> None:
    (models / "broken.onnx").write_bytes((models / "whole.onnx").read_bytes()[:300])
    variants = [("broken", [("broken", 1, None)]), ("wrong", [("head", 1, None)]), ("fine", [("whole", 1, None)])]
    broken, wrong, fine = job(CHAIN, ["latency"], variants=variants)["passes"]["latency"]["variants"]
    assert "broken.onnx" in broken["error"]
    assert "head.onnx takes" in wrong["error"]
    assert fine["ns"]
    assert "error" not in fine


def test_a_long_pass_of_a_small_network_stays_small(job: Any) -> None:
    latency = job(CHAIN, ["latency"], duration_s=0.6)["passes"]["latency"]
    assert len(latency["ns"]) < 20_000
    assert latency["every"] > 1


def test_operators_leave_a_profile_a_stage(job: Any, tmp_path: Path) -> None:
    told = job(CHAIN, ["operators"])["passes"]["operators"]
    assert [s["profile"] for s in told["stages"]] == ["profile-0.json", "profile-1.json", "profile-2.json"]
    assert all(s["started_ns"] > 0 for s in told["stages"])
    for stage, (_, repeat, _) in zip(told["stages"], CHAIN, strict=True):
        events = json.loads((tmp_path / stage["profile"]).read_text())
        runs = [e for e in events if e["name"] == "model_run"]
        assert len(runs) == (told["warmup"] + told["runs"]) * repeat
    assert not list(tmp_path.glob("raw-profile*"))


def test_a_crash_of_the_profiled_run_loses_nothing_of_what_came_before(job: Any, tmp_path: Path) -> None:
    (tmp_path / "profile-0.json").mkdir()              # the profile cannot be put there
    with pytest.raises(JobFailed, match="the profiled run ended with code"):
        job(CHAIN, ["outputs", "latency", "operators"])
    done = json.loads((tmp_path / "result.json").read_text())["passes"]
    assert set(done) == {"outputs", "latency"}


def test_a_provider_that_is_not_built_in_is_refused(job: Any, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="exit code 3: CUDAExecutionProvider: it has"):
        job(CHAIN, ["outputs"], providers=[["CUDAExecutionProvider", {}]])
    refused = json.loads((tmp_path / "result.json").read_text())["refused"]
    assert refused["kind"] == "missing"
    assert "CPUExecutionProvider" in refused["text"]


def test_a_model_that_is_not_read_is_refused(job: Any, models: Path, tmp_path: Path) -> None:
    (models / "cut.onnx").write_bytes((models / "whole.onnx").read_bytes()[:300])
    with pytest.raises(JobFailed, match="exit code 3"):
        job([("cut", 1, None)], ["outputs"])
    refused = json.loads((tmp_path / "result.json").read_text())["refused"]
    assert (refused["kind"], refused["what"]) == ("session", "cut.onnx")


@pytest.mark.parametrize(("stages", "words"), [
    ([("head", 1, None)], r"but head.onnx takes \[8, 8, 8\]"),
    ([("stem", 1, None), ("whole", 1, None)], r"whole.onnx takes \[1, 3, 8, 8\], but is given \[1, 8, 8, 8\]"),
    ([("stem", 2, None)], "it cannot repeat"),
    ([("stem", 1, None), ("timed", 3, None), ("head", 1, None)], "timed.onnx takes 2 inputs, not 1"),
    ([("stem", 1, None), ("timed", 3, [0.1])], "has 1 times for 3 repeats"),
])
def test_a_chain_that_does_not_fit_is_refused(job: Any, stages: Any, words: str) -> None:
    with pytest.raises(JobFailed, match=words):
        job(stages, ["outputs"])


def test_unknown_passes_are_refused(job: Any) -> None:
    with pytest.raises(JobFailed, match="unknown passes"):
        job(CHAIN, ["dance"])


def test_the_oldest_python_on_a_board_reads_it() -> None:
    ast.parse(PAYLOAD.read_text(), feature_version=(3, 6))
