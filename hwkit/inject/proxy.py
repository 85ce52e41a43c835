"""A bad link: a TCP proxy on the loopback in front of a board's ssh.

    with proxy(place, towards="board", drop_after=100_000) as bad:
        with connect(bad.place, say) as link: ...

What is counted are the bytes of ssh, encrypted, with its own beginning (some kilobytes each way).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from hwkit.describe import Frozen
from hwkit.errors import BadInput
from hwkit.lab import Place

LOOPBACK = "127.0.0.1"
PIECE_BYTES = 1 << 14
Way = Literal["board", "host"]
Bytes = Annotated[int, Field(ge=0)]


class Faults(Frozen):
    """What is done to the bytes that go `towards` one end (or both), counted a connection and a direction.

    drop_after      both ends see the connection aborted
    stall_after     nothing more is carried, and nothing is closed
    truncate_after  this direction ends there, in order; the other goes on
    corrupt_after   one bit of the byte after so many is inverted, which one by `seed`
    delay_s         before each piece;  bytes_per_s  at most
    connections     only the first so many are disturbed; None for all
    """

    towards: Literal["board", "host", "both"] = "both"
    drop_after: Bytes | None = None
    stall_after: Bytes | None = None
    truncate_after: Bytes | None = None
    corrupt_after: Bytes | None = None
    delay_s: float = Field(default=0.0, ge=0)
    bytes_per_s: float | None = Field(default=None, gt=0)
    connections: int | None = Field(default=None, ge=0)
    seed: int = 0


class Proxy:
    """See `proxy`. `place` leads through it; `carried` counts bytes towards each end, of all connections."""

    def __init__(self, beyond: Place, faults: Faults, loop: asyncio.AbstractEventLoop) -> None:
        self.place = beyond
        self.carried: dict[Way, int] = {"board": 0, "host": 0}
        self.connections = 0
        self._beyond, self._faults, self._loop = beyond, faults, loop
        self._open: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def cut(self) -> None:
        """Abort all connections now, as a pulled cable that both ends notice."""
        self._loop.call_soon_threadsafe(self._abort)

    def stall(self) -> None:
        """Carry nothing from now on, and close nothing."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def resume(self) -> None:
        self._loop.call_soon_threadsafe(self._flowing.set)

    def _abort(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        faulty = self._faults.connections is None or self.connections < self._faults.connections
        self.connections += 1
        try:
            other, onward = await asyncio.open_connection(self._beyond.host, self._beyond.port)
        except OSError:
            writer.transport.abort()
            return
        pair, stalled = {writer, onward}, asyncio.Event()
        self._open |= pair
        try:
            await asyncio.gather(self._carry(reader, onward, "board", faulty, stalled),
                                 self._carry(other, writer, "host", faulty, stalled))
        except OSError:
            if stalled.is_set() or not self._flowing.is_set():
                await asyncio.Event().wait()           # a dead link tells neither end that the other has gone
        except _Dropped:
            pass
        finally:
            self._open -= pair
            for end in pair:
                end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way,
                     faulty: bool, stalled: asyncio.Event) -> None:
        about = self._faults if faulty and self._faults.towards in (way, "both") else Faults()
        dice, seen = random.Random(about.seed), 0
        while data := await reader.read(PIECE_BYTES):
            await asyncio.sleep(about.delay_s + (len(data) / about.bytes_per_s if about.bytes_per_s else 0.0))
            at, seen = seen, seen + len(data)
            if about.corrupt_after is not None and at <= about.corrupt_after < seen:
                changed = bytearray(data)
                changed[about.corrupt_after - at] ^= 1 << dice.randrange(8)
                data = bytes(changed)
            limits = [n for n in (about.drop_after, about.stall_after, about.truncate_after) if n is not None]
            ended = bool(limits) and seen >= min(limits)
            await self._flowing.wait()
            writer.write(data[:min(limits) - at] if ended else data)
            await writer.drain()
            self.carried[way] += len(data)
            if ended:
                if min(limits) == about.drop_after:
                    raise _Dropped
                if min(limits) == about.stall_after:
                    stalled.set()
                    await asyncio.Event().wait()
                writer.write_eof()
                while await reader.read(PIECE_BYTES):
                    pass
                return
        with contextlib.suppress(OSError):
            writer.write_eof()


class _Dropped(Exception):
    """The connection is to be aborted."""


@contextlib.contextmanager
def proxy(place: Place, *, port: int = 0, **faults: Any) -> Iterator[Proxy]:
    """A proxy until the block ends; `port` 0 for a free one, `faults` as Faults has them.

    Its place differs from `place` in host, port and known_hosts. Raises BadInput behind a jump host.
    """
    if place.jump:
        raise BadInput(f"{place.text} stands behind a jump host: there is nowhere to put a proxy",
                       "inject on the board instead")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()
    made, server = Proxy(place, Faults(**faults), loop), None
    try:
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(made.serve, LOOPBACK, port), loop).result()
        listening = int(server.sockets[0].getsockname()[1])
        with tempfile.TemporaryDirectory(prefix="hwkit-proxy-") as folder:
            known = Path(folder) / "known_hosts"
            known.write_text(_host_keys(place, listening))
            made.place = place.model_copy(update={"host": LOOPBACK, "port": listening, "known_hosts": known})
            yield made
    finally:
        asyncio.run_coroutine_threadsafe(_ended(server), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


async def _ended(server: asyncio.Server | None) -> None:
    if server is not None:
        server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)                                         # the transports that were aborted close now


def _host_keys(place: Place, port: int) -> str:
    """The board's known host keys, as lines for the proxy's port; none where none is known."""
    import asyncssh

    file = Path(place.known_hosts or "~/.ssh/known_hosts").expanduser()
    try:
        address = place.host if place.host[:1].isdigit() else ""
        keys = asyncssh.match_known_hosts(str(file), place.host, address, place.port)[0]
    except (OSError, ValueError):
        keys = []
    return "".join(f"[{LOOPBACK}]:{port} {key.export_public_key().decode().strip()}\n" for key in keys)
