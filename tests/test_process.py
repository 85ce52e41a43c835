"""Programs are ended with all their children, and every way of failing is one clear error."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwkit.errors import JobFailed, ToolMissing
from hwkit.process import require, run


def running(marker: str) -> bool:
    """Whether any process has `marker` in its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if marker.encode() in words:
                return True
    return False


def test_lines_come_as_they_are_printed_and_the_whole_at_the_end() -> None:
    seen: list[str] = []
    done = run(["sh", "-c", "echo one; echo two >&2"], timeout_s=20, what="echo", on_line=seen.append)
    assert seen == ["one", "two"]
    assert done.stdout == "one\ntwo\n"


def test_a_missing_program_says_what_to_install() -> None:
    with pytest.raises(ToolMissing, match="not installed") as caught:
        run(["no-such-program-here"], timeout_s=5, what="x", hint="apt-get install it")
    assert caught.value.exit_code == 3
    assert "apt-get install it" in caught.value.line()
    with pytest.raises(ToolMissing):
        require("no-such-program-here", "apt-get install it")


def test_a_failure_carries_its_last_line_and_its_log() -> None:
    with pytest.raises(JobFailed, match="failed with exit code 3: the reason") as caught:
        run(["sh", "-c", "echo before; echo the reason; exit 3"], timeout_s=20, what="x")
    assert caught.value.exit_code == 4
    assert caught.value.log == "before\nthe reason\n"


def test_a_crash_names_the_signal() -> None:
    with pytest.raises(JobFailed, match="ended by signal SIGSEGV"):
        run(["sh", "-c", "kill -SEGV $$"], timeout_s=20, what="x")


def test_a_time_limit_ends_grandchildren_too() -> None:
    marker = f"grandchild-of-{os.getpid()}"
    script = f"sh -c 'while :; do sleep 0.1; done' {marker} & wait"
    with pytest.raises(JobFailed, match=r"took longer than 0\.5 s"):
        run(["sh", "-c", script], timeout_s=0.5, what="x")
    deadline = time.monotonic() + 10
    while running(marker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(marker)


def test_a_memory_limit_holds() -> None:
    """The child waits a moment so that the limit, set from outside, stands before it asks for memory."""
    program = "import time; time.sleep(0.3); x = bytearray(2_000_000_000); print('got it')"
    with pytest.raises(JobFailed, match="MemoryError"):
        run([sys.executable, "-c", program], timeout_s=30, memory_bytes=10**9, what="x")
    assert "got it" in run([sys.executable, "-c", program], timeout_s=30, memory_bytes=8 * 10**9, what="x").stdout


def test_ctrl_c_here_ends_the_child() -> None:
    marker = f"interrupted-child-of-{os.getpid()}"
    program = ("import sys; from hwkit.process import run\n"
               "run(['sh', '-c', 'echo up; while :; do sleep 0.1; done', sys.argv[1]], timeout_s=60, what='x',\n"
               "    on_line=lambda line: print(line, flush=True))\n")
    parent = subprocess.Popen([sys.executable, "-c", program, marker], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "up\n"
    parent.send_signal(2)
    assert parent.wait(20) != 0
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while running(marker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(marker)
