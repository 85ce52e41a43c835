"""What the driver tells: progress on stdout, and why a model is refused."""

from __future__ import annotations

import sys

PROGRESS = "hwkit-progress: "


class Refused(Exception):
    """The model or the wish cannot be served. `hint` is what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def say(text: str) -> None:
    """One line of progress, whatever FINN has done to sys.stdout."""
    print(f"{PROGRESS}{text}", file=sys.__stdout__, flush=True)
