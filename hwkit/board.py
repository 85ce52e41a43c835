"""Board: one way to reach and sense one kind of device. Data, in boards/<name>.toml.

Where a board of the user's own stands is in the lab file (hwkit.lab); it is then a board by the name it has there.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from hwkit import lab
from hwkit.data import descriptions
from hwkit.describe import Frozen, Name, NonEmpty, load_named
from hwkit.errors import BadDescription, UnknownName

HINT = "the README shows a whole one under \"Add a board\""


class Board(Frozen):
    """How to run on a device.

    kind     what a number taken there is: "measured" on silicon, "simulated" under an emulator
    runner   the file in hwkit/runners/ that reaches it
    backends the backends whose artifacts it can execute; empty for every one
    options  what that runner needs to know; the runner validates them
    place    where it stands, of a board of the lab; never in boards/
    """

    name: Name
    description: NonEmpty
    target: Name
    kind: Literal["measured", "simulated"]
    runner: Name
    backends: tuple[Name, ...] = ()
    options: dict[str, Any] = {}
    place: lab.Place | None = Field(default=None, exclude=True)


def names() -> list[str]:
    """All boards that are described: what hwkit knows how to reach."""
    return list(descriptions("boards"))


def board(name: str) -> Board:
    """The board of that name, of the lab or as described. Raises UnknownName, BadDescription."""
    mine = lab.entries()
    own = mine.get(name)
    if own is None:
        if name not in names():
            raise UnknownName("board", name, [*names(), *mine])
        return load_named("boards", name, Board, HINT)
    if name in names():
        raise BadDescription(lab.path(), f"boards.{name}", "is also the name of a file in boards/",
                             "choose another")
    about = load_named("boards", own.board, Board, HINT)
    if about.runner != "ssh":
        raise BadDescription(lab.path(), f"boards.{name}.board",
                             f"{own.board} is not reached over ssh but by {about.runner}", "hwkit list boards")
    place = lab.Place(**own.model_dump(exclude={"board", "options"}))
    return about.model_copy(update={"name": name, "description": f"{about.description}, at {place.text}",
                                    "options": {**about.options, **own.options}, "place": place})


def at_hand(target: str) -> list[Board]:
    """Boards of this target that everybody has, sorted by name: no ssh, no machine that must be started."""
    described = (load_named("boards", name, Board, HINT) for name in names())
    return [b for b in described if b.target == target and b.runner not in ("ssh", "virtual")]
