"""ssh itself, through asyncssh: a connection, and one program at its other end.

Host keys are checked against OpenSSH's known_hosts, keys are those of the agent, of ~/.ssh or the one named; a
password is never asked for nor kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncssh

from hwkit.errors import BadInput, BoardFault
from hwkit.faults import Fault
from hwkit.lab import Place

ERRORS = (asyncssh.Error, asyncssh.ChannelListenError)
KNOWN_HOSTS = "~/.ssh/known_hosts"
SSH_PORT = 22
SAID_BYTES = 20_000            # of what the other end writes to stderr: the end of it is kept
END_S = 1.0                    # patience with being told how the program ended
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
DAMAGED = (asyncssh.MACError, asyncssh.ProtocolError, asyncssh.CompressionError)
logging.getLogger("asyncssh").setLevel(logging.CRITICAL)       # what goes wrong is told as a fault


class Session:
    """A program on the board: its stdin and stdout as bytes."""

    def __init__(self, hops: Sequence[asyncssh.SSHClientConnection], process: Any) -> None:
        self._hops, self._process = hops, process
        self._said = b""
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        with contextlib.suppress(*ERRORS, OSError):
            while part := await self._process.stderr.read(4096):
                self._said = (self._said + part)[-SAID_BYTES:]

    def write(self, data: bytes) -> None:
        self._process.stdin.write(data)

    async def drain(self) -> None:
        await self._process.stdin.drain()

    async def readline(self) -> bytes:
        return bytes(await self._process.stdout.readline())

    async def read(self, size: int) -> bytes:
        """Up to `size` bytes. Raises EOFError where no more come."""
        part = bytes(await self._process.stdout.read(size))
        if not part:
            raise EOFError
        return part

    async def ended(self) -> None:
        await self._process.wait_closed()

    async def exit_told(self) -> tuple[int | None, str | None, str] | None:
        """(exit code, signal, stderr) of the program; None where the link ended before it told."""
        with contextlib.suppress(TimeoutError, *ERRORS, OSError):
            async with asyncio.timeout(END_S):
                await self._process.wait_closed()
                await self._listening
        code, ending = self._process.exit_status, self._process.exit_signal
        if code is None and ending is None:
            return None
        return code, ending[0] if ending else None, self._said.decode("utf-8", "replace")

    async def forward(self, port: int) -> int:
        """A free port on the board's loopback that leads to `port` on ours."""
        listener = await self._hops[-1].forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
        return int(listener.get_port())

    async def close(self) -> None:
        self._listening.cancel()
        for hop in reversed(self._hops):
            hop.abort()


async def open_session(place: Place, command: str) -> Session:
    """Connect and start a command. Raises BoardFault, BadInput for a key file that cannot be used."""
    hops = await _connect(place, place.connect_s)
    try:
        async with asyncio.timeout(place.connect_s):
            return Session(hops, await hops[-1].create_process(command, encoding=None))
    except (TimeoutError, *ERRORS, OSError) as e:
        hops[-1].abort()
        raise await _unreachable(e, place) from None


async def boot_of(place: Place, patience_s: float) -> str | None:
    """The id of the board's present boot, "" where it has none; None where it does not answer in time."""
    until = time.monotonic() + patience_s
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(BoardFault):
            return (await said(place, BOOT_ID, left))[1].strip()
        await asyncio.sleep(0.5)
    return None


async def said(place: Place, command: str, patience_s: float, stdin: str = "") -> tuple[int | None, str, str]:
    """(exit code, stdout, stderr) of a command there, on a connection of its own. Raises BoardFault, BadInput."""
    hops = await _connect(place, min(patience_s, place.connect_s))
    try:
        async with asyncio.timeout(patience_s):
            done = await hops[-1].run(command, input=stdin)
            return done.exit_status, str(done.stdout), str(done.stderr)
    except (TimeoutError, *ERRORS, OSError) as e:
        raise await _unreachable(e, place) from None
    finally:
        hops[-1].abort()


def damaged(error: BaseException) -> bool:
    """Whether ssh found that what came is not what was sent."""
    if isinstance(error, DAMAGED):
        return True
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return "mismatch" in error.reason
    return isinstance(error, asyncssh.DisconnectError) and "mac" in error.reason.lower().split()


