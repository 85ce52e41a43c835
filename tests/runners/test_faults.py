"""Faults made on purpose between hwkit and a board: each is called by its name, in one line; nothing stays on the
board; and where trying again can help, the second attempt gives what an undisturbed one gives.

The board is a stand-in: this machine behind a real ssh server on the loopback. The link is broken by hwkit.inject.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shlex
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hwkit.errors import BadInput, BoardFault
from hwkit.faults import Fault
from hwkit.inject import onboard
from hwkit.inject.proxy import Proxy, proxy
from hwkit.lab import Place
from hwkit.runners import _link
from hwkit.runners._link import Link, connect
from tests import sshd
from tests.commands import hwkit

INPUT = random.Random(5).randbytes(400_000)
HALF = 200_000                 # bytes of ssh: in the middle of INPUT, whatever came before it
WORK = ("import time; data = open('in', 'rb').read(); print('begun', flush=True); time.sleep(0.4);"
        "open('out', 'wb').write(data[::-1]); print('done')")
SHORT = {"connect_s": 4.0, "silence_s": 1.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    with sshd.running(tmp_path_factory.mktemp("board")) as found:
        yield found


@pytest.fixture
def board(server: sshd.Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place; afterwards the board must be as it was."""
    monkeypatch.setattr(_link, "AGAIN_S", 1.5)
    yield server.place(**SHORT)
    assert_as_found(server)


def assert_as_found(server: sshd.Sshd, within_s: float = 10.0) -> None:
    """Scratch empty, lock free, nothing running: hwkit's agent sees to that by itself, within seconds."""
    deadline = time.monotonic() + within_s
    while left := left_on(server):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def left_on(server: sshd.Sshd) -> list[str]:
    left = os.listdir(server.folder / "scratch")
    with contextlib.suppress(FileNotFoundError), (server.folder / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            left.append("locked")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "cwd").startswith(str(server.folder / "scratch")):
                left.append(process.name)
    return left


def quiet(text: str) -> None:
    pass


def attempt(place: Place, tmp_path: Path, meanwhile: Callable[[str], None] = quiet) -> bytes:
    """One whole use of a board: there, at work, back. `meanwhile` is called with each line of the program."""
    with connect(place, quiet) as link:
        link.put(INPUT, "in")
        link.run(["python", "-c", WORK], timeout_s=20, on_line=meanwhile)
        link.get("out", tmp_path / "out")
    return (tmp_path / "out").read_bytes()


def fault_of(place: Place, work: Callable[[], Any]) -> BoardFault:
    """The fault that ends it, told as one line."""
    with pytest.raises(BoardFault) as caught:
        work()
    line = caught.value.line()
    assert "\n" not in line
    assert len(line) < 400
    return caught.value


def test_undisturbed(board: Place, tmp_path: Path) -> None:
    assert attempt(board, tmp_path) == INPUT[::-1]
    with proxy(board) as plain:
        assert attempt(plain.place, tmp_path) == INPUT[::-1]
        assert plain.carried["board"] > len(INPUT)
        assert plain.carried["host"] > len(INPUT)


# --- the link ---

LINK = [
    ("dropped before it was made", {"drop_after": 1000}, Fault.LINK_DROPPED),
    ("dropped on the way there", {"towards": "board", "drop_after": HALF}, Fault.LINK_DROPPED),
    ("dropped on the way back", {"towards": "host", "drop_after": HALF}, Fault.LINK_DROPPED),
    ("truncated on the way there", {"towards": "board", "truncate_after": HALF}, Fault.LINK_DROPPED),
    ("truncated on the way back", {"towards": "host", "truncate_after": HALF}, Fault.LINK_DROPPED),
    ("stalled on the way there", {"towards": "board", "stall_after": HALF}, Fault.LINK_STALLED),
    ("stalled on the way back", {"towards": "host", "stall_after": HALF}, Fault.LINK_STALLED),
    ("far too slow", {"towards": "board", "bytes_per_s": 30_000}, Fault.LINK_STALLED),
    # This server tells the host that what it got was damaged. OpenSSH's says nothing and closes the connection:
    # then all that can be known is that the link was cut, and that is what hwkit says.
    ("damaged on the way there", {"towards": "board", "corrupt_after": HALF}, Fault.CORRUPT_TRANSFER),
    ("damaged on the way back", {"towards": "host", "corrupt_after": HALF}, Fault.CORRUPT_TRANSFER),
    ("damaged before it was made", {"towards": "host", "corrupt_after": 1200}, Fault.CORRUPT_TRANSFER)]


