"""The program that runs on the board, executed here and held against the interpreter and against torch."""

from __future__ import annotations

import gc
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.data import shipped
from hwkit.errors import JobFailed
from hwkit.process import run
from hwkit.runners import power
from tests.payloads import loaded

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


def test_the_timed_pass_comes_in_windows_with_others_between(job: Any) -> None:
    found = job([("cnn_int8", 1, None)], ["latency", "application", "clocks", "operators"], iterations=31,
                duration_s=0.0)["passes"]
    assert found["latency"]["windows"] == [11, 11, 11]
    assert len(found["latency"]["ns"]) == 33
    application = found["application"]
    assert len(application["ns"]) == 3 * 10
    assert application["evicted_bytes"] >= 4 << 20
    # with cold caches, quantising and copying it cannot be quicker than the bare chain
    assert np.median(application["ns"]) > np.median(found["latency"]["ns"])
    assert found["clocks"]["problem"] == ""
    assert found["operators"] == found["controls"] == []


def test_operators_come_with_windows_of_the_whole(job: Any, models: Path) -> None:
    operators = [{"index": k, "file": str(models / "head.tflite")} for k in range(7)]
    found = job([("cnn_f32", 1, None)], ["latency", "operators"], operators=operators, operator_iterations=3,
                operator_duration_s=0.0)["passes"]
    assert len(found["controls"]) == 3
    assert [len(entry["ns"]) for entry in found["operators"]] == [3] * 7


@pytest.mark.parametrize("passes", [["application"], ["latency", "energy_operators"]])
def test_a_pass_that_needs_another_says_so(job: Any, passes: list[str]) -> None:
    with pytest.raises(JobFailed, match="needs the pass"):
        job([("cnn_f32", 1, None)], passes)


def test_without_a_sensor_no_time_is_spent_on_power(job: Any, tmp_path: Path) -> None:
    found = job([("cnn_f32", 1, None)], ["power"], sense={"root": str(tmp_path), "sensors": ["hwmon", "cpu"]})
    assert found["passes"]["power"] == {"problem": "", "sensed": False}


def test_power_and_the_operators_of_a_board_with_a_sensor(models: Path, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """Short windows: what they hold is checked here, what is made of them in tests/runners/power."""
    monitor = tmp_path / "sys/class/hwmon/hwmon0"
    monitor.mkdir(parents=True)
    (monitor / "name").write_text("ina226\n")
    (monitor / "power1_input").write_text("2500000\n")
    monkeypatch.syspath_prepend(str(PAYLOAD.parent))
    payload = loaded(PAYLOAD)
    for name, value in (("STILL_S", 0.1), ("READINGS", 2), ("PAIRS", 3)):
        monkeypatch.setattr(payload, name, value)
    spec = {"passes": ["power", "operators", "energy_operators"], "inputs": str(models / "inputs.npy"),
            "operators": [{"index": 4, "file": str(models / "head.tflite"), "runs": 1},
                          {"index": 5, "file": str(models / "stem.tflite"), "runs": 2}],
            "marks": False, "threads": 1, "warmup": 1, "iterations": 5, "duration_s": 0.01, "out": str(tmp_path),
            "operator_duration_s": 0.001, "energy_operators": 1,
            "sense": {"root": str(tmp_path), "sensors": ["hwmon"], "interval_s": 0.02},
            "stages": [{"file": str(models / "cnn_f32.tflite"), "repeat": 1, "times": None}]}
    (tmp_path / "job.json").write_text(json.dumps(spec))
    try:
        payload.main(str(tmp_path / "job.json"))
    finally:
        gc.enable()                                    # the payload has switched it off
    found = json.loads((tmp_path / "result.json").read_text())["passes"]
    assert found["power"] == {"problem": "", "sensed": True}
    timed = power.read(tmp_path / "power.jsonl")
    assert set(timed.windows) == {"idle", "timed", "idle-after"}
    assert timed.windows["timed"].inferences >= 5
    assert timed.windows["idle"].end_s <= timed.windows["timed"].start_s
    assert timed.windows["timed"].end_s <= timed.windows["idle-after"].start_s
    single = found["energy_operators"]
    (one,) = single["operators"]
    recorded = power.read(tmp_path / "operators.jsonl")
    both = [f"{one['index']} {word} {pair}" for pair in range(3) for word in ("without", "with")]
    assert set(recorded.windows) == {"idle", "idle-after", *both}
    assert {recorded.windows[name].inferences for name in both} == {one["chain_runs"]}
    order = sorted(both, key=lambda name: recorded.windows[name].start_s)
    assert [name.split()[1] for name in order] == ["without", "with", "with", "without", "without", "with"]
    assert {total_w for s in recorded.power for total_w in s.rails.values()} == {2.5}


@pytest.mark.skipif(platform.machine() == "aarch64", reason="this kernel may have the counter")
def test_where_the_kernel_has_no_counter_it_is_time_that_is_told(job: Any) -> None:
    """Its count itself is held against the emulator's in tests/virtual, on the guest that it is for."""
    told = job([("cnn_f32", 1, None)], ["latency"], iterations=3, duration_s=0.0, counter=True)
    assert told["counter"] is False
    assert min(told["passes"]["latency"]["ns"]) > 0
