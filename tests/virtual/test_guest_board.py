"""A virtual board as its user has it: booted, reached over ssh, frozen, reset, ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from hwkit import board as boards
from hwkit import virtual
from hwkit.board import Board
from hwkit.errors import BadInput, BoardError, JobFailed
from hwkit.lab import Place
from hwkit.virtual import image, machine

pytestmark = [pytest.mark.qemu, pytest.mark.skipif(
    image.image() is None, reason="no virtual board is made (hwkit board make virtual-rpi4)")]

ANSWER_S = 120.0
# A program's own instructions by the processor's counter, and the nanoseconds by its clock, of a numpy product and
# of so many steps of Python and twice as many; the least of several, which no timer interrupted.
COUNTS = """
import ctypes, json, os, struct, time, numpy
words = bytearray(struct.pack("<2I5Q", 0, 128, 1, 0, 0, 0, 0b1100000).ljust(128, bytes(1)))
fd = ctypes.CDLL(None).syscall(241, (ctypes.c_char * 128).from_buffer(words), 0, -1, -1, 0)
a = numpy.random.default_rng(0).normal(size=(96, 96)).astype("float32")
def count(work):
    read, start = os.read(fd, 8), time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - start, struct.unpack("<Q", os.read(fd, 8))[0] - struct.unpack("<Q", read)[0]
works = [lambda: a @ a, lambda: [None for _ in range(4000)], lambda: [None for _ in range(8000)]]
print(json.dumps([[min(column) for column in zip(*[count(work) for _ in range(15)])] for work in works]))
"""


def quiet(text: str) -> None:
    pass


async def _over_ssh(place: Place, command: str, **changed: object) -> str:
    words = {"client_keys": [str(place.key)], "known_hosts": str(place.known_hosts), "username": place.user,
             "config": None, "agent_path": None, **changed}
    async with asyncssh.connect(place.host, place.port, **words) as link:
        done = await asyncio.wait_for(link.run(command, check=True, stdin=asyncssh.DEVNULL), ANSWER_S)
    return str(done.stdout)


def over_ssh(place: Place, command: str, **changed: object) -> str:
    """What a command prints on the board, its host key checked against the board's own file."""
    return asyncio.run(_over_ssh(place, command, **changed))


def python(place: Place, code: str) -> str:
    return over_ssh(place, f"PYTHONHASHSEED=0 OMP_NUM_THREADS=1 PYTHONPATH={place.site} python3 -c '{code}'")


def another(suffix: str) -> Board:
    """A board of this test's own, made from the shared image: others may use the shipped one meanwhile."""
    return boards.board("virtual-rpi4").model_copy(update={"name": f"test-{os.getpid()}-{suffix}"})


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> Iterator[Board]:
    """A board that is made and does not run."""
    chosen = another(str(abs(hash(request.node.name))))
    machine.make(chosen, quiet)
    yield chosen
    machine.remove(chosen.name)


START = """
import sys
from hwkit.board import board
from hwkit.virtual import machine
print(machine.start(board("virtual-rpi4").model_copy(update={"name": sys.argv[1]}), lambda text: None).pid)
"""