@pytest.mark.parametrize(("faults", "expected"), [pytest.param(*one[1:], id=one[0]) for one in LINK])
def test_a_bad_link(board: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: dict[str, Any],
                    expected: Fault) -> None:
    monkeypatch.setattr(_link, "SLOWEST_BYTES_PER_S", 200_000)
    with proxy(board, connections=1, **faults) as bad:
        error = fault_of(bad.place, lambda: attempt(bad.place, tmp_path))
        assert error.fault is expected
        assert expected.transient
        assert not (tmp_path / "out").exists(), "half a result is none"
        again_when_free(bad.place, tmp_path)


def again_when_free(place: Place, tmp_path: Path, within_s: float = 10.0) -> None:
    """The second attempt, which may have to wait until the board has noticed the end of the first."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            assert attempt(place, tmp_path) == INPUT[::-1]
            return
        except BoardFault as e:
            if e.fault is not Fault.BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.mark.parametrize(("deed", "expected"), [
    (Proxy.cut, Fault.LINK_DROPPED), (Proxy.stall, Fault.LINK_STALLED)])
def test_a_link_that_fails_while_the_program_runs(board: Place, tmp_path: Path, deed: Callable[[Proxy], None],
                                                  expected: Fault) -> None:
    with proxy(board) as bad:
        def meanwhile(line: str) -> None:
            deed(bad)
            if expected is Fault.LINK_STALLED:       # only for a while: connecting again finds the board alive
                threading.Timer(2.0, bad.resume).start()

        assert fault_of(bad.place, lambda: attempt(bad.place, tmp_path, meanwhile)).fault is expected
        again_when_free(bad.place, tmp_path)


def test_a_link_that_dies_without_a_word_frees_the_board(board: Place, server: sshd.Sshd, tmp_path: Path) -> None:
    """Neither end learns that the other has gone: the agent itself must find that nobody is there."""
    with proxy(board) as bad:
        error = fault_of(bad.place, lambda: attempt(bad.place, tmp_path, lambda line: bad.stall()))
        assert error.fault is Fault.BOARD_LOST           # as far as can be seen from here
        assert_as_found(server)


def test_a_program_that_talks_into_a_dead_link_is_ended(board: Place, server: sshd.Sshd) -> None:
    """What it prints fills every buffer on the way: that must not keep the agent from giving the board back."""
    with proxy(board) as bad:
        with pytest.raises(BoardFault), connect(bad.place, quiet) as link:
            link.run(["python", "-c", "while True: print('x' * 1000)"], timeout_s=60,
                     on_line=lambda line: bad.stall())
        assert_as_found(server)


# --- whether there is a board at all ---


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize(("changes", "expected", "text"), [
    pytest.param({"host": "no-such-board.invalid"}, Fault.UNKNOWN_HOST, "there is no host", id="unknown host"),
    pytest.param({"port": 1}, Fault.BOARD_LOST, "no sshd answers", id="port closed"),
    pytest.param({"port": "silent"}, Fault.LINK_STALLED, "says nothing", id="takes the connection, says nothing"),
    pytest.param({"known_hosts": "/dev/null"}, Fault.HOST_KEY, "is not in /dev/null", id="host key not known"),
    pytest.param({"known_hosts": "changed"}, Fault.HOST_KEY, "its host key changed", id="host key changed"),
    pytest.param({"key": "stranger"}, Fault.LOGIN_REFUSED, "accepts not the key", id="key refused"),
    pytest.param({"user": "nobody"}, Fault.LOGIN_REFUSED, "accepts not the key", id="user refused"),
    pytest.param({"python": "python3-that-is-not"}, Fault.MISSING, "has no python3-that-is-not", id="no Python"),
    pytest.param({"python": "false"}, Fault.PROCESS_FAILED, "ended with code 1", id="Python that fails"),
    pytest.param({"python": "true"}, Fault.PROCESS_FAILED, "ended with code 0", id="Python that is none")])
def test_a_board_that_cannot_be_used(board: Place, server: sshd.Sshd, tmp_path: Path, silent: int,
                                     changes: dict[str, Any], expected: Fault, text: str) -> None:
    import asyncssh

    other = asyncssh.generate_private_key("ssh-ed25519")
    if changes.get("port") == "silent":
        changes = {"port": silent, "connect_s": 1.0}
    if changes.get("known_hosts") == "changed":
        file = tmp_path / "known_hosts"
        file.write_text(f"[127.0.0.1]:{server.port} {other.export_public_key().decode()}")
        changes = {"known_hosts": file}
    if changes.get("key") == "stranger":
        other.write_private_key(tmp_path / "stranger")
        changes = {"key": tmp_path / "stranger"}
    place = Place(**{**board.model_dump(), **changes})
    error = fault_of(place, lambda: attempt(place, tmp_path))
    assert error.fault is expected
    assert text in error.message
    assert error.hint


def test_a_key_file_that_is_none(board: Place, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key")
    for key in (tmp_path / "key", tmp_path / "not there"):
        with pytest.raises(BadInput, match="key"):
            attempt(board.model_copy(update={"key": key}), tmp_path)


# --- the program ---


def foreign(folder: Path) -> bytes:
    """The head of a program for a processor that nobody emulates here: ELF, 64 bits, machine 0x1234."""
    return (b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 0x1234, 1, 0x400000, 64, 0, 0, 64,
                                                           56, 1, 0, 0, 0) + bytes(56))


PROGRAMS = [
    ("ends with an error", ["python", "-c", "raise SystemExit('no such layer')"], Fault.PROCESS_FAILED,
     "failed with exit code 1: no such layer"),
    ("ended by a signal", ["python", "-c", "import os; os.kill(os.getpid(), 11)"], Fault.PROCESS_FAILED,
     "signal 11"),
    ("out of memory", ["python", "-c", "bytearray(10**9)"], Fault.OUT_OF_MEMORY, "out of memory"),
    ("a runtime that is not there", ["python", "-c", "import a_runtime_that_is_not"], Fault.MISSING,
     "a_runtime_that_is_not"),
    ("a program that is not there", ["a-program-that-is-not"], Fault.MISSING, "a-program-that-is-not"),
    ("for another processor", ["./foreign"], Fault.WRONG_BOARD, "Exec format error"),
    ("an instruction that it does not have", ["python", "-c", "import os; os.kill(os.getpid(), 4)"],
     Fault.WRONG_BOARD, "processor"),
    ("longer than it may", ["python", "-c", "import time; time.sleep(60)"], Fault.TIMEOUT, "longer than 1 s"),
    ("more than the disk takes", ["python", "-c", "open('big', 'wb').write(bytes(10**7))"], Fault.DISK_FULL,
     "disk")]


@pytest.mark.parametrize(("argv", "expected", "text"), [pytest.param(*one[1:], id=one[0]) for one in PROGRAMS])
def test_a_program_that_fails(board: Place, server: sshd.Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                              argv: list[str], expected: Fault, text: str) -> None:
    monkeypatch.setattr(server, "wrap", limited)

    def work() -> None:
        with connect(board, quiet) as link:
            link.put(foreign(tmp_path), "foreign", 0o755)
            try:
                link.run(argv, timeout_s=1, memory_bytes=500_000_000, what="the program")
            finally:                                     # the agent is still there, and the program is not
                assert link.run(["echo", "well"], timeout_s=5).output == "well"

    error = fault_of(board, work)
    assert error.fault is expected
    assert text in error.message
    assert not expected.transient


def limited(command: str) -> str:
    """No file larger than 2 MiB (ulimit counts 512 bytes): a small disk that needs no privilege."""
    return f"ulimit -f 4096; {command}"


def tiny_disk(server: sshd.Sshd) -> Callable[[str], str]:
    """The scratch folder on a disk of 1 MiB of its own, in a name space of its own."""
    mount = f"mount -t tmpfs -o size=1m none {shlex.quote(str(server.folder / 'scratch'))}"
    inside = f'{mount} && exec sh -c "$0"'
    return lambda command: shlex.join(["exec", "unshare", "-rm", "sh", "-c", inside, command])


@pytest.mark.parametrize("kind", ["limit", "disk"])
def test_a_disk_that_is_full(board: Place, server: sshd.Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                             kind: str) -> None:
    if kind == "disk" and subprocess.run(["sh", "-c", tiny_disk(server)("true")], check=False).returncode:
        pytest.skip("no mounts in a name space of one's own here")
    monkeypatch.setattr(server, "wrap", limited if kind == "limit" else tiny_disk(server))

    def work() -> None:
        with connect(board, quiet) as link:
            link.put(bytes(3_000_000), "large")

    error = fault_of(board, work)
    assert error.fault is Fault.DISK_FULL
    assert "`scratch`" in error.hint
    if kind == "disk":
        with connect(board, quiet) as link, pytest.raises(BoardFault) as caught:
            link.run(["python", "-c", "open('big', 'wb').write(bytes(10**7))"], timeout_s=10, what="the program")
        assert caught.value.fault is Fault.DISK_FULL
    monkeypatch.undo()
    assert attempt(board, tmp_path) == INPUT[::-1]


def test_a_file_that_the_program_did_not_write(board: Place, tmp_path: Path) -> None:
    with connect(board, quiet) as link:
        error = fault_of(board, lambda: link.get("out", tmp_path / "out"))
    assert error.fault is Fault.MISSING


def test_a_killed_program_and_a_killed_agent(board: Place, tmp_path: Path) -> None:
    """Killed from beside, as the kernel does; what a dead agent left is no hindrance, and is removed."""
    sleep = ["python", "-c", "import time; print('begun', flush=True); time.sleep(60)"]
    for which, expected in (("program", Fault.PROCESS_FAILED), ("agent", Fault.OUT_OF_MEMORY)):
        killers = [threading.Thread(target=onboard.kill, args=(board, which))]

        def work(killers: list[threading.Thread] = killers) -> None:
            with connect(board, quiet) as link:
                link.run(sleep, timeout_s=20, on_line=lambda line: killers[0].start())

        assert fault_of(board, work).fault is expected
        killers[0].join()
        assert attempt(board, tmp_path) == INPUT[::-1]


# --- who else is there ---


def test_a_board_that_is_taken(board: Place, tmp_path: Path) -> None:
    with connect(board, quiet):
        error = fault_of(board, lambda: attempt(board, tmp_path))
        assert error.fault is Fault.BUSY
        assert "since" in error.message
    assert attempt(board, tmp_path) == INPUT[::-1]


def test_of_many_who_want_a_board_one_gets_it(board: Place) -> None:
    """All at once, and whoever has it keeps it until all have asked."""
    asked, ends = threading.Barrier(4), []

    def want() -> None:
        try:
            with connect(board, quiet):
                asked.wait(15)
                ends.append("had it")
        except BoardFault as e:
            asked.wait(15)
            ends.append(e.fault)

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == sorted(["had it", *[Fault.BUSY] * 3])


HOST = """
import json, sys
from hwkit.lab import Place
from hwkit.runners._link import connect
with connect(Place.model_validate_json(sys.argv[1]), lambda text: None) as link:
    link.put(bytes(1000), "in")
    link.run(["python", "-c", "import time; print('begun', flush=True); time.sleep(60)"], timeout_s=90,
             on_line=lambda line: print(line, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_host_is_killed_or_interrupted(board: Place, server: sshd.Sshd, number: signal.Signals) -> None:
    host = subprocess.Popen([sys.executable, "-c", HOST, board.model_dump_json()], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)
    assert host.stdout is not None
    assert host.stdout.readline() == "begun\n"
    assert left_on(server)
    host.send_signal(number)
    started = time.monotonic()
    _, complaint = host.communicate(timeout=10)
    assert time.monotonic() - started < 4
    assert (number is signal.SIGKILL) == ("KeyboardInterrupt" not in complaint), complaint
    assert_as_found(server, within_s=4)


def test_a_talkative_shell(board: Place, server: sshd.Sshd, tmp_path: Path,
                           monkeypatch: pytest.MonkeyPatch) -> None:
    """What a login prints before, on both streams, is no answer of the board."""
    noise = "echo 'Last login: today'; printf '{\"op\": 1}\\n\\001\\377no end of line'; echo; echo warning >&2; "
    monkeypatch.setattr(server, "wrap", lambda command: noise + command)
    assert attempt(board, tmp_path) == INPUT[::-1]


# --- hwkit inject ---


def test_inject_proxy_prints_an_entry_of_the_lab(server: sshd.Sshd, tmp_path: Path) -> None:
    place = server.place(**SHORT)
    lab = tmp_path / "lab.toml"
    entry = {"board": "rpi4", **place.model_dump(mode="json", exclude_defaults=True)}
    lab.write_text("[boards.desk]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in entry.items()))
    lab.chmod(0o600)
    env = {"HWKIT_LAB": str(lab)}
    words = [sys.executable, "-m", "hwkit", "inject", "proxy", "--board", "desk", "--towards", "board",
             "--drop-after", str(HALF), "--connections", "1"]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env={**os.environ, **env})
    try:
        assert child.stdout is not None
        told = []
        while not told or told[-1].strip():
            told.append(child.stdout.readline())
        lab.write_text(lab.read_text() + "".join(told))
        monkey = pytest.MonkeyPatch()
        with monkey.context() as patch:
            patch.setenv("HWKIT_LAB", str(lab))
            from hwkit.board import board as described
            bad = described("desk-proxy").place
        assert bad is not None
        assert fault_of(bad, lambda: attempt(bad, tmp_path)).fault is Fault.LINK_DROPPED
        assert attempt(bad, tmp_path) == INPUT[::-1]
    finally:
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=10)
    assert child.returncode == 0, said
    assert "bytes to the board" in said
    done = hwkit("inject", "board", "desk", "temperature_c=95", cwd=tmp_path, env=env)
    assert (done.returncode, "real sensors" in done.stderr) == (2, True)
    done = hwkit("inject", "board", "desk", "temperature=95", cwd=tmp_path, env=env)
    assert (done.returncode, "temperature_c" in done.stderr) == (2, True)
    done = hwkit("inject", "guest", "desk", "kill", cwd=tmp_path, env=env)
    assert (done.returncode, "is not virtual" in done.stderr) == (2, True)


def test_what_is_injected_on_a_board_is_taken_back(board: Place, tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    place = board.model_copy(update={"sensors_root": str(root)})
    onboard.override(place, {"temperature_c": 95.0})
    assert json.loads((root / "override").read_text()) == {"temperature_c": 95.0}
    onboard.override(place, {})
    assert list(root.iterdir()) == []
    # a file that leaves all but a page of what is free: the disk of this machine is not to be filled
    free = os.statvfs(board.scratch or "/tmp")
    onboard.fill_disk(board, free.f_bfree * free.f_frsize)
    assert os.listdir(board.scratch) == ["hwkit-injected-full-disk"]
    onboard.empty_disk(board)
    assert os.listdir(board.scratch) == []


def test_a_proxy_has_no_place_behind_a_jump_host(board: Place) -> None:
    with pytest.raises(BadInput, match="jump host"), proxy(board.model_copy(update={"jump": "a@b"})):
        pass


def test_a_link_is_one_users_own(board: Place) -> None:
    """The agent's folder is not for others' eyes, and it is gone with the link."""
    with connect(board, quiet) as link:
        assert isinstance(link, Link)
        assert os.stat(link.hello.folder).st_mode & 0o077 == 0
    assert not os.path.exists(link.hello.folder)
