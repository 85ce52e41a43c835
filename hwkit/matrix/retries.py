"""Trying again after a transient fault of a board: with back-off, with jitter, not for ever.

Each wait is half fixed and half drawn, so that several that failed at once do not come back at once ("equal
jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Self, TypeVar

from pydantic import Field, model_validator

from hwkit.describe import Frozen
from hwkit.errors import BoardFault

T = TypeVar("T")


class Retries(Frozen):
    """How often to try again, and when.

    limit       at most so many tries after the first
    first_s     the wait before the first of them; each later one is twice as long
    longest_s   no wait is longer
    """

    limit: int = Field(default=3, ge=0, le=100)
    first_s: float = Field(default=2.0, gt=0)
    longest_s: float = Field(default=120.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.longest_s < self.first_s:
            raise ValueError("longest_s is shorter than first_s")
        return self

    def wait_s(self, failures: int, draw: float) -> float:
        """The wait after so many failures (1, 2, ...): from half of it (draw = 0) to all of it (draw = 1)."""
        whole: float = min(self.longest_s, self.first_s * 2.0 ** (failures - 1))
        return whole * (1 + draw) / 2


def retried(work: Callable[[int], T], rule: Retries, failed: Callable[[int, BoardFault, float | None], None],
            pause: Callable[[float], None], draw: Callable[[], float] = random.random) -> T:
    """What `work` returns; it is given the number of the attempt, 1 at first.

    failed   is told every fault: (attempt, fault, seconds until the next one; None when there is none)
    pause    waits so many seconds; an exception that it raises ends everything
    Raises what `work` raised: faults that are not transient, the last of the transient ones, anything else.
    """
    attempt = 1
    while True:
        try:
            return work(attempt)
        except BoardFault as e:
            again = e.fault.transient and attempt <= rule.limit
            wait_s = rule.wait_s(attempt, draw()) if again else None
            failed(attempt, e, wait_s)
            if wait_s is None:
                raise
        pause(wait_s)
        attempt += 1
