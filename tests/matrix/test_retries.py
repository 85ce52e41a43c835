"""Trying again: only what may pass, later each time, not for ever."""

from __future__ import annotations

import random

import pytest
from pydantic import ValidationError

from hwkit.errors import BoardFault, JobFailed
from hwkit.faults import Fault
from hwkit.matrix.retries import Retries, retried


class Flaky:
    """Raises the given errors one after the other, then returns "done"."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.attempts = list(errors), []
        self.told: list[tuple[int, Fault, float | None]] = []
        self.waits: list[float] = []

    def work(self, attempt: int) -> str:
        self.attempts.append(attempt)
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def retried(self, rule: Retries, draw: float = 1.0) -> str:
        return retried(self.work, rule, lambda n, e, wait: self.told.append((n, e.fault, wait)),
                       self.waits.append, lambda: draw)


def lost() -> BoardFault:
    return BoardFault(Fault.BOARD_LOST, "gone")


def test_waits_double_up_to_the_longest() -> None:
    flaky = Flaky(*(lost() for _ in range(5)))
    assert flaky.retried(Retries(limit=5, first_s=2, longest_s=10)) == "done"
    assert flaky.waits == [2, 4, 8, 10, 10]
    assert flaky.attempts == [1, 2, 3, 4, 5, 6]


def test_jitter_takes_up_to_half_of_a_wait() -> None:
    rule = Retries(first_s=8, longest_s=100)
    assert rule.wait_s(1, 0.0) == 4
    assert rule.wait_s(2, 0.5) == 12
    drawn = random.Random(1)
    waits = [rule.wait_s(3, drawn.random()) for _ in range(200)]
    assert 16 <= min(waits) < 18
    assert 30 < max(waits) <= 32


def test_the_limit_counts_retries_and_the_last_fault_is_raised() -> None:
    flaky = Flaky(*(lost() for _ in range(9)))
    with pytest.raises(BoardFault, match="gone"):
        flaky.retried(Retries(limit=2, first_s=1))
    assert flaky.attempts == [1, 2, 3]
    assert flaky.told == [(1, Fault.BOARD_LOST, 1), (2, Fault.BOARD_LOST, 2), (3, Fault.BOARD_LOST, None)]


@pytest.mark.parametrize("fault", [f for f in Fault if not f.transient])
def test_what_cannot_pass_is_not_tried_again(fault: Fault) -> None:
    flaky = Flaky(BoardFault(fault, "no"))
    with pytest.raises(BoardFault):
        flaky.retried(Retries())
    assert flaky.attempts == [1]
    assert flaky.waits == []


@pytest.mark.parametrize("fault", [f for f in Fault if f.transient])
def test_what_may_pass_is_tried_again(fault: Fault) -> None:
    flaky = Flaky(BoardFault(fault, "now"))
    assert flaky.retried(Retries()) == "done"


def test_other_errors_and_bugs_are_none_of_its_business() -> None:
    for error in (JobFailed("died"), KeyError("bug")):
        flaky = Flaky(error)
        with pytest.raises(type(error)):
            flaky.retried(Retries())
        assert flaky.attempts == [1]
        assert flaky.told == []


def test_a_rule_is_possible() -> None:
    with pytest.raises(ValidationError, match="longest_s is shorter"):
        Retries(first_s=5, longest_s=1)
    assert Retries(limit=100).wait_s(1000, 1) == Retries().longest_s      # no overflow
