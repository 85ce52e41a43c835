"""A simulated block behind a socket: whoever connects reads and writes its registers and moves data through it.

The protocol is in the C++ program that is compiled together with the block; hls/dsode/sim/bus_server.cpp is one.
"""

from __future__ import annotations

import contextlib
import os
import queue
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hwkit import process
from hwkit.eda import verilator
from hwkit.errors import JobFailed
from hwkit.jobs import Say

LONGEST_S = 7 * 86400.0
PATIENCE_S = 30.0          # with the rest of a request, and with an answer that is not taken


@contextlib.contextmanager
def serving(bench: verilator.Bench, folder: Path, server: Path, say: Say, *,
            patience_s: float = PATIENCE_S) -> Iterator[int]:
    """The port on 127.0.0.1 where the block of a bench that lies in `folder` is served while the block runs.

    server   C++ that takes STREAM_BYTES LIMIT_CYCLES PATIENCE_MS LEASE, and prints "port N" once it listens; it
             ends when something is written to LEASE, a FIFO, or when this process is no more
    Raises ToolMissing, JobFailed: the simulator does not build or does not start.
    """
    simulator = verilator.build(bench.model_copy(update={"testbench": str(server.resolve())}), folder, say)
    with tempfile.TemporaryDirectory(prefix="hwkit-bus-") as scratch, _lease(Path(scratch) / "lease") as lease, \
            ThreadPoolExecutor(1) as pool:
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        argv = [str(simulator), str(bench.stream_bytes), str(bench.limit_cycles), str(round(1000 * patience_s)),
                f"{scratch}/lease"]
        ended = pool.submit(process.run, argv, timeout_s=LONGEST_S, what=f"the simulator of {bench.top}",
                            on_line=lines.put)
        ended.add_done_callback(lambda _: lines.put(""))
        try:
            said = lines.get()
            if not said.startswith("port "):
                ended.result()
                raise JobFailed(f"the simulator of {bench.top} said {said!r} instead of its port")
            yield int(said.split()[1])
        finally:
            os.write(lease, b".")


@contextlib.contextmanager
def _lease(path: Path) -> Iterator[int]:
    """A FIFO, open at both ends: to open one for writing only would wait for its reader."""
    os.mkfifo(path)
    lease = os.open(path, os.O_RDWR)
    try:
        yield lease
    finally:
        os.close(lease)
