"""The artifact on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit import board as boards
from hwkit.artifact import Artifact, StageFile
from hwkit.errors import BadDescription, BadInput, JobFailed
from hwkit.runners import Request, Run, local

QUICK = Request(iterations=30, duration_s=0.05, energy=False)


def say(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def ran(int8_cnn: Callable[[str], Artifact]) -> Run:
    return local.run(int8_cnn("host"), boards.board("host"), QUICK, say)


def finding(run: Run, name: str) -> Any:
    return next(f for f in run.findings if f.name == name)


def measurement(run: Run, quantity: str) -> Any:
    return next(m for m in run.measurements if m.quantity == quantity)


def test_what_it_measures(ran: Run) -> None:
    assert [m.quantity for m in ran.measurements] == [
        "latency", "application_latency", "runtime_rss", "resident_weights", "peak_rss"]
    assert {m.kind for m in ran.measurements} == {"measured"}
    latency = measurement(ran, "latency")
    assert len(latency.samples) >= 30
    assert latency.low <= latency.value <= latency.high
    assert measurement(ran, "peak_rss").value > measurement(ran, "runtime_rss").value


def test_what_it_does_not_measure_it_says(ran: Run) -> None:
    assert set(ran.not_measured) == {"energy"}


def test_outputs_are_checked(ran: Run) -> None:
    assert finding(ran, "outputs as built").ok is True
    assert "all 6 are bit-identical" in finding(ran, "outputs as built").text


def test_answers_are_counted(ran: Run, interpreted: Any, samples: Any, expected: Any) -> None:
    cnn = interpreted("cnn_int8")
    answers = [int(np.argmax(cnn.raw(cnn.quantised(x[None])))) for x in samples]
    agree = sum(a == b for a, b in zip(answers, np.argmax(expected["cnn"], axis=1), strict=True))
    assert f"{agree} of 6 answers are the trained network's; {agree} of 6 are right" \
        in finding(ran, "answers on the board").text


def test_operators_are_costed_and_summed(ran: Run, int8_cnn: Callable[[str], Artifact]) -> None:
    operators = int8_cnn("host").manifest.built.operators
    assert [c.index for c in ran.operator_costs] == [o.index for o in operators]
    assert (ran.operator_unit, ran.operator_kind) == ("s", "measured")
    assert "of the whole" in finding(ran, "operators add up").text


def test_wrong_outputs_are_found(make_artifact: Any, samples: Any) -> None:
    wrong = make_artifact("host", [StageFile(name="cnn", file="cnn_int8.tflite")], inputs=samples,
                          raw_outputs=np.zeros((6, 5), np.int8))
    found = local.run(wrong, boards.board("host"), QUICK, say)
    assert finding(found, "outputs as built").ok is False
    assert "operators" in found.not_measured


def test_outputs_of_another_datatype_are_found(make_artifact: Any, samples: Any) -> None:
    wrong = make_artifact("host", [StageFile(name="cnn", file="cnn_int8.tflite")], inputs=samples,
                          raw_outputs=np.zeros((6, 5), np.float32))
    found = finding(local.run(wrong, boards.board("host"), QUICK, say), "outputs as built")
    assert found.ok is False
    assert "int8" in found.text


def test_a_payload_that_takes_too_long_is_ended(int8_cnn: Callable[[str], Artifact]) -> None:
    hasty = boards.board("host").model_copy(update={"options": {"timeout_s": 1.0}})
    with pytest.raises(JobFailed, match="longer than"):
        local.run(int8_cnn("host"), hasty, Request(duration_s=60), say)


def test_an_artifact_of_another_backend_is_refused(small_artifact: Artifact, tmp_path: Path) -> None:
    built = small_artifact.manifest.built.model_copy(update={"stages": (StageFile(name="n", file="net.bit"),)})
    other = Artifact(folder=tmp_path, manifest=small_artifact.manifest.model_copy(update={"built": built}))
    with pytest.raises(BadInput, match=r"no \.tflite stages"):
        local.run(other, boards.board("host"), QUICK, say)


def test_an_option_it_does_not_know_is_refused() -> None:
    wrong = boards.board("host").model_copy(update={"options": {"timeout": 3}})
    with pytest.raises(BadDescription, match="timeout_s"):
        local.missing(wrong)
