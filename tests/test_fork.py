"""A forked copy of the process ends alone, however it ends."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from hwkit.errors import BadModel, JobFailed
from hwkit.fork import forked
from hwkit.jobs import untold

MEGABYTE = 2**20


def run(function: Callable[[], Any], timeout_s: float = 20, memory_bytes: int = 512 * MEGABYTE) -> dict[str, Any]:
    return forked(function, timeout_s=timeout_s, memory_bytes=memory_bytes)


def failure(function: Callable[[], Any], **limits: Any) -> str:
    error = untold(run(function, **limits)["failure"], "opening x")
    assert isinstance(error, JobFailed)
    return error.line()


def test_the_result_comes_back() -> None:
    assert run(lambda: {"pid": os.getpid() != 0, "long": "x" * MEGABYTE}) == {
        "result": {"pid": True, "long": "x" * MEGABYTE}}


def test_the_parent_is_untouched() -> None:
    values = [1]
    run(lambda: values.append(2))
    assert values == [1]


def test_a_deliberate_error_keeps_its_class() -> None:
    def refuse() -> None:
        raise BadModel("no", "do this")
    error = untold(run(refuse)["failure"], "x")
    assert type(error) is BadModel
    assert error.line() == "no -> do this"


def test_a_bug_keeps_its_traceback() -> None:
    def broken() -> None:
        raise KeyError("nothing here")
    error = untold(run(broken)["failure"], "opening x")
    assert isinstance(error, JobFailed)
    assert error.line() == "opening x: KeyError: 'nothing here'"
    assert "in broken" in error.log


def test_a_crash() -> None:
    def crash() -> None:
        faulthandler.disable()   # pytest's, which would print a long text
        ctypes.string_at(0)
    assert failure(crash) == "opening x: crashed: it was ended by signal SIGSEGV"


def test_an_endless_loop() -> None:
    def spin() -> None:
        while True:
            pass
    started = time.monotonic()
    assert failure(spin, timeout_s=0.5) == "opening x: took longer than 0.5 s"
    assert time.monotonic() - started < 15


def test_memory() -> None:
    assert failure(lambda: len(bytearray(4096 * MEGABYTE))) == "opening x: ran out of memory"


@pytest.mark.parametrize("leave", [
    lambda: sys.exit(3), lambda: os._exit(7), lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_leaving_without_a_word(leave: Callable[[], Any]) -> None:
    assert failure(leave).startswith("opening x: ")


def test_no_child_is_left() -> None:
    run(lambda: 1)
    failure(lambda: time.sleep(60), timeout_s=0.2)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
