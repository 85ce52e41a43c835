"""Board: one way to reach and sense one kind of device. Data, in boards/<name>.toml."""

from __future__ import annotations

from typing import Any, Literal

from hwkit.data import descriptions
from hwkit.describe import Frozen, Name, NonEmpty, load_named

HINT = "the README shows a whole one under \"Add a board\""


class Board(Frozen):
    """How to run on a device.

    kind     what a number taken there is: "measured" on silicon, "simulated" under an emulator
    runner   the file in hwkit/runners/ that reaches it
    backends the backends whose artifacts it can execute; empty for every one
    options  what that runner needs to know; the runner validates them
    """

    name: Name
    description: NonEmpty
    target: Name
    kind: Literal["measured", "simulated"]
    runner: Name
    backends: tuple[Name, ...] = ()
    options: dict[str, Any] = {}


def names() -> list[str]:
    return list(descriptions("boards"))


def board(name: str) -> Board:
    """The board of that name. Raises UnknownName, BadDescription."""
    return load_named("boards", name, Board, HINT)


def boards_of(target: str) -> list[Board]:
    """All boards that name this target, sorted by name."""
    return [b for b in map(board, names()) if b.target == target]
