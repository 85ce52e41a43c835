"""One virtual board: its keys, its process, and how it is started, frozen, reset and ended.

Below the cache's virtual/NAME/: the board's keys, and while it runs state.json, serial.log (what the guest prints)
and monitor (QEMU's control socket). The disk forgets everything when the board is stopped: each start is the same
fresh board.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from hwkit.board import Board
from hwkit.data import cache_root, shipped
from hwkit.describe import Frozen
from hwkit.errors import BadInput, BoardError, JobFailed, ToolMissing
from hwkit.files import locked, new_folder, write, write_json
from hwkit.jobs import Say
from hwkit.process import require, run
from hwkit.virtual import _cpio
from hwkit.virtual import image as images
from hwkit.virtual.options import LEAST_BYTES, Options, options

Clock = Literal["emulated", "instructions"]

QEMU = "qemu-system-aarch64"
LOOPBACK = "127.0.0.1"
KEY, HOST_KEY, KNOWN_HOSTS, SSH_CONFIG = "id_ed25519", "host_key", "known_hosts", "ssh_config"
STATE, SERIAL, MONITOR, FIRST, PID = "state.json", "serial.log", "monitor", "first.cpio", "pid"
SENSORS = "/run/virtual"
READY, FAILED = "hwkit-ready", "hwkit-failed"
LAUNCH_S = 30.0
STOP_S = 5.0
PORTS_TRIED = 5
POLL_S, HELLO_S, MONITOR_S = 0.05, 5.0, 5.0
LOG_CHARACTERS = 4000
# What a board need not do to be one is left out: half of the time of the kernel's start.
KERNEL_WORDS = ("console=ttyAMA0 quiet mitigations=off nokaslr audit=0 lsm=capability cryptomgr.notests "
                "ipv6.disable=1")


class State(Frozen):
    """A board that was started.

    started_ticks  when its process began, in clock ticks since the machine did: a process number alone may by now
                   be somebody else's
    clock          "emulated": the guest's wall time, which says nothing of any device; "instructions": one
                   nanosecond of the guest's time is one instruction, on one core
    """

    pid: int
    started_ticks: int
    started_s: float
    port: int
    clock: Clock
    cpu: str
    cores: int
    memory_bytes: int


def folder(name: str) -> Path:
    return cache_root() / "virtual" / name


def is_made(name: str) -> bool:
    return images.image() is not None and all((folder(name) / key).is_file() for key in (KEY, HOST_KEY))


def make(board: Board, say: Say) -> None:
    """The shared image, if need be, and this board's own keys. Raises ToolMissing, JobFailed, NoSpace."""
    options(board)
    qemu()
    images.make(say)
    if is_made(board.name):
        return
    say("making the board's keys")
    import asyncssh

    with locked(folder(board.name)), new_folder(folder(board.name)) as scratch:
        for name in (KEY, HOST_KEY):
            key = asyncssh.generate_private_key("ssh-ed25519", comment=f"hwkit {board.name}")
            with open(os.open(scratch / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
                f.write(key.export_private_key())
            write(scratch / f"{name}.pub", key.export_public_key())


def qemu() -> str:
    """Raises ToolMissing."""
    return require(QEMU, "apt-get install qemu-system-arm")


def _started_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks; None when there is none, or when it is dead and not yet buried."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])      # fields 3 and 22 of proc(5)


def state(name: str) -> State | None:
    """What runs as board `name` now; None when it does not run, however it ended."""
    try:
        told = State.model_validate_json((folder(name) / STATE).read_bytes())
    except (OSError, ValueError):
        return None
    return told if _started_ticks(told.pid) == told.started_ticks else None


def start(board: Board, say: Say, *, deterministic: bool = False, memory_bytes: int | None = None,
          port: int | None = None) -> State:
    """Start a board and wait until it answers over ssh; one that runs already, in the same mode, is left alone.

    memory_bytes  instead of what its description says;  port  on the loopback, a free one by default
    Raises ToolMissing when it is not made, BadInput when it runs in the other mode, JobFailed (`log`: the end of
    what the guest printed) when it does not come up; nothing is left running then.
    """
    about = options(board)
    if not is_made(board.name):
        raise ToolMissing(f"board {board.name} is not made", f"hwkit board make {board.name}")
    if memory_bytes is not None and memory_bytes < LEAST_BYTES:
        raise BadInput(f"{memory_bytes / 2**20:.0f} MB are too few to boot", f"at least {LEAST_BYTES // 2**20} MB")
    clock: Clock = "instructions" if deterministic else "emulated"
    wanted = about.model_copy(update={"cores": 1 if deterministic else about.cores,
                                      "memory_bytes": memory_bytes or about.memory_bytes})
    with locked(folder(board.name)):
        found = state(board.name)
        if found is not None:
            if found.clock != clock:
                raise BadInput(f"board {board.name} runs in the other mode: its clock is {found.clock}",
                               f"hwkit board stop {board.name}")
            return found
        say(f"booting an emulated {about.cpu}")
        _hand_over(board, wanted, clock)
        (folder(board.name) / PID).unlink(missing_ok=True)
        try:
            found = _launch(board.name, wanted, clock, port)
            write_json(folder(board.name) / STATE, found.model_dump())
            _tell_ssh(board.name, found.port)
            wait(board.name, about.boot_s)
        except BaseException:
            with contextlib.suppress(OSError, ValueError):             # before there is a state to go by
                pid = int((folder(board.name) / PID).read_text())
                _end(pid, _started_ticks(pid), signal.SIGKILL)
            raise
    return found


def _hand_over(board: Board, about: Options, clock: Clock) -> None:
    """The kernel's first file system: the shared one, then what is this board's own."""
    place, shared = folder(board.name), images.image()
    assert shared is not None
    told = {"board": board.name, "simulated": True, "cpu": about.cpu, "cores": about.cores, "clock": clock,
            "memory_bytes": about.memory_bytes}
    own = {
        "init": (shipped("boards", "payloads", "virtual_init.sh").read_bytes(), 0o755),
        "hwkit/host_key": ((place / HOST_KEY).read_bytes(), 0o600),
        "hwkit/authorized_keys": ((place / f"{KEY}.pub").read_bytes(), 0o600),
        "hwkit/name": (board.name.encode(), 0o644),
        "hwkit/about.json": (json.dumps(told, sort_keys=True).encode() + b"\n", 0o644),
    }
    if clock == "emulated":            # the sensors' program would be counted with what is measured
        own["hwkit/rails.py"] = (shipped("boards", "payloads", "rails.py").read_bytes(), 0o644)
        own["hwkit/rails.json"] = (about.rails.model_dump_json().encode(), 0o644)
    write(place / FIRST, (shared / images.FIRST).read_bytes() + _cpio.archive(own))
    (place / FIRST).chmod(0o600)


def _tell_ssh(name: str, port: int) -> None:
    """The board's host key at this port, and a configuration for ssh, scp and rsync: ssh -F FILE NAME."""
    place = folder(name)
    write(place / KNOWN_HOSTS, f"[{LOOPBACK}]:{port} {(place / f'{HOST_KEY}.pub').read_text()}")
    write(place / SSH_CONFIG, f"Host {name}\n  HostName {LOOPBACK}\n  Port {port}\n  User root\n"
                              f'  IdentityFile "{place / KEY}"\n  IdentitiesOnly yes\n'
                              f'  UserKnownHostsFile "{place / KNOWN_HOSTS}"\n  StrictHostKeyChecking yes\n')


def _free_port() -> int:
    with socket.socket() as s:
        s.bind((LOOPBACK, 0))
        return int(s.getsockname()[1])


def _launch(name: str, about: Options, clock: Clock, port: int | None) -> State:
    """QEMU in the background, with its ports open. A free port may be taken meanwhile: then the next one."""
    for left in reversed(range(1 if port else PORTS_TRIED)):
        chosen = port or _free_port()
        try:
            run(_argv(name, about, clock, chosen), cwd=folder(name), timeout_s=LAUNCH_S, what=f"starting {name}")
            break
        except JobFailed as e:
            if "host forwarding rule" not in e.log:
                raise
            if not left:
                raise BoardError(f"port {chosen} of {LOOPBACK} is taken",
                                 "choose another, or leave out --port") from None
    pid = int((folder(name) / PID).read_text())
    ticks = _started_ticks(pid)
    if ticks is None:
        raise JobFailed(f"board {name}: QEMU ended at once", f"hwkit board start {name}", _serial(name))
    return State(pid=pid, started_ticks=ticks, started_s=time.time(), port=chosen, clock=clock, cpu=about.cpu,
                 cores=about.cores, memory_bytes=about.memory_bytes)


def _argv(name: str, about: Options, clock: Clock, port: int) -> list[str]:
    """QEMU's words; its own files are named relative to the board's folder, for sockets have short names."""
    shared = images.image()
    assert shared is not None
    words, mode = KERNEL_WORDS, ["-accel", "tcg,thread=multi"]
    if clock == "instructions":
        words += " norandmaps"
        mode = ["-icount", "shift=0", "-rtc", "base=2026-01-01,clock=vm"]
    disk = str(shared / images.DISK).replace(",", ",,")
    return [qemu(), "-name", f"hwkit-{name}", "-nodefaults", "-no-user-config", "-display", "none",
            "-machine", "virt", "-cpu", about.cpu, "-smp", str(about.cores),
            "-m", f"{about.memory_bytes // 2**20}M", *mode, "-kernel", str(shared / images.KERNEL),
            "-initrd", FIRST, "-append", words,
            "-drive", f"file={disk},if=none,id=disk,format=raw,snapshot=on",
            "-device", "virtio-blk-device,drive=disk",
            # cut off from everything but the one port that leads to its ssh
            "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:{LOOPBACK}:{port}-:22",
            "-device", "virtio-net-device,netdev=net", "-serial", f"file:{SERIAL}",
            "-qmp", f"unix:{MONITOR},server=on,wait=off", "-pidfile", PID, "-daemonize"]


def _serial(name: str) -> str:
    """What the guest printed."""
    with contextlib.suppress(OSError):
        return (folder(name) / SERIAL).read_text(errors="replace")
    return ""


def wait(name: str, timeout_s: float, boots: int = 1) -> None:
    """Until the board has booted so many times and its sshd says hello. Raises JobFailed."""
    deadline = time.monotonic() + timeout_s
    while _serial(name).count(READY) < boots or not answers(name):
        said = _serial(name)
        why = next((line for line in said.splitlines() if line.startswith(FAILED)), "")
        if why:
            why = f"did not boot: {why.partition(': ')[2]}"
        elif state(name) is None:
            why = "ended while it booted"
        elif time.monotonic() > deadline:
            why = f"does not answer after {timeout_s:g} s"
        if why:
            raise JobFailed(f"board {name} {why}", f"HWKIT_DEBUG=1 shows the end of {folder(name) / SERIAL}",
                            said[-LOG_CHARACTERS:])
        time.sleep(POLL_S)


def answers(name: str) -> bool:
    """Whether sshd says hello now; seconds when the board does not even say no."""
    found = state(name)
    if found is None:
        return False
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, found.port), HELLO_S) as s:
        s.settimeout(HELLO_S)
        return s.recv(4) == b"SSH-"
    return False


