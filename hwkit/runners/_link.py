"""One connection to a board over ssh, and the agent at its other end (boards/payloads/agent.py).

Whatever goes wrong is a BoardFault that says which fault it was. asyncssh does the ssh: host keys are checked,
keys and agents are OpenSSH's, there are no passwords.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import hashlib
import json
import platform
import shlex
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, TypeVar

from hwkit.data import shipped
from hwkit.describe import Frozen
from hwkit.errors import BoardFault
from hwkit.faults import Fault
from hwkit.jobs import Say
from hwkit.lab import Place
from hwkit.runners import _endings, _ssh
from hwkit.stopping import endable

T = TypeVar("T")
MAGIC = b"hwkit-agent 1\n"
BOOTSTRAP = "import sys;i=sys.stdin.buffer;exec(compile(i.read(int(i.readline())),'agent','exec'))"
PACKAGES = ("numpy", "ai_edge_litert", "tflite_runtime", "onnxruntime", "pynq")
BEAT_S, BEATS = 5.0, 4         # each way, but so many at least within silence_s; without one the link is dead
BOARD_PATIENCE = 3             # times silence_s, and the agent gives the board back
SLOWEST_BYTES_PER_S = 20_000
CHUNK_BYTES = 1 << 16          # sent within silence_s
AGAIN_S = 6.0                  # patience with connecting again, to see whether board or link was lost
GRACE_S = 30.0                 # that the agent has to end a program beyond the program's own limit


class Hello(Frozen):
    """What the agent told of the board when it took it.

    packages   version of each of PACKAGES, "" where it does not tell, None where it is not there
    """

    folder: str
    machine: str
    system: str
    python: tuple[int, int, int]
    libc: str
    boot: str
    free_bytes: int
    packages: dict[str, str | None]


class Done(Frozen):
    """How a program on the board ended. seconds: for so long it ran, by the board's clock."""

    output: str
    seconds: float


