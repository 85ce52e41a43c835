"""Faults of a whole virtual board: what a person with access to its plug and its reset button could do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Literal

from hwkit.virtual import machine

Deed = Literal["kill", "freeze", "thaw", "reset"]
DEEDS: dict[Deed, Callable[[str], object]] = {
    "kill": machine.kill,           # its plug pulled
    "freeze": machine.freeze,       # it stands still, its connections stay
    "thaw": machine.thaw,
    "reset": machine.reset,         # its reset button; it boots again by itself
}


def do(name: str, deed: Deed) -> None:
    """Raises BoardError where that board does not run."""
    DEEDS[deed](name)


@contextlib.contextmanager
def later(name: str, deed: Deed, after_s: float) -> Iterator[None]:
    """Do it so many seconds from now, unless the block ends before."""
    timer = threading.Timer(after_s, do, (name, deed))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
