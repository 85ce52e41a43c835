"""The program that runs on the board, executed here and held against the interpreter and against torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.data import shipped
from hwkit.errors import JobFailed
from hwkit.process import run

PAYLOAD = shipped("boards", "payloads", "tflite.py")
Array = np.ndarray[Any, Any]


@pytest.fixture
def job(tmp_path: Path, models: Path) -> Callable[..., dict[str, Any]]:
    """job(stages, passes, **changes): runs the payload and returns its result; outputs are in tmp_path."""

    def start(stages: list[tuple[str, int, Any]], passes: list[str], **changes: Any) -> dict[str, Any]:
        spec = {"passes": passes, "inputs": str(models / "inputs.npy"), "operators": [], "marks": False,
                "threads": 1, "warmup": 1, "iterations": 5, "duration_s": 0.01, "out": str(tmp_path),
                "stages": [{"file": str(models / f"{name}.tflite"), "repeat": repeat, "times": times}
                           for name, repeat, times in stages], **changes}
        (tmp_path / "job.json").write_text(json.dumps(spec))
        run([sys.executable, str(PAYLOAD), str(tmp_path / "job.json")], timeout_s=120, what="payload")
        return json.loads((tmp_path / "result.json").read_text())

    return start


def test_outputs_are_the_interpreters(job: Any, interpreted: Any, samples: Array, tmp_path: Path) -> None:
    job([("cnn_int8", 1, None)], ["outputs"])
    cnn = interpreted("cnn_int8")
    raw = np.concatenate([cnn.raw(cnn.quantised(x[None])) for x in samples])
    assert np.array_equal(np.load(tmp_path / "raw_outputs.npy"), raw)
    assert np.allclose(np.load(tmp_path / "outputs.npy"), cnn.real(raw), atol=1e-7)


def test_a_step_is_repeated_with_its_own_time(job: Any, expected: dict[str, Array], tmp_path: Path) -> None:
    job([("stem", 1, None), ("step", 3, [0.0, 0.25, 0.5]), ("head", 1, None)], ["outputs"])
    outputs = np.load(tmp_path / "outputs.npy")
    assert np.abs(outputs - expected["stepped"]).max() < 1e-5
    assert np.abs(outputs - expected["ends"]).max() > 1e-2     # the steps do something


def test_times_reach_the_step_in_their_order(job: Any, expected: dict[str, Array], tmp_path: Path) -> None:
    job([("stem", 1, None), ("step", 3, [0.5, 0.25, 0.0]), ("head", 1, None)], ["outputs"])
    assert np.abs(np.load(tmp_path / "outputs.npy") - expected["stepped"]).max() > 1e-5


def test_stages_of_different_scales_are_requantised(job: Any, interpreted: Any, samples: Array,
                                                    expected: dict[str, Array], tmp_path: Path) -> None:
    stem, head = interpreted("stem_int8"), interpreted("head_int8")
    assert stem.output["quantization"] != head.input["quantization"]
    job([("stem_int8", 1, None), ("head_int8", 1, None)], ["outputs"])
    by_hand = [head.raw(head.quantised(stem.real(stem.raw(stem.quantised(x[None]))))) for x in samples]
    assert np.array_equal(np.load(tmp_path / "raw_outputs.npy"), np.concatenate(by_hand))
    error = np.abs(np.load(tmp_path / "outputs.npy") - expected["ends"])
    assert error.max() < 0.1 * np.abs(expected["ends"]).max()


def test_loading_a_matrix_shows_in_resident_memory(job: Any, models: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 1024), np.float32))
    memory = job([("dense_f32", 1, None)], ["memory"], inputs=str(tmp_path / "x.npy"))["passes"]["memory"]
    gained = memory["loaded"]["anonymous"] - memory["before"]["anonymous"]
    weights = 1024 * 1024 * 4
    assert 0.9 * weights < gained < 1.5 * weights
    assert memory["peak_rss"] >= memory["loaded"]["rss"]


def test_latency_has_as_many_samples_as_asked(job: Any) -> None:
    latency = job([("cnn_f32", 1, None)], ["latency"], iterations=12, duration_s=0.001)["passes"]["latency"]
    assert len(latency["ns"]) >= 12
    assert min(latency["ns"]) > 0


def test_a_long_pass_of_a_small_network_stays_small(job: Any) -> None:
    latency = job([("cnn_f32", 1, None)], ["latency"], duration_s=1.0)["passes"]["latency"]
    assert len(latency["ns"]) < 20_000
    assert latency["every"] > 1


def test_an_operator_that_cannot_run_says_why(job: Any, models: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes((models / "head.tflite").read_bytes()[:200])
    operators = [{"index": 3, "file": str(models / "head.tflite")}, {"index": 4, "file": str(broken)}]
    fine, bad = job([("cnn_f32", 1, None)], ["operators"], operators=operators)["passes"]["operators"]
    assert fine["index"] == 3
    assert len(fine["ns"]) >= 30
    assert bad["index"] == 4
    assert bad["error"]


@pytest.mark.parametrize(("stages", "words"), [
    ([("dense_f32", 1, None)], "but dense_f32.tflite takes [1024]"),
    ([("stem", 1, None), ("dense_f32", 1, None)], "stem.tflite gives [1, 8, 8, 8]"),
    ([("stem", 1, None), ("step", 3, None), ("head", 1, None)], "step.tflite takes 2 inputs, not 1"),
    ([("stem", 1, None), ("step", 3, [0.1])], "has 1 times for 3 repeats"),
])
def test_a_chain_that_does_not_fit_is_refused(job: Any, stages: Any, words: str) -> None:
    with pytest.raises(JobFailed) as caught:
        job(stages, ["outputs"])
    assert words in caught.value.line()
