"""Whole runs on virtual boards: real ssh, real Linux, real ARM code; one is killed, one has an engine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hwkit import board as boards
from hwkit import pipeline
from hwkit.artifact import Artifact
from hwkit.board import Board
from hwkit.data import shipped
from hwkit.matrix import work
from hwkit.matrix.cells import Matrix
from hwkit.report import read
from hwkit.runners import Request, Run, qemu_user, virtual
from hwkit.virtual import image, machine
from tests import small_engine

pytestmark = [pytest.mark.qemu, pytest.mark.skipif(
    image.image() is None, reason="no virtual board is made (hwkit board make virtual-rpi4)")]

QUICK = Request(iterations=10, duration_s=0.05)

def say(text: str) -> None:
    pass


@pytest.fixture
def another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Board]]:
    """another(like): a fresh board like a shipped one, made and not yet started; it is gone afterwards."""
    made = []

    def make(like: str) -> Board:
        name = f"test-{os.getpid()}-{len(made)}-of-{like}"
        (tmp_path / "boards").mkdir(exist_ok=True)
        text = shipped("boards", f"{like}.toml").read_text()
        (tmp_path / f"boards/{name}.toml").write_text(text.replace(f'name = "{like}"', f'name = "{name}"'))
        monkeypatch.setenv("HWKIT_PATH", str(tmp_path))
        chosen = boards.board(name)
        machine.make(chosen, say)
        made.append(name)
        return chosen

    yield make
    for name in made:
        machine.remove(name)


def quantity(run: Run, name: str) -> Any:
    return next((m for m in run.measurements if m.quantity == name), None)


def test_counted_twice_and_by_another_counter(another: Any, int8_cnn: Callable[[str], Artifact],
                                              emulated: Board) -> None:
    """Two fresh boards give the very same count; QEMU's plugin, which knows nothing of the guest, agrees."""
    artifact, counts = int8_cnn("rpi4"), []
    for chosen in (another("virtual-rpi4"), another("virtual-rpi4")):
        machine.start(chosen, say, deterministic=True)
        run = virtual.run(artifact, chosen, QUICK, say)
        assert quantity(run, "guest_latency") is None
        assert quantity(run, "latency").kind == "estimated"
        assert quantity(run, "instructions").kind == "simulated"
        assert all(f.ok is not False for f in run.findings)
        counts.append(quantity(run, "instructions").samples)
        machine.stop(chosen.name)
    assert counts[1] == pytest.approx(counts[0], rel=1e-3)
    plugin = quantity(qemu_user.run(artifact, emulated, QUICK, say), "instructions").value
    assert counts[0][-1] == pytest.approx(plugin, abs=3000)      # Python's calls, which each counts in its own way


def test_a_guest_killed_in_the_middle_of_a_matrix(another: Any, int8_cnn: Callable[[str], Artifact],
                                                  tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cell is tried again on the board started anew, and its answers are those of an undisturbed run.

    What is built is not what is tested: both models stand for the same small network, built before.
    """
    chosen, artifact = another("virtual-rpi4"), int8_cnn("rpi4")
    monkeypatch.setattr(pipeline, "build", lambda *_: artifact)
    matrix = Matrix.model_validate({
        "name": "two", "models": ["dsodenet", "resnet8"], "precisions": ["int8"], "boards": [chosen.name],
        "retries": {"limit": 2, "first_s": 0.01, "longest_s": 0.02},
        "request": {"iterations": 10, "duration_s": 0.05}})
    killed: list[str] = []

    def kill_once(text: str) -> None:
        if not killed and text.startswith("dsodenet") and text.endswith("latency"):
            killed.append(text)
            machine.kill(chosen.name)

    found, _ = work.execute(matrix, tmp_path / "two", False, "hwkit matrix", kill_once)
    assert killed
    assert [cell.state for cell in found.cells] == ["finished", "finished"]
    journal = [json.loads(line) for line in (tmp_path / "two" / work.JOURNAL).read_text().splitlines()]
    told = [(r["event"], r.get("fault")) for r in journal if r.get("cell", "").startswith("dsodenet")]
    assert told == [("started", None), ("attempt", None), ("failed", "board-lost"), ("attempt", None),
                    ("finished", None)]
    first, second = (read(tmp_path / "two" / cell.report).reports[0] for cell in found.cells)
    same = [[f for f in r.findings if f.name in ("outputs as built", "answers on the board")]
            for r in (first, second)]
    assert same[0] == same[1]
    assert same[0][0].ok is True
    before = len(journal)
    again, _ = work.execute(matrix, tmp_path / "two", False, "hwkit matrix", say)
    assert all(cell.earlier for cell in again.cells)
    later = (tmp_path / "two" / work.JOURNAL).read_text().splitlines()[before:]
    assert "attempt" not in [json.loads(line)["event"] for line in later]


def test_an_engine_behind_a_virtual_processor(another: Any, tmp_path: Path) -> None:
    """Stem and head on the guest, the convolutions in the Verilated RTL: bit for bit the integer reference."""
    artifact = small_engine.artifact(tmp_path / "engine")
    run = virtual.run(artifact, another("virtual-zcu104"), Request(), say)
    judged = {f.name: f.ok for f in run.findings}
    assert {name for name, ok in judged.items() if ok is True} >= {
        "states as built", "results as built", "outputs as built", "outputs = integer reference", "stored images",
        "cycles as scheduled", "images on the board"}
    assert False not in judged.values()
    assert quantity(run, "cycles").kind == "simulated"
    assert quantity(run, "latency") is None
