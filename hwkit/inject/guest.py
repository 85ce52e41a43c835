"""Faults of a whole virtual board: what a person with access to its plug and its reset button could do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from hwkit.errors import BoardError
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
    if machine.state(name) is None:
        raise BoardError(f"board {name} does not run", f"hwkit board start {name}")
    DEEDS[deed](name)
