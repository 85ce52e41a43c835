"""What a run leaves behind when it ends early, and findings about numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.artifact import Artifact, Built, Operator, StageFile
from hwkit.board import Board
from hwkit.errors import BoardError, JobFailed
from hwkit.measurement import Measurement
from hwkit.runners import OperatorCost, OperatorEnergy, Request, Run, _findings, _tflite_run
from hwkit.target import target

HALF = {"runtime": "ai-edge-litert", "runtime_version": "2.3.0", "numpy": "2", "python": "3.11", "machine": "x",
        "passes": {"outputs": {"n": 1, "dtype": "int8"}}}
DIED = JobFailed("the artifact: was ended by signal SIGSEGV: progress: operator 3 of 9")


def left(folder: Path, passes: list[str], result: object) -> Path:
    (folder / "job.json").write_text(json.dumps({"passes": passes}))
    if result is not None:
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_a_death_among_the_operators_keeps_the_rest(tmp_path: Path) -> None:
    result, why = _tflite_run.salvaged(left(tmp_path, ["outputs", "operators"], HALF), DIED)
    assert result.passes.outputs is not None
    assert "SIGSEGV" in why


@pytest.mark.parametrize("passes", [["outputs", "instructions", "operators"], ["outputs", "instructions"]])
def test_a_death_before_that_is_an_error(tmp_path: Path, passes: list[str]) -> None:
    with pytest.raises(JobFailed, match="SIGSEGV"):
        _tflite_run.salvaged(left(tmp_path, passes, HALF), DIED)


def test_a_death_at_once_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="SIGSEGV"):
        _tflite_run.salvaged(left(tmp_path, ["outputs"], None), DIED)


def test_a_result_that_is_no_result_is_the_boards_fault(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="cannot be read"):
        _tflite_run.read_result(left(tmp_path, [], {"passes": 3}))
    with pytest.raises(BoardError, match="cannot be read"):
        _tflite_run.read_outputs(tmp_path)


@pytest.fixture
def repeated(small_artifact: Artifact) -> Artifact:
    """Three operators, the first two of one file; the last one runs four times an inference."""
    operators = (Operator(index=0, name="CONV_2D", stage="net", file="ops/a"),
                 Operator(index=1, name="CONV_2D", stage="net", file="ops/a"),
                 Operator(index=2, name="ADD", stage="net", file="ops/b", repeat=4))
    built = Built(files=(), stages=(StageFile(name="net", file="net.tflite"),), operators=operators)
    return Artifact(folder=small_artifact.folder,
                    manifest=small_artifact.manifest.model_copy(update={"built": built}))


def test_equal_operators_are_profiled_once_and_counted_each(repeated: Artifact) -> None:
    assert _tflite_run.sliced(repeated) == {"ops/a": [0, 1], "ops/b": [2]}
    costs = _tflite_run.costs(repeated, {0: 100.0, 2: 5.0})
    assert costs == tuple(OperatorCost(index=i, value=v) for i, v in enumerate((100.0, 100.0, 5.0)))
    fine = _findings.operators_add_up(repeated, costs, [], 220.0, "instructions")
    assert fine.ok is True
    assert "1.00 of the whole" in fine.text


def test_a_sum_that_is_off_is_said(repeated: Artifact) -> None:
    off = _findings.operators_add_up(repeated, _tflite_run.costs(repeated, {0: 100.0}), ["too big"], 100.0, "s")
    assert off.ok is None
    assert "2.00 of the whole" in off.text
    assert "1 of 3 not profiled (too big)" in off.text
    assert "as an order" in off.text


def test_one_step_of_quantisation_is_a_note_and_two_are_a_failure(small_artifact: Artifact) -> None:
    golden = np.array([[1, 2], [3, 4]], np.int8)
    np.save(small_artifact.path("golden/raw_outputs.npy"), golden)
    verdicts = [_findings.same_outputs(small_artifact, golden + np.array([[0, 0], [0, d]], np.int8))
                for d in (0, 1, 2)]
    assert [v.ok for v in verdicts if v] == [True, None, False]
    assert "1 of 2 are bit-identical" in str(verdicts[1])


def test_a_nan_is_a_failure(small_artifact: Artifact) -> None:
    np.save(small_artifact.path("golden/raw_outputs.npy"), np.ones((1, 2), np.float32))
    found = _findings.same_outputs(small_artifact, np.array([[1, np.nan]], np.float32))
    assert found is not None
    assert found.ok is False


def test_outliers_and_drift_are_said_and_kept() -> None:
    steady = [1.0 + 0.001 * (k % 7) for k in range(60)]
    assert _findings.steadiness(steady) == []
    assert [f.name for f in _findings.steadiness([*steady[:30], 9.0, *steady[30:]])] == ["outliers"]
    assert "drift" in [f.name for f in _findings.steadiness([s * (1 + 0.01 * k) for k, s in enumerate(steady)])]


Ran = Callable[..., Run]


@pytest.fixture
def told(int8_cnn: Callable[[str], Artifact], tmp_path: Path) -> Ran:
    """told(clock, **passes): what is told of a folder with such a result, of a board of the rpi4."""
    def tell(clock: Any, **passes: Any) -> Run:
        artifact = int8_cnn("rpi4")
        golden = np.load(artifact.path("golden/raw_outputs.npy"))
        np.save(tmp_path / "raw_outputs.npy", golden)
        np.save(tmp_path / "outputs.npy", np.load(artifact.path("golden/outputs.npy")))
        resident = {"rss": 30_000_000, "anonymous": 20_000_000}
        found = {"memory": {"before": resident, "loaded": resident, "invoked": resident, "peak_rss": 31_000_000},
                 "latency": {"ns": [1_000_000] * 9, "every": 1, "windows": [3, 3, 3]}, **passes}
        (tmp_path / "result.json").write_text(json.dumps({**HALF, "passes": found}))
        kind: Any = "measured" if clock == "real" else "simulated"
        board = Board(name="some", description="a board", target="rpi4", kind=kind, runner="ssh")
        return _tflite_run.told(artifact, board, Request(), tmp_path, clock=clock)

    return tell


def by_name(run: Run) -> dict[str, Measurement]:
    return {m.quantity: m for m in run.measurements}


def test_a_real_clock_measures_time(told: Ran) -> None:
    run = told("real", application={"ns": [2_000_000] * 5, "evicted_bytes": 4 << 20},
               power={"problem": "", "sensed": False})
    found = by_name(run)
    assert (found["latency"].value, found["latency"].kind) == (1e-3, "measured")
    assert (found["application_latency"].value, found["application_latency"].kind) == (2e-3, "measured")
    assert "4 MiB of other data" in found["application_latency"].source
    assert found["peak_rss"].value == 31_000_000
    assert run.not_measured["energy"] == _tflite_run.NO_ENERGY


def test_an_emulators_clock_measures_no_time_of_a_device(told: Ran) -> None:
    run = told("emulated", operators=[{"index": 0, "ns": [1000] * 3}])
    found = by_name(run)
    assert "latency" not in found
    assert (found["guest_latency"].value, found["guest_latency"].kind) == (1e-3, "simulated")
    assert found["peak_rss"].kind == "simulated"
    assert "says nothing of a device" in run.not_measured["latency"]
    assert run.operator_costs == ()
    assert set(run.not_measured) == {"latency", "operators", "energy"}


def test_a_clock_of_instructions_counts_and_estimates(told: Ran, int8_cnn: Callable[[str], Artifact]) -> None:
    """A million instructions; the estimate is that over the clock and the range of the target, by hand."""
    operators = [{"index": o.index, "ns": [200_000] * 3} for o in int8_cnn("rpi4").manifest.built.operators]
    run = told("instructions", operators=operators)
    found = by_name(run)
    assert (found["instructions"].value, found["instructions"].unit) == (1_000_000, "instructions")
    cpu = target("rpi4").cpu
    assert cpu is not None
    rate = cpu.instructions_per_cycle
    assert rate is not None
    assert found["latency"].kind == "estimated"
    assert found["latency"].low == pytest.approx(1e6 / (cpu.clock_hz.value * rate.high))
    assert found["latency"].high == pytest.approx(1e6 / (cpu.clock_hz.value * rate.low))
    assert (run.operator_unit, run.operator_kind) == ("instructions", "simulated")
    assert {c.value for c in run.operator_costs} == {200_000}
    assert not {f.name for f in run.findings} & {"drift", "outliers", "throttling"}


def test_throttling_beside_the_timed_pass_is_a_failed_check(told: Ran, tmp_path: Path) -> None:
    policy = "devices/system/cpu/cpufreq/policy0/"
    files = {policy + "scaling_cur_freq": "600000", policy + "scaling_governor": "performance"}
    lines = [{"t_s": 0.0, "kind": "start"},
             {"t_s": 0.0, "kind": "fixed", "sensor": "cpu", "files": {policy + "cpuinfo_max_freq": "1500000"}},
             *({"t_s": k, "kind": "reading", "sensor": "cpu", "files": files} for k in range(3)),
             {"t_s": 3.0, "kind": "window", "text": "timed-0",
              "values": {"start_s": 0.5, "end_s": 2.5, "inferences": 9}}, {"t_s": 3.0, "kind": "end"}]
    (tmp_path / "clocks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    hot = next(f for f in told("real", clocks={"problem": ""}).findings if f.name == "throttling")
    assert hot.ok is False
    assert "in 2 of 2 readings" in hot.text
    assert "policy0 at 600 of 1500 MHz" in hot.text


def test_windows_that_differ_are_said(told: Ran) -> None:
    slower = told("real", latency={"ns": [1_000_000] * 6 + [1_200_000] * 3, "every": 1, "windows": [3, 3, 3]})
    assert "window 3 of 3 take +20 %" in next(f.text for f in slower.findings if f.name == "drift")
    later = told("real", controls=[{"ns": [1_300_000] * 3, "every": 1}])
    assert "between the operators take +30 %" in next(f.text for f in later.findings if f.name == "drift")
    assert not [f for f in told("real").findings if f.name == "drift"]


def test_energies_of_operators_that_share_a_file_are_each_ones(repeated: Artifact) -> None:
    one = OperatorEnergy(index=0, value_j=1.0, low_j=0.9, high_j=1.1, kind="measured", source="x")
    assert [e.index for e in _tflite_run._each(repeated, [one])] == [0, 1]


@pytest.mark.parametrize(("clock", "request_", "passes"), [
    ("real", Request(), {"clocks", "application", "power", "operators"}),
    ("real", Request(application=False, energy=False, operators=False), {"clocks"}),
    ("real", Request(operators=False, energy_operators=3),
     {"clocks", "application", "power", "operators", "energy_operators"}),
    ("emulated", Request(), {"clocks"}), ("emulated", Request(energy=True), {"clocks", "power"}),
    ("instructions", Request(energy=True, energy_operators=3), {"operators"})])
def test_passes_by_the_clock(int8_cnn: Callable[[str], Artifact], clock: Any, request_: Request,
                             passes: set[str]) -> None:
    asked = _tflite_run.passes_of(int8_cnn("rpi4"), request_, clock)
    assert asked[:3] == ("memory", "outputs", "latency")
    assert set(asked[3:]) == passes


def test_few_inferences_where_they_are_counted(int8_cnn: Callable[[str], Artifact], tmp_path: Path) -> None:
    job = _tflite_run.write_job(int8_cnn("rpi4"), Request(), ["latency"], tmp_path, marks=False,
                                clock="instructions")
    told = json.loads(job.read_text())
    assert (told["iterations"], told["duration_s"], told["operator_iterations"]) == (3, 0.0, 3)