def starting(name: str) -> subprocess.Popen[bytes]:
    """A process that starts a board and prints the number of QEMU's."""
    return subprocess.Popen([sys.executable, "-c", START, name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def booted() -> Iterator[tuple[Board, Place]]:
    """A board that two processes started at the same time."""
    chosen = another("booted")
    machine.make(chosen, quiet)
    children = [starting(chosen.name) for _ in range(2)]
    told = [child.communicate(timeout=ANSWER_S)[0] for child in children]
    assert told[0] == told[1] != b""
    yield chosen, virtual.place(chosen)
    machine.remove(chosen.name)


def test_it_is_debian_on_the_named_core(booted: tuple[Board, Place]) -> None:
    chosen, place = booted
    said = over_ssh(place, "uname -m; nproc; cat /etc/hwkit-virtual; grep -m1 part /proc/cpuinfo; id -u; hostname")
    machine_, cores, about, part, user, host = said.splitlines()
    assert (machine_, cores, user, host) == ("aarch64", "4", "0", chosen.name)
    assert "0xd08" in part                                    # MIDR of a Cortex-A72
    told = json.loads(about)
    assert (told["board"], told["simulated"], told["clock"]) == (chosen.name, True, "emulated")
    assert virtual.mode(chosen) == "emulated"


def test_its_runtime_is_there(booted: tuple[Board, Place]) -> None:
    said = python(booted[1], "import numpy, ai_edge_litert.interpreter as i; print(numpy.__version__, i.__name__)")
    assert said == "2.4.6 ai_edge_litert.interpreter\n"


def test_only_its_key_opens_it_and_only_its_host_key_is_believed(booted: tuple[Board, Place], fresh: Board,
                                                                ) -> None:
    place = booted[1]
    other = machine.folder(fresh.name)
    with pytest.raises(asyncssh.PermissionDenied):
        over_ssh(place, "true", client_keys=[str(other / machine.KEY)])
    with pytest.raises(asyncssh.PermissionDenied):
        over_ssh(place, "true", client_keys=None, password="")
    wrong = f"[{place.host}]:{place.port} {(other / 'host_key.pub').read_text()}"
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        over_ssh(place, "true", known_hosts=asyncssh.import_known_hosts(wrong))


def test_it_reaches_nothing(booted: tuple[Board, Place]) -> None:
    """A service of this machine on the loopback, where the guest's gateway usually leads to."""
    with socket.create_server((machine.LOOPBACK, 0)) as here:
        code = ("import socket; s = socket.socket(); s.settimeout(2); "
                f"print(s.connect_ex((\"10.0.2.2\", {here.getsockname()[1]})) == 0)")
        assert python(booted[1], code) == "False\n"


def test_its_sensors_are_read_and_forced(booted: tuple[Board, Place]) -> None:
    place = booted[1]
    root = f"{place.sensors_root}/sys/class"
    read = f"cat {root}/hwmon/hwmon0/name {root}/hwmon/hwmon0/power1_input {root}/thermal/thermal_zone0/temp"
    name, microwatts, millidegrees = over_ssh(place, read).split()
    assert name == "ina226"
    assert 2.5 <= int(microwatts) / 1e6 <= 6.5                # boards/virtual-rpi4.toml: idle, idle + dynamic
    assert 39 <= int(millidegrees) / 1e3 <= 70
    clock = "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
    forced = over_ssh(place, f"""cd {place.sensors_root}; echo '{{"temperature_c": 91.5}}' > override; sleep 2
        cat sys/class/thermal/thermal_zone0/temp {clock}; rm override; sleep 2; cat {clock}""")
    assert forced.split() == ["91500", "750000", "1500000"]


def test_the_ssh_of_this_machine_knows_it(booted: tuple[Board, Place]) -> None:
    chosen = booted[0]
    config = machine.folder(chosen.name) / machine.SSH_CONFIG
    done = subprocess.run(["ssh", "-F", config, chosen.name, "echo", "hello"], capture_output=True, text=True,
                          timeout=ANSWER_S, stdin=subprocess.DEVNULL)
    assert done.stdout == "hello\n", done.stderr


def test_frozen_it_says_nothing_and_goes_on_where_it_was(booted: tuple[Board, Place],
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, place = booted
    monkeypatch.setattr(machine, "HELLO_S", 1.0)
    over_ssh(place, "echo kept > /run/mark")
    machine.freeze(chosen.name)
    assert machine.answers(chosen.name) is False
    machine.thaw(chosen.name)
    machine.wait(chosen.name, ANSWER_S)
    assert over_ssh(place, "cat /run/mark") == "kept\n"


def test_a_reset_forgets_its_memory_and_keeps_its_disk(booted: tuple[Board, Place]) -> None:
    chosen, place = booted
    over_ssh(place, "echo kept > /root/mark; echo lost > /run/mark; sync")
    machine.reset(chosen.name, ANSWER_S)
    assert over_ssh(place, "cat /root/mark; test ! -e /run/mark && echo lost") == "kept\nlost\n"


def test_it_is_started_once_and_in_one_mode(booted: tuple[Board, Place]) -> None:
    chosen, place = booted
    assert virtual.started(chosen, quiet) == place
    assert machine.start(chosen, quiet).port == place.port
    with pytest.raises(BadInput, match="runs in the other mode: its clock is emulated"):
        virtual.started(chosen, quiet, deterministic=True)


def test_ended_it_is_gone_and_started_again_it_is_fresh(booted: tuple[Board, Place]) -> None:
    chosen, place = booted
    over_ssh(place, "touch /root/mark; sync")
    before = machine.state(chosen.name)
    assert before is not None
    assert machine.stop(chosen.name)
    assert machine.state(chosen.name) is None
    with pytest.raises(BoardError, match="does not run"):
        virtual.place(chosen)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((place.host, place.port), 5)
    assert over_ssh(virtual.started(chosen, quiet), "ls /root") == ""
    assert machine.kill(chosen.name)
    assert machine.state(chosen.name) is None


def test_one_that_does_not_boot_shows_what_it_printed_and_is_gone(fresh: Board,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "KERNEL_WORDS", "console=ttyAMA0 earlycon rdinit=/nowhere root=/dev/nowhere")
    impatient = fresh.model_copy(update={"options": {**fresh.options, "boot_s": 4.0}})
    with pytest.raises(JobFailed, match="does not answer after 4 s") as caught:
        machine.start(impatient, quiet)
    assert "HWKIT_DEBUG" in caught.value.hint
    assert "] " in caught.value.log                           # the kernel's own lines
    assert machine.state(fresh.name) is None


def test_a_port_that_is_taken(fresh: Board) -> None:
    with socket.create_server((machine.LOOPBACK, 0)) as here:
        port = here.getsockname()[1]
        with pytest.raises(BoardError, match=f"port {port} of 127.0.0.1 is taken"):
            machine.start(fresh, quiet, port=port)
    assert machine.state(fresh.name) is None


def test_interrupted_while_it_boots_nothing_is_left(fresh: Board) -> None:
    child = starting(fresh.name)
    deadline = time.monotonic() + ANSWER_S
    while (found := machine.state(fresh.name)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found is not None
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=ANSWER_S)[0] == b""
    while Path(f"/proc/{found.pid}").exists() and machine.state(fresh.name) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert machine.state(fresh.name) is None


def test_two_deterministic_boards_count_the_same_instructions() -> None:
    counts = []
    for suffix in ("one", "two"):
        chosen = another(suffix)
        try:
            machine.make(chosen, quiet)
            place = virtual.started(chosen, quiet, deterministic=True)
            assert virtual.mode(chosen) == "instructions"
            counts.append(json.loads(python(place, COUNTS)))
        finally:
            machine.remove(chosen.name)
    for first, second in zip(*counts, strict=True):
        assert second == pytest.approx(first, rel=1e-3)
    product, once, twice = ([statistics.mean(column) for column in zip(*both, strict=True)]
                            for both in zip(*counts, strict=True))
    for nanoseconds, instructions in (once, twice):           # an instruction a nanosecond
        assert nanoseconds == pytest.approx(instructions, rel=0.02)
    assert twice[1] / once[1] == pytest.approx(2, rel=0.05)
    assert product[1] > 96**3 / 4                             # a multiply-add of four floats is one instruction