async def _connect(place: Place, patience_s: float) -> list[asyncssh.SSHClientConnection]:
    """A connection to each host on the way, the board's the last. Raises BoardFault, BadInput."""
    hops: list[asyncssh.SSHClientConnection] = []
    options: dict[str, Any] = {"login_timeout": patience_s,
                               "known_hosts": str(place.known_hosts) if place.known_hosts else (),
                               "preferred_auth": "publickey,gssapi-with-mic"}
    if place.key is not None:
        options |= {"client_keys": [str(place.key)], "agent_path": None}
    if _is_loopback(place.host) and place.known_hosts is not None:      # nothing of the user's applies to it
        options["config"] = None
    try:
        async with asyncio.timeout(patience_s):
            for user, host, port in (*_jumps(place), (place.user, place.host, place.port)):
                hops.append(await asyncssh.connect(host, port, username=user, tunnel=hops[-1] if hops else None,
                                                   **options))
    except (TimeoutError, *ERRORS, OSError, asyncssh.KeyImportError, ValueError) as e:
        if hops:
            hops[-1].abort()
        raise await _unreachable(e, place) from None
    return hops


def _jumps(place: Place) -> list[tuple[str, str, int]]:
    """(user, host, port) of each machine on the way. Raises BadInput."""
    found = []
    for text in place.jump.split(",") if place.jump else ():
        user, at, host = text.strip().rpartition("@")
        host, colon, port = host.partition(":")
        if not host or (colon and not port.isdigit()):
            raise BadInput(f"jump = {text!r}: not user@host:port", 'e.g. jump = "me@gateway.example:22"')
        found.append((user if at else place.user, host, int(port) if colon else SSH_PORT))
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _unreachable(error: BaseException, place: Place) -> BoardFault | BadInput:
    """Which fault kept us from connecting."""
    text, target = place.text, f"ssh -p {place.port} {place.user}@{place.host}"
    match error:
        case socket.gaierror():
            return BoardFault(Fault.UNKNOWN_HOST, f"there is no host named {place.host}",
                              "correct `host` in the lab file")
        case asyncssh.HostKeyNotVerifiable():
            return _untrusted(place, error)
        case asyncssh.PermissionDenied():
            key = f"the key {place.key}" if place.key else "none of the keys of the agent and ~/.ssh"
            return BoardFault(Fault.LOGIN_REFUSED, f"{text} accepts {'not ' if place.key else ''}{key}",
                              f"ssh-copy-id -p {place.port} {place.user}@{place.host}")
        case asyncssh.KeyImportError() | ValueError():
            return BadInput(f"the key {place.key or 'in ~/.ssh'} cannot be used: {error}",
                            "name a private key as `key` in the lab file, or add it to ssh-agent")
        case FileNotFoundError():
            return BadInput(f"{error.filename}: no such file", "correct `key` or `known_hosts` in the lab file")
        case PermissionError() if error.filename:
            return BadInput(f"{error.filename}: no permission", "correct `key` or `known_hosts` in the lab file")
        case ConnectionRefusedError():
            return BoardFault(Fault.BOARD_LOST, f"no sshd answers at {text}, though the machine is there",
                              "start sshd there, or correct `port` in the lab file")
        case TimeoutError() if place.jump or await _answers(place):
            return BoardFault(Fault.LINK_STALLED, f"{text} takes the connection and then says nothing",
                              f"{target} true")
        case asyncssh.KeyExchangeFailed() if not damaged(error):
            return BoardFault(Fault.MISSING, f"{text} has no algorithm of ssh in common with us: {error}",
                              "a newer OpenSSH there")
        case asyncssh.ConnectionLost() | asyncssh.DisconnectError() | ConnectionResetError():
            return BoardFault(Fault.CORRUPT_TRANSFER if damaged(error) else Fault.LINK_DROPPED,
                              f"the connection to {text} ended before it was made: {error}", f"{target} true")
        case _:
            return BoardFault(Fault.BOARD_LOST, f"{text} does not answer ({error or 'no answer in time'})",
                              "see whether it is switched on and on this network")


async def _answers(place: Place) -> bool:
    """Whether something takes TCP connections there."""
    try:
        async with asyncio.timeout(3):
            _, writer = await asyncio.open_connection(place.host, place.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _untrusted(place: Place, error: BaseException) -> BoardFault:
    """A host key that is not known, or not the one that is known."""
    file = Path(place.known_hosts or KNOWN_HOSTS).expanduser()
    known: tuple[Sequence[Any], ...] = ()
    with contextlib.suppress(OSError, ValueError):
        address = place.host if _is_loopback(place.host) else ""
        known = asyncssh.match_known_hosts(str(file), place.host, address, place.port)
    name = place.host if place.port == SSH_PORT else f"[{place.host}]:{place.port}"
    if known and known[0]:
        return BoardFault(Fault.HOST_KEY, f"{place.text} is not the machine it was: its host key changed",
                          f"if it was set up anew: ssh-keygen -f {file} -R '{name}'; else do not go on")
    return BoardFault(Fault.HOST_KEY, f"the host key of {place.text} is not in {file}",
                      f"connect once and compare it: ssh -p {place.port} {place.user}@{place.host}")
