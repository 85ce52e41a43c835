"""Runner `ssh`: a board of the user's lab, over ssh. Numbers are measured, on whatever else it is doing."""

from __future__ import annotations

import importlib.util

from hwkit import lab
from hwkit.artifact import Artifact, Problem
from hwkit.board import Board
from hwkit.errors import BadInput, ToolMissing
from hwkit.jobs import Say
from hwkit.runners import Request, Run

LIBRARY = "asyncssh"


def missing(board: Board) -> list[Problem]:
    """A place in the lab, and the library. The board itself is asked by `hwkit doctor --board`."""
    if board.place is None:
        return [Problem(message=f"none stands in your lab; add [boards.NAME] with board = {board.name!r}, host "
                                f"and user to {lab.path()}")]
    if importlib.util.find_spec(LIBRARY) is None:
        return [Problem(message='asyncssh is not installed: pip install "hwkit[ssh]"')]
    return []


def make(board: Board, say: Say) -> None:
    """Nothing is made on a board. Raises BadInput without a place, ToolMissing without the library."""
    if board.place is None:
        raise BadInput(f"board {board.name}: {missing(board)[0].message}")
    for problem in missing(board):
        raise ToolMissing(problem.message)
    say("nothing to make")


def run(artifact: Artifact, board: Board, request: Request, say: Say) -> Run:
    """Raises BoardFault, BoardError, BadInput, ToolMissing."""
    make(board, say)
    assert board.place is not None
    from hwkit.runners import _remote

    return _remote.run(artifact, board, board.place, request, "real", say)
