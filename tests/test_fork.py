"""A forked copy of the process ends alone, however it ends.

The cases run in a fresh process: forking wants one thread, and pytest's process has those of the libraries
that other tests import.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from hwkit.errors import BadModel, HwkitError, JobFailed
from hwkit.fork import forked
from hwkit.jobs import untold

MEGABYTE = 2**20
TIMEOUT_S = 0.5
VALUES = [1]
Outcomes = dict[Callable[[], Any], tuple[dict[str, Any], list[int], bool]]


def answers() -> dict[str, Any]:
    return {"long": "x" * MEGABYTE}


def changes_what_it_was_given() -> None:
    VALUES.append(2)


def refuses() -> None:
    raise BadModel("no", "do this")


def has_a_bug() -> None:
    raise KeyError("nothing here")


def crashes() -> None:
    ctypes.string_at(0)


def spins() -> None:
    while True:
        pass


def sleeps() -> None:
    time.sleep(600)


def hogs() -> None:
    bytearray(4096 * MEGABYTE)


def exits() -> None:
    sys.exit(3)


def leaves() -> None:
    os._exit(7)


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


CASES = (answers, changes_what_it_was_given, refuses, has_a_bug, crashes, spins, sleeps, hogs, exits, leaves,
         is_killed)


def outcome_of(case: Callable[[], Any]) -> tuple[dict[str, Any], list[int], bool]:
    """What `forked` says; VALUES in the parent afterwards; whether a child is left."""
    timeout_s = TIMEOUT_S if case in (spins, sleeps) else 20.0
    said = forked(case, timeout_s=timeout_s, memory_bytes=512 * MEGABYTE)
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return said, VALUES, False
    return said, VALUES, True


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(zip(CASES, pool.map(outcome_of, CASES), strict=True))



def error(outcomes: Outcomes, case: Callable[[], Any]) -> HwkitError:
    return untold(outcomes[case][0]["failure"], "opening x")


def test_the_result_comes_back(outcomes: Outcomes) -> None:
    assert outcomes[answers][0] == {"result": {"long": "x" * MEGABYTE}}


def test_the_parent_is_untouched(outcomes: Outcomes) -> None:
    said, values, _ = outcomes[changes_what_it_was_given]
    assert said == {"result": None}
    assert values == [1]


@pytest.mark.parametrize("case", CASES)
def test_no_child_is_left(case: Callable[[], Any], outcomes: Outcomes) -> None:
    assert not outcomes[case][2]


def test_a_deliberate_error_keeps_its_class(outcomes: Outcomes) -> None:
    found = error(outcomes, refuses)
    assert type(found) is BadModel
    assert found.line() == "no -> do this"


def test_a_bug_keeps_its_traceback(outcomes: Outcomes) -> None:
    found = error(outcomes, has_a_bug)
    assert isinstance(found, JobFailed)
    assert found.line() == "opening x: KeyError: 'nothing here'"
    assert "in has_a_bug" in found.log


@pytest.mark.parametrize(("case", "line"), [
    (crashes, "opening x: crashed: it was ended by signal SIGSEGV"),
    (is_killed, "opening x: crashed: it was ended by signal SIGKILL"),
    (spins, "opening x: took longer than 0.5 s"),
    (sleeps, "opening x: took longer than 0.5 s"),
    (hogs, "opening x: ran out of memory"),
    (exits, "opening x: SystemExit: 3"),
    (leaves, "opening x: ended with code 7 and said nothing"),
])
def test_a_bad_end_is_one_line(case: Callable[[], Any], line: str, outcomes: Outcomes) -> None:
    found = error(outcomes, case)
    assert isinstance(found, JobFailed)
    assert found.message == line
    assert "\n" not in found.line()
