"""The artifact as ARM code on an emulated core."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwkit import board as boards
from hwkit.artifact import Artifact, StageFile
from hwkit.board import Board
from hwkit.describe import Interval
from hwkit.errors import BadDescription, BadInput, JobFailed
from hwkit.runners import Request, Run, qemu_user
from hwkit.target import target

pytestmark = pytest.mark.qemu


def say(text: str) -> None:
    pass


def instructions(run: Run) -> Any:
    return next(m for m in run.measurements if m.quantity == "instructions")


@pytest.fixture(scope="module")
def ran(int8_cnn: Callable[[str], Artifact], emulated: Board) -> Run:
    return qemu_user.run(int8_cnn("rpi4"), emulated, Request(), say)


def test_int8_is_bit_identical_to_this_machine(ran: Run) -> None:
    found = next(f for f in ran.findings if f.name == "outputs as built")
    assert found.ok is True
    assert "all 6 are bit-identical" in found.text


def test_it_ran_arm_code(ran: Run) -> None:
    assert "aarch64" in ran.tool_versions["python (board)"]


def test_counts_repeat_exactly(ran: Run, int8_cnn: Callable[[str], Artifact], emulated: Board) -> None:
    again = qemu_user.run(int8_cnn("rpi4"), emulated, Request(), say)
    assert instructions(again).samples == instructions(ran).samples
    assert again.operator_costs == ran.operator_costs


def test_inferences_of_one_run_cost_the_same(ran: Run) -> None:
    counts = instructions(ran).samples
    assert len(counts) == 3
    assert max(counts) - min(counts) < 2000      # Python around them, not the network


def test_operators_sum_to_the_whole(ran: Run, int8_cnn: Callable[[str], Artifact]) -> None:
    assert len(ran.operator_costs) == len(int8_cnn("rpi4").manifest.built.operators)
    total = sum(c.value for c in ran.operator_costs)
    # each operator alone pays for a call and a delegate of its own: some 4000 instructions
    overhead = 6000 * len(ran.operator_costs)
    assert 0.9 * instructions(ran).value < total < 1.1 * instructions(ran).value + overhead


def test_latency_is_estimated_from_the_targets_range(ran: Run) -> None:
    latency = next(m for m in ran.measurements if m.quantity == "latency")
    cpu = target("rpi4").cpu
    assert cpu is not None
    rate: Interval | None = cpu.instructions_per_cycle
    assert rate is not None
    assert latency.kind == "estimated"
    assert latency.low == pytest.approx(instructions(ran).value / cpu.clock_hz.value / rate.high)
    assert latency.high == pytest.approx(instructions(ran).value / cpu.clock_hz.value / rate.low)
    assert rate.source in latency.source


def test_what_it_cannot_know_it_says(ran: Run) -> None:
    assert set(ran.not_measured) == {"energy", "peak_rss"}
    assert {m.kind for m in ran.measurements} == {"simulated", "estimated"}


def test_weights_in_memory_are_the_programs_own(emulated: Board, make_artifact: Any) -> None:
    import numpy as np

    dense = make_artifact("rpi4", [StageFile(name="dense", file="dense_f32.tflite")],
                          inputs=np.zeros((1, 1024), np.float32))
    found = qemu_user.run(dense, emulated, Request(), say)
    resident = next(m for m in found.measurements if m.quantity == "resident_weights").value
    weights = 1024 * 1024 * 4
    assert 0.9 * weights < resident < 1.5 * weights


def test_float_outputs_differ_by_rounding_only(emulated: Board, make_artifact: Any, samples: Any,
                                               interpreted: Any, expected: Any) -> None:
    import numpy as np

    cnn = interpreted("cnn_f32")
    raw = np.concatenate([cnn.raw(x[None]) for x in samples])
    artifact = make_artifact("rpi4", [StageFile(name="cnn", file="cnn_f32.tflite")], inputs=samples,
                             raw_outputs=raw, expected=expected["cnn"])
    found = qemu_user.run(artifact, emulated, Request(), say)
    assert [f.ok for f in found.findings] == [True, True]


def test_a_core_with_dot_products_needs_fewer_instructions(ran: Run, int8_cnn: Callable[[str], Artifact]) -> None:
    a76 = boards.board("qemu-rpi5")
    qemu_user.make(a76, say)
    newer = qemu_user.run(int8_cnn("rpi5"), a76, Request(operators=False), say)
    assert instructions(newer).value < 0.8 * instructions(ran).value
    assert next(f for f in newer.findings if f.name == "outputs as built").ok is True


def test_threads_are_refused(int8_cnn: Callable[[str], Artifact], emulated: Board) -> None:
    with pytest.raises(BadInput, match="one thread"):
        qemu_user.run(int8_cnn("rpi4"), emulated, Request(threads=2), say)


def test_a_guest_that_fails_is_one_line(emulated: Board, make_artifact: Any, models: Path) -> None:
    import numpy as np

    wrong = make_artifact("rpi4", [StageFile(name="cnn", file="cnn_int8.tflite")],
                          inputs=np.zeros((1, 5, 5, 3), np.float32))
    with pytest.raises(JobFailed) as caught:
        qemu_user.run(wrong, emulated, Request(), say)
    assert caught.value.exit_code == 4
    assert "an input has shape [5, 5, 3], but cnn_int8.tflite takes [8, 8, 3]" in caught.value.line()


def test_a_guest_that_takes_too_long_is_ended(int8_cnn: Callable[[str], Artifact], emulated: Board) -> None:
    hasty = emulated.model_copy(update={"options": {**emulated.options, "timeout_s": 0.1}})
    with pytest.raises(JobFailed, match="longer than"):
        qemu_user.run(int8_cnn("rpi4"), hasty, Request(), say)


@pytest.mark.parametrize(("cpu", "words"), [("max", "wrong int8 results"), ("cortex-a7", "known: cortex-a53")])
def test_cores_that_are_not_emulated_faithfully_are_refused(emulated: Board, cpu: str, words: str) -> None:
    with pytest.raises(BadDescription) as caught:
        qemu_user.missing(emulated.model_copy(update={"options": {"cpu": cpu}}))
    assert words in caught.value.line()
    assert "[options]: cpu" in caught.value.line()


def test_what_is_missing_is_said(emulated: Board, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert qemu_user.missing(emulated) == []
    monkeypatch.setenv("HWKIT_CACHE", str(tmp_path))
    assert "not made: the aarch64 userland" in qemu_user.missing(emulated)[0].message
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install qemu-user" in qemu_user.missing(emulated)[0].message
