"""What is known of a board that runs, and which boards are refused; nothing is booted."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hwkit import virtual
from hwkit.board import Board, board, names
from hwkit.errors import BadDescription, BadInput, BoardError, ToolMissing
from hwkit.files import write_json
from hwkit.virtual import image, machine
from hwkit.virtual.options import options

RAILS = {"idle_w": 1.0, "dynamic_w": 1.0, "volts_v": 5.0, "clock_hz": 1e9, "throttled_hz": 5e8}


def described(**changed: object) -> Board:
    return Board(name="mine", description="for this test", target="rpi4", kind="simulated", runner="virtual",
                 options={"cpu": "cortex-a72", "rails": RAILS, **changed})


def quiet(text: str) -> None:
    pass


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HWKIT_CACHE", str(tmp_path))
    return tmp_path


def kept(process: subprocess.Popen[bytes]) -> machine.State:
    """The state file of a board whose process this is."""
    ticks = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    told = machine.State(pid=process.pid, started_ticks=ticks, started_s=0.0, port=1, clock="emulated",
                         cpu="cortex-a72", cores=1, memory_bytes=1)
    write_json(machine.folder("mine") / machine.STATE, told.model_dump())
    return told


@pytest.fixture
def sleeper():
    child = subprocess.Popen(["sleep", "100"])
    yield child
    child.kill()
    child.wait()


def test_a_process_is_known_by_its_number_and_its_start(sleeper: subprocess.Popen[bytes]) -> None:
    told = kept(sleeper)
    assert machine.state("mine") == told
    other = told.model_copy(update={"started_ticks": told.started_ticks + 1})      # the number was used again
    write_json(machine.folder("mine") / machine.STATE, other.model_dump())
    assert machine.state("mine") is None
    assert machine.stop("mine") is False
    assert sleeper.poll() is None


def test_a_dead_one_does_not_run_even_before_it_is_buried(sleeper: subprocess.Popen[bytes]) -> None:
    kept(sleeper)
    assert machine.stop("mine") is True                     # by now a zombie: nobody has waited for it
    assert machine.state("mine") is None
    assert sleeper.wait(5) != 0


def test_one_that_does_not_listen_to_the_signal_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "STOP_S", 0.3)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(100)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    kept(child)
    assert machine.stop("mine") is True
    assert child.wait(5) == -9
    child.stdout.close()


def test_a_state_that_cannot_be_read_is_none() -> None:
    machine.folder("mine").mkdir(parents=True)
    (machine.folder("mine") / machine.STATE).write_text("{")
    assert machine.state("mine") is None


def test_what_does_not_run_is_nowhere() -> None:
    with pytest.raises(BoardError, match="does not run") as caught:
        virtual.place(described())
    assert caught.value.hint == "hwkit board start mine"
    with pytest.raises(BoardError, match="does not run"):
        machine.freeze("mine")
    assert virtual.mode(described()) is None


def test_what_is_not_made_says_how() -> None:
    with pytest.raises(ToolMissing, match="board mine is not made") as caught:
        virtual.started(described(), quiet)
    assert caught.value.hint == "hwkit board make mine"


def test_qemu_is_named_when_it_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="qemu-system-aarch64 is not installed") as caught:
        machine.make(described(), quiet)
    assert caught.value.hint == "apt-get install qemu-system-arm"


def test_each_board_has_keys_of_its_own_that_nobody_else_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "image", lambda: Path("/"))        # the image is another test's
    monkeypatch.setattr(image, "make", lambda say: Path("/"))
    keys = set()
    for name in ("mine", "other"):
        machine.make(described().model_copy(update={"name": name}), quiet)
        for key in (machine.KEY, machine.HOST_KEY):
            path = machine.folder(name) / key
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            keys.add(path.read_bytes())
            public = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True, check=True)
            assert (path.parent / f"{key}.pub").read_text().startswith(public.stdout.rsplit(" ", 1)[0])
    assert len(keys) == 4
    before = (machine.folder("mine") / machine.KEY).read_bytes()
    machine.make(described(), quiet)                              # made already: nothing changes
    assert (machine.folder("mine") / machine.KEY).read_bytes() == before
    assert machine.remove("mine") is True
    assert machine.remove("mine") is False
    assert not os.path.exists(machine.folder("mine"))


@pytest.mark.parametrize(("changed", "said"), [
    ({"cpu": "max"}, "wrong int8 results"), ({"cpu": "cortex-m4"}, "known: cortex-a53"),
    ({"cores": 0}, "cores"), ({"memory_bytes": 1000}, "memory_bytes"), ({"memory": 5}, "unknown key"),
    ({"rails": {**RAILS, "sensor": "ina9"}}, "sensor"), ({"rails": {"idle_w": 1.0}}, "missing")])
def test_options_that_are_wrong(changed: dict[str, object], said: str) -> None:
    with pytest.raises(BadDescription, match=said):
        options(described(**changed))


def test_a_board_that_is_not_virtual() -> None:
    with pytest.raises(BadInput, match="is not virtual: it is reached by local"):
        options(described().model_copy(update={"runner": "local"}))


def test_shipped_boards_are_described_right() -> None:
    virtual_ones = [b for b in map(board, names()) if b.runner == "virtual"]
    assert len(virtual_ones) >= 4
    for one in virtual_ones:
        about = options(one)
        assert one.kind == "simulated"
        assert about.cores == 4
        assert about.rails.throttled_hz < about.rails.clock_hz
