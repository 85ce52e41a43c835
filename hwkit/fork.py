"""Run a function in a forked copy of this process: cheap isolation once heavy libraries are imported.

For code that opens files we did not make, hundreds in a row if need be: a crash, an endless loop or a
memory leak ends the copy alone. Call it from a process with one thread: a job that has only imported.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from hwkit.errors import JobFailed
from hwkit.jobs import told

_PR_SET_PDEATHSIG = 1   # linux/prctl.h


def forked(function: Callable[[], Any], *, timeout_s: float, memory_bytes: int) -> dict[str, Any]:
    """{"result": what `function` returned} or {"failure": what went wrong}, computed in a copy of this process.

    memory_bytes  address space that it may take beyond what this process has now
    The result must be JSON-able; the failure is as hwkit.jobs.told writes it and `untold` reads it.
    """
    readable, writable = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(readable)
        _run_and_exit(function, writable, parent, memory_bytes)
    os.close(writable)
    deadline = time.monotonic() + timeout_s
    try:
        said = _read(readable, deadline)
        status = _wait(child, deadline) if said is not None else None
    finally:
        os.close(readable)
        _end(child)
    if said is None or status is None:
        return _failed(f"took longer than {timeout_s:g} s")
    if os.WIFSIGNALED(status):
        return _failed(f"crashed: it was ended by signal {signal.Signals(os.WTERMSIG(status)).name}")
    if not said:
        return _failed(f"ended with code {os.waitstatus_to_exitcode(status)} and said nothing")
    outcome: dict[str, Any] = json.loads(said)
    return outcome


def _failed(how: str) -> dict[str, Any]:
    return {"failure": told(JobFailed(how, "open it in Python by itself to see why"))}


def _run_and_exit(function: Callable[[], Any], pipe: int, parent: int, memory_bytes: int) -> NoReturn:
    """The child: never returns, and runs none of the parent's clean-up."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:   # it died before prctl took effect
            os._exit(1)
        limit = _address_space_bytes() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            text = json.dumps({"result": function()})
        except BaseException as e:   # also SystemExit and KeyboardInterrupt: the parent decides
            text = json.dumps({"failure": told(e)})
        sys.stdout.flush()
        sys.stderr.flush()
        with os.fdopen(pipe, "w") as f:
            f.write(text)
        os._exit(0)
    finally:
        os._exit(1)


def _address_space_bytes() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[0]) * resource.getpagesize()


def _read(pipe: int, deadline: float) -> bytes | None:
    """Everything the child writes, None when the deadline passes first."""
    read = bytearray()
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(pipe, 1 << 16)
        if not part:
            return bytes(read)
        read += part


def _wait(child: int, deadline: float) -> int | None:
    """Exit status of the child, None when the deadline passes first."""
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.001)
    return None


def _end(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass   # it has ended and was waited for
