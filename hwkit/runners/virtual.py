"""Runner `virtual`: a whole aarch64 Linux under QEMU on this machine, reached over ssh as a real board is.

Its outputs are those of real ARM code; its times say nothing of any device, see the clock of hwkit.virtual.
"""

from __future__ import annotations

from hwkit import virtual
from hwkit.artifact import Artifact, Problem
from hwkit.board import Board
from hwkit.errors import ToolMissing
from hwkit.jobs import Say
from hwkit.runners import Request, Run, _remote
from hwkit.virtual import image, machine
from hwkit.virtual.options import options


def missing(board: Board) -> list[Problem]:
    """What must be installed (by apt) or made (by `hwkit board make`) before a run. Milliseconds."""
    options(board)
    try:
        machine.qemu()
        if machine.is_made(board.name):
            return []
        if image.image() is None:
            image.mke2fs()
    except ToolMissing as e:
        return [Problem(message=e.line())]
    return [Problem(message="not made")]


def make(board: Board, say: Say) -> None:
    """The image that all virtual boards share, and this one's keys. Raises ToolMissing, JobFailed, NoSpace."""
    machine.make(board, say)


def run(artifact: Artifact, board: Board, request: Request, say: Say) -> Run:
    """Execute the artifact there, started now unless it runs. Raises ToolMissing, BoardError, BadInput."""
    place = virtual.started(board, say)
    clock = virtual.mode(board) or "emulated"
    return _remote.run(artifact, board, place, request, clock, say, options=_remote.Options())
