"""Start a program and wait for it: own process group, time limit, memory limit, one clear error."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hwkit.errors import JobFailed, ToolMissing
from hwkit.stopping import endable

LOG_LINES = 200


def require(program: str, hint: str) -> str:
    """Full path of a program on PATH. Raises ToolMissing with `hint`."""
    found = shutil.which(program)
    if not found:
        raise ToolMissing(f"{program} is not installed", hint)
    return found


def run(argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None,
        timeout_s: float, memory_bytes: int | None = None, what: str, hint: str = "",
        on_line: Callable[[str], None] | None = None, check: bool = True,
        ) -> subprocess.CompletedProcess[str]:
    """Run to the end; stdout and stderr come back as one text in `stdout`.

    on_line       is called with every line as it appears
    memory_bytes  limit of the address space (RLIMIT_AS), None for no limit
    Raises ToolMissing when the program does not exist, JobFailed when it fails or outlasts `timeout_s`.
    The whole process group is ended on a timeout, by hwkit.stopping and on any exception, Ctrl-C included.
    """
    try:
        child = subprocess.Popen(
            list(argv), cwd=cwd, env=dict(env) if env is not None else None, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True)
    except FileNotFoundError:
        raise ToolMissing(f"{what}: {argv[0]} is not installed", hint) from None
    if memory_bytes is not None:      # from outside: a preexec_fn may deadlock when we have threads
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(child.pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    timed_out = threading.Event()

    def end_group() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    def expire() -> None:
        timed_out.set()
        end_group()

    timer = threading.Timer(timeout_s, expire)
    timer.start()
    kept: list[str] = []
    try:
        assert child.stdout is not None
        with endable(end_group):
            for line in child.stdout:
                kept.append(line)
                if on_line:
                    on_line(line.rstrip("\n"))
            code = child.wait()
    finally:
        timer.cancel()
        end_group()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
    log = "".join(kept[-LOG_LINES:])
    if timed_out.is_set():
        raise JobFailed(f"{what}: took longer than {timeout_s:g} s", hint, log)
    if check and code != 0:
        last = next((text.strip() for text in reversed(kept) if text.strip()), "no output")
        how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
        raise JobFailed(f"{what}: {how}: {last:.300}", hint, log)
    return subprocess.CompletedProcess(list(argv), code, "".join(kept), "")