class Link:
    """See `connect`. All paths on the board are relative to the folder that the agent made."""

    def __init__(self, place: Place, loop: asyncio.AbstractEventLoop) -> None:
        self.place, self._loop = place, loop
        self.hello: Hello
        self.bytes_sent, self.on_board_s = 0, 0.0
        self._session: _ssh.Session | None = None
        self._sending = False                              # a frame is half on its way: nothing may come between
        self._beat_s = min(BEAT_S, place.silence_s / BEATS)
        self._beating: asyncio.Task[None] | None = None

    # from the caller's thread into the loop's

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        with endable(future.cancel):               # Ctrl-C comes to the main thread, which may be another
            try:
                return future.result()
            except CancelledError:
                raise BoardFault(Fault.INTERRUPTED, "interrupted by the user") from None
            except KeyboardInterrupt:
                future.cancel()
                raise

    def open(self) -> None:
        """Raises BoardFault."""
        self._do(self._open())

    def close(self) -> None:
        self._do(self._close())

    def put(self, source: Path | bytes, path: str, mode: int = 0o644) -> None:
        """A file, or bytes. Raises BoardFault."""
        data = source if isinstance(source, bytes) else source.read_bytes()
        self._do(self._ask({"op": "put", "path": path, "mode": mode}, data))

    def unzip(self, source: Path, into: str) -> str:
        """What a zip archive holds into a folder, which may begin with "~/". Its full path. Raises BoardFault."""
        header, _ = self._do(self._ask({"op": "unzip", "path": source.name, "into": into}, source.read_bytes()))
        return str(header["into"])

    def kept(self, into: str, digest: str) -> str | None:
        """The full path of a folder below "~/" that an archive of that digest was unzipped into, if it was."""
        header, _ = self._do(self._ask({"op": "kept", "into": into, "sha256": digest}))
        return str(header["into"]) if header["into"] else None

    def get(self, path: str, target: Path) -> None:
        """A file of the board. Raises BoardFault, MISSING where there is none."""
        header, data = self._do(self._ask({"op": "get", "path": path}))
        if hashlib.sha256(data).hexdigest() != header["sha256"]:
            raise BoardFault(Fault.CORRUPT_TRANSFER, f"{path} arrived damaged from {self.place.text}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def paths(self, below: str) -> list[str]:
        """All files below a folder. Raises BoardFault."""
        return list(self._do(self._ask({"op": "list", "path": below}))[0]["paths"])

    def run(self, argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None,
            memory_bytes: int | None = None, what: str = "", on_line: Callable[[str], None] | None = None) -> Done:
        """A program in the folder, to its end; "python" as its first word is the board's. Raises BoardFault."""
        lines: list[str] = []

        def keep(line: str) -> None:
            lines.append(line)
            if on_line:
                on_line(line)

        header, _ = self._do(self._ask(
            {"op": "run", "argv": list(argv), "env": dict(env or {}), "timeout_s": timeout_s,
             "memory_bytes": memory_bytes}, on_line=keep, limit_s=timeout_s + GRACE_S))
        self.on_board_s += header["seconds"]
        _endings.require_good(header, lines, what or argv[0], timeout_s)
        return Done(output="\n".join(lines), seconds=header["seconds"])

    def forward(self, port: int) -> int:
        """A port on the board's loopback that leads to `port` on ours, while the link lives. Raises BoardFault."""
        return self._do(self._forward(port))

    # in the loop

    async def _open(self) -> None:
        self._session = await _ssh.open_session(
            self.place, f"exec {shlex.quote(self.place.python)} -u -c {shlex.quote(BOOTSTRAP)}")
        source = shipped("boards", "payloads", "agent.py").read_bytes()
        try:
            self._session.write(b"%d\n" % len(source) + source)
            async with asyncio.timeout(self.place.connect_s):
                while (line := await self._session.readline()) != MAGIC:       # what a login prints comes before
                    if not line:
                        raise EOFError
        except (OSError, EOFError, TimeoutError, *_ssh.ERRORS) as e:
            raise await self._lost(e) from None
        self._beating = asyncio.create_task(self._beat())
        who = f"{getpass.getuser()}@{platform.node()} since {time.strftime('%H:%M:%S')}"
        header, _ = await self._ask({
            "op": "hello", "scratch": self.place.scratch, "lock": self.place.lock,
            "silence_s": BOARD_PATIENCE * self.place.silence_s, "beat_s": self._beat_s,
            "who": who, "sites": [self.place.site] if self.place.site else [], "packages": PACKAGES})
        self.hello = Hello.model_validate({k: v for k, v in header.items() if k in Hello.model_fields})

    async def _close(self) -> None:
        if self._beating:
            self._beating.cancel()
        if self._session:
            with contextlib.suppress(OSError, EOFError, TimeoutError, BoardFault, *_ssh.ERRORS):
                async with asyncio.timeout(0 if self._sending else 5):
                    self._session.write(b'{"op": "bye"}\n')
                    await self._session.ended()
            await self._session.close()

    async def _beat(self) -> None:
        assert self._session is not None
        with contextlib.suppress(OSError, *_ssh.ERRORS):
            while True:
                await asyncio.sleep(self._beat_s)
                if not self._sending:
                    self._session.write(b'{"op": "beat"}\n')

    async def _ask(self, header: dict[str, Any], body: bytes | None = None, *, limit_s: float | None = None,
                   on_line: Callable[[str], None] | None = None) -> tuple[dict[str, Any], bytes]:
        """A frame there and its answer back, in time. Raises BoardFault."""
        assert self._session is not None
        if body is not None:
            header = {**header, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        body = body or b""
        patience = limit_s or self.place.silence_s + len(body) / SLOWEST_BYTES_PER_S
        try:
            async with asyncio.timeout(patience):
                await self._send(json.dumps(header).encode() + b"\n" + body)
                while True:
                    answer, data = await self._frame()
                    if "line" in answer:
                        if on_line:
                            on_line(answer["line"])
                    elif "beat" not in answer:
                        break
        except (OSError, EOFError, TimeoutError, ValueError, *_ssh.ERRORS) as e:
            raise await self._lost(e) from None
        if "error" in answer:
            raise _endings.refused(answer, self.place)
        return answer, data

    async def _send(self, data: bytes) -> None:
        """Raises TimeoutError when the link takes nothing."""
        assert self._session is not None
        self._sending = True
        for at in range(0, len(data), CHUNK_BYTES):
            self._session.write(data[at:at + CHUNK_BYTES])
            async with asyncio.timeout(self.place.silence_s):
                await self._session.drain()
        self._sending = False
        self.bytes_sent += len(data)

    async def _frame(self) -> tuple[dict[str, Any], bytes]:
        """The next frame. Raises TimeoutError when the board is silent, EOFError at the end."""
        assert self._session is not None
        async with asyncio.timeout(self.place.silence_s):
            line = await self._session.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        header = json.loads(line)
        if not isinstance(header, dict):
            raise ValueError(f"no frame: {line[:80]!r}")
        left = header.get("bytes", 0)
        parts = []
        while left:
            async with asyncio.timeout(self.place.silence_s):
                part = await self._session.read(min(left, 1 << 20))
            parts.append(part)
            left -= len(part)
        return header, b"".join(parts)

    async def _forward(self, port: int) -> int:
        assert self._session is not None
        try:
            return await self._session.forward(port)
        except _ssh.ERRORS as e:
            raise BoardFault(Fault.WRONG_BOARD, f"{self.place.text} forwards no port: {e}",
                             "allow it in its sshd_config: AllowTcpForwarding yes") from None

    async def _lost(self, error: BaseException) -> BoardFault:
        """Which fault ended the conversation: the program at the other end, the link, or the board."""
        assert self._session is not None
        damaged = _ssh.damaged(error) or isinstance(error, ValueError)
        ended = await self._session.exit_told()
        text = self.place.text
        if ended is not None and not (ended[0] == 0 and hasattr(self, "hello")):
            return _endings.of_agent(*ended, self.place)
        await self._session.close()
        boot = self.hello.boot if hasattr(self, "hello") else ""
        now = await _ssh.boot_of(self.place, AGAIN_S)
        if now is None:
            return BoardFault(Fault.BOARD_LOST, f"{text} was lost and does not answer any more",
                              "see whether it is switched on, then run it again")
        if boot and now != boot:
            return BoardFault(Fault.BOARD_LOST, f"{text} was rebooted in the middle", "run it again")
        if damaged:
            return BoardFault(Fault.CORRUPT_TRANSFER,
                              f"the link to {text} damages what it carries ({_short(error)})",
                              "run it again; look at the cable or the network between")
        if isinstance(error, TimeoutError):
            return BoardFault(Fault.LINK_STALLED, f"the link to {text} stands but nothing came through in time",
                              "run it again, with a larger silence_s in the lab file if the link is that slow")
        return BoardFault(Fault.LINK_DROPPED, f"the link to {text} was cut ({_short(error)})", "run it again")


@contextlib.contextmanager
def connect(place: Place, say: Say) -> Iterator[Link]:
    """A link to a board that is ours alone until the block ends. Raises BoardFault."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="ssh", daemon=True)
    thread.start()
    link = Link(place, loop)
    try:
        say(f"connecting to {place.text}")
        link.open()
        yield link
    finally:
        try:
            link.close()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5)
            if not loop.is_running():
                loop.close()


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