def _tell(name: str, command: str) -> None:
    """One command to QEMU over its machine protocol (QMP). Raises BoardError."""
    if state(name) is None:
        raise BoardError(f"board {name} does not run", f"hwkit board start {name}")
    try:
        with _monitor(name) as stream:
            stream.readline()                                   # its greeting
            for what in ("qmp_capabilities", command):
                stream.write(json.dumps({"execute": what}) + "\n")
                stream.flush()
                answer: dict[str, Any] = {}
                while not answer.keys() & {"return", "error"}:  # events come in between
                    answer = json.loads(stream.readline())
                if "error" in answer:
                    raise BoardError(f"board {name}: {what}: {answer['error'].get('desc')}")
    except (OSError, ValueError) as e:
        raise BoardError(f"board {name}: QEMU does not listen: {e}", f"hwkit board stop {name}") from None


@contextlib.contextmanager
def _monitor(name: str) -> Iterator[IO[str]]:
    """QEMU's control socket. Its path may be longer than a socket's may be, so it is named by its open folder."""
    place = os.open(folder(name), os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(MONITOR_S)
            s.connect(f"/proc/self/fd/{place}/{MONITOR}")
            with s.makefile("rw") as stream:
                yield stream
    finally:
        os.close(place)


def freeze(name: str) -> None:
    """The whole board stands still, its clock too; its connections stay. Raises BoardError."""
    _tell(name, "stop")


def thaw(name: str) -> None:
    """A frozen board goes on. Raises BoardError."""
    _tell(name, "cont")


def reset(name: str, timeout_s: float | None = None) -> None:
    """As its reset button: no warning, the disk stays. Waits for it to answer again when told how long.

    Raises BoardError, JobFailed.
    """
    boots = _serial(name).count(READY)
    _tell(name, "system_reset")
    if timeout_s is not None:
        wait(name, timeout_s, boots + 1)


def kill(name: str) -> bool:
    """As pulling its plug. Whether it ran."""
    found = state(name)
    return found is not None and _end(found.pid, found.started_ticks, signal.SIGKILL)


def stop(name: str) -> bool:
    """End a board, if need be by force. Whether it ran."""
    found = state(name)
    return found is not None and (_end(found.pid, found.started_ticks, signal.SIGTERM) or kill(name))


def _end(pid: int, started_ticks: int | None, how: signal.Signals) -> bool:
    """Send a signal and wait until the process is gone. Whether it ran and is gone now."""
    if started_ticks is None:
        return False
    deadline = time.monotonic() + STOP_S
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
    while _started_ticks(pid) == started_ticks:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def remove(name: str) -> bool:
    """End a board and delete its keys; the image that it shares stays. Whether there was one."""
    stop(name)
    found = folder(name).is_dir()
    shutil.rmtree(folder(name), ignore_errors=True)
    return found
