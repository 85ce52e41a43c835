"""A stand-in for a board: an ssh server on the loopback, whose programs run on this machine.

The ssh is real and so is everything on top of it; the machine is not a board.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from hwkit.lab import Place


@dataclass
class Sshd:
    """A running server. `path` is PATH for its programs; `folder` holds its keys, its lock and its scratch."""

    folder: Path
    port: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    wrap: Callable[[str], str] = str           # what its shell makes of a command
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    loop: Any = None

    def place(self, **changes: Any) -> Place:
        """Where it stands, as a lab file would say."""
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        return Place(**{"host": "127.0.0.1", "port": self.port, "user": "tester", "key": self.folder / "client",
                        "known_hosts": self.folder / "known_hosts", "scratch": str(scratch),
                        "lock": str(self.folder / "lock"), **changes})

    def cut(self) -> None:
        """End all connections, as a pulled cable would."""
        for connection in self.connections:
            self.loop.call_soon_threadsafe(connection.abort)

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        child = await asyncio.create_subprocess_shell(
            self.wrap(process.command or "true"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env={**os.environ, **self.environment})
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        pumps = [asyncio.create_task(_pump(*ends)) for ends in (
            (process.stdin, child.stdin, True), (child.stdout, process.stdout), (child.stderr, process.stderr))]
        await asyncio.wait(pumps[1:])
        pumps[0].cancel()
        for end in (1, 2):                             # where the link is gone, the program's pipes break too
            child._transport.get_pipe_transport(end).close()       # type: ignore[attr-defined]
        code = await child.wait()
        with contextlib.suppress(OSError, asyncssh.Error):
            if code < 0:
                process.exit_with_signal({9: "KILL", 11: "SEGV", 15: "TERM"}[-code])
            else:
                process.exit(code)


async def _pump(source: Any, sink: Any, ending: bool = False) -> None:
    """Bytes from one end to the other, and then the end where nothing else goes there."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    with contextlib.suppress(OSError, asyncssh.Error):
        if ending:
            sink.write_eof()


class _Server(asyncssh.SSHServer):
    def __init__(self, owner: Sshd) -> None:
        self.owner = owner

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = conn
        self.owner.connections.append(conn)

    def begin_auth(self, username: str) -> bool:
        if username != "nobody":
            self.connection.set_authorized_keys(str(self.owner.folder / "authorized_keys"))
        return True

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return True

    def connection_requested(self, *_: Any) -> bool:           # as a jump host
        return True


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Sshd]:
    """A server with keys of its own, until the block ends."""
    keys = {}
    for name in ("host", "client"):
        keys[name] = asyncssh.generate_private_key("ssh-ed25519")
        keys[name].write_private_key(str(folder / name))
        (folder / name).chmod(0o600)
    (folder / "authorized_keys").write_bytes(keys["client"].export_public_key())
    server = Sshd(folder)
    server.loop = loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[str(folder / "host")], server_factory=lambda: _Server(server),
            process_factory=server._serve, encoding=None)

    listener = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    server.port = listener.get_port()
    public = keys["host"].export_public_key().decode().strip()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {public}\n")
    try:
        yield server
    finally:
        server.cut()

        async def end() -> None:
            listener.close()
            await listener.wait_closed()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
