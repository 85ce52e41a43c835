"""Jobs: functions of ours that run in a child process, because they open models hwkit did not make,
because they may crash, or because their libraries are heavy.

A job is `module:function(spec, say)`: it takes a JSON object and returns one. In the child, HwkitErrors
travel back as one line of JSON and are raised again in the parent; a crash, a timeout and an exhausted
memory limit become JobFailed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwkit import errors
from hwkit.artifact import Command
from hwkit.errors import HwkitError, JobFailed
from hwkit.files import unwritable, write_json
from hwkit.process import run

PROGRESS = "hwkit-progress: "
ERROR = "hwkit-error: "
Say = Callable[[str], None]


def told(error: BaseException) -> dict[str, str]:
    """An exception as JSON, to cross a process boundary; one that is not deliberate becomes a JobFailed."""
    if isinstance(error, HwkitError):
        log = error.log if isinstance(error, JobFailed) else ""
        return {"type": type(error).__name__, "message": error.message, "hint": error.hint, "log": log}
    if isinstance(error, MemoryError):
        return told(JobFailed("ran out of memory"))
    full = unwritable(error) if isinstance(error, OSError) else None
    about = full or JobFailed(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return {**told(about), "log": "".join(traceback.format_exception(error))}


def untold(said: dict[str, str], what: str) -> HwkitError:
    """The error that `told` wrote, of its own class; a JobFailed says that it was `what` that failed."""
    if said["type"] == JobFailed.__name__:
        return JobFailed(f"{what}: {said['message']}", said["hint"], said["log"])
    error: HwkitError = HwkitError.__new__(getattr(errors, said["type"]))
    HwkitError.__init__(error, said["message"], said["hint"])
    return error


def command(job: str, spec_file: str, result_file: str, *, what: str, timeout_s: float,
            memory_bytes: int | None = None) -> Command:
    """The plan step that runs `job` on the JSON in `spec_file` and writes `result_file`."""
    return Command(what=what, argv=(sys.executable, "-m", "hwkit.jobs", job, spec_file, result_file),
                   timeout_s=timeout_s, memory_bytes=memory_bytes)


def environment() -> dict[str, str]:
    """The child's environment: deterministic hashing, our package importable, quiet libraries."""
    package = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(p for p in (package, os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}


def execute(step: Command, folder: Path, progress: Say | None = None) -> None:
    """Run one plan step in `folder`. Errors of a job are raised as what they were in the child."""

    def on_line(line: str) -> None:
        if progress and line.startswith(PROGRESS):
            progress(line.removeprefix(PROGRESS))

    is_job = step.argv[1:3] == ("-m", "hwkit.jobs")
    done = run(step.argv, cwd=folder, env=environment() if is_job else None, timeout_s=step.timeout_s,
               memory_bytes=step.memory_bytes, what=step.what, on_line=on_line, check=not is_job)
    if is_job and done.returncode != 0:
        raise _told(step.what, done.stdout) or JobFailed(
            f"{step.what}: the child process ended with code {done.returncode}", log=done.stdout[-5000:])


def _told(what: str, output: str) -> HwkitError | None:
    """The error a failing job printed, as an exception; None when it died without a word."""
    lines = [line for line in output.splitlines() if line.startswith(ERROR)]
    if not lines:
        return None
    return untold(json.loads(lines[-1].removeprefix(ERROR)), what)


def call(job: str, spec: dict[str, Any], *, what: str, timeout_s: float = 600.0,
         memory_bytes: int | None = None, progress: Say | None = None) -> Any:
    """Run a job in a child process and return its result."""
    with tempfile.TemporaryDirectory(prefix="hwkit-job-") as scratch:
        folder = Path(scratch)
        write_json(folder / "spec.json", spec)
        execute(command(job, "spec.json", "result.json", what=what, timeout_s=timeout_s,
                        memory_bytes=memory_bytes), folder, progress)
        return json.loads((folder / "result.json").read_text())


def say(text: str) -> None:
    """Tell the parent what is going on."""
    print(f"{PROGRESS}{text}", flush=True)


def _main(job: str, spec_file: str, result_file: str) -> int:
    module, function = job.split(":")
    try:
        result = getattr(importlib.import_module(module), function)(json.loads(Path(spec_file).read_text()), say)
        write_json(Path(result_file), result)
    except Exception as e:
        print(f"{ERROR}{json.dumps(told(e))}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
