"""Faults of a virtual board and on it: what hwkit says of them, and that the board is of use again afterwards."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from hwkit import board as boards
from hwkit import virtual
from hwkit.board import Board
from hwkit.errors import BoardError, BoardFault
from hwkit.faults import Fault
from hwkit.inject import guest, onboard
from hwkit.lab import Place
from hwkit.runners import _doctor, _link
from hwkit.runners._link import connect
from hwkit.virtual import image, machine
from hwkit.virtual.options import options

pytestmark = [pytest.mark.qemu, pytest.mark.skipif(
    image.image() is None, reason="no virtual board is made (hwkit board make virtual-rpi4)")]

SLEEP = ["python", "-c", "import time; print('begun', flush=True); time.sleep(60)"]


def quiet(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    chosen = boards.board("virtual-rpi4").model_copy(update={"name": f"test-{os.getpid()}-inject"})
    machine.make(chosen, quiet)
    try:
        machine.start(chosen, quiet)
        yield chosen
    finally:
        machine.remove(chosen.name)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_link, "AGAIN_S", 2.0)


def place_of(board: Board) -> Place:
    return virtual.place(board).model_copy(update={"silence_s": 3.0})


def works(place: Place) -> None:
    with connect(place, quiet) as link:
        assert link.run(["python", "-c", "print(6 * 7)"], timeout_s=60).output == "42"
        assert link.paths(".") == []


def fault_while_it_runs(place: Place, deed: Callable[[], object]) -> BoardFault:
    doing = threading.Thread(target=deed)
    with pytest.raises(BoardFault) as caught, connect(place, quiet) as link:
        link.run(SLEEP, timeout_s=90, on_line=lambda line: doing.start())
    doing.join()
    return caught.value


def doctor(board: Board) -> dict[str, _doctor.Row]:
    return {row.what: row for row in _doctor.judged(_doctor.seen(place_of(board), quiet), board)}


def test_a_healthy_board_is_what_it_is_described_as(board: Board) -> None:
    rows = doctor(board)
    assert {row.state for row in rows.values()} <= {"ok", "warn"}
    assert (rows["architecture"].detail, rows["cores"].detail) == ("aarch64", "4 x cortex-a72")
    assert "ai_edge_litert" in rows["runtime of tflite"].detail
    assert rows["power sensors"].detail == "ina226 (hwmon0), simulated"


def test_a_hot_board(board: Board) -> None:
    place = place_of(board)
    onboard.override(place, {"temperature_c": 95.0, "clock_hz": 0.6e9})
    try:
        works(place)                                   # for longer than the sensors take to follow
        rows = doctor(board)
        assert (rows["temperature"].state, rows["temperature"].detail[:5]) == ("warn", "95 °C")
        assert rows["clocks"].detail.startswith("600 MHz of ")
    finally:
        onboard.override(place, {})


def test_a_full_disk(board: Board) -> None:
    place = place_of(board)
    with onboard.full_disk(place, 1_000_000):
        assert doctor(board)["free disk"].state == "missing"
        with pytest.raises(BoardFault) as caught, connect(place, quiet) as link:
            link.put(bytes(2_000_000), "large")
        assert caught.value.fault is Fault.DISK_FULL
    works(place)


def test_killed_programs(board: Board) -> None:
    place = place_of(board)
    assert fault_while_it_runs(place, lambda: onboard.kill(place, "program")).fault is Fault.PROCESS_FAILED
    assert fault_while_it_runs(place, lambda: onboard.kill(place, "agent")).fault is Fault.OUT_OF_MEMORY
    works(place)


def test_frozen_reset_and_last_of_all_killed(board: Board) -> None:
    place = place_of(board)
    assert fault_while_it_runs(place, lambda: guest.do(board.name, "freeze")).fault is Fault.BOARD_LOST
    guest.do(board.name, "thaw")
    works(place)
    error = fault_while_it_runs(place, lambda: guest.do(board.name, "reset"))
    assert error.fault is Fault.BOARD_LOST
    machine.wait(board.name, options(board).boot_s, boots=2)
    works(place)
    assert fault_while_it_runs(place, lambda: guest.do(board.name, "kill")).fault is Fault.BOARD_LOST
    with pytest.raises(BoardError, match="does not run"):
        guest.do(board.name, "kill")
