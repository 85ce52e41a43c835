"""What a run leaves behind when it ends early, and findings about numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hwkit.artifact import Artifact, Built, Operator, StageFile
from hwkit.errors import BoardError, JobFailed
from hwkit.runners import OperatorCost, _findings, _tflite_run

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
