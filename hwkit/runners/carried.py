"""Runner `carried`: the artifact was executed elsewhere by its own plan, and its results were brought here.

For a board that cannot be reached from this machine: copy the artifact there, run the command that its report
names under "plan for the board", and bring the folder board/out back.
"""

from __future__ import annotations

from pathlib import Path

from hwkit.artifact import Artifact, Problem
from hwkit.board import Board
from hwkit.describe import Frozen, NonEmpty, validated
from hwkit.errors import BadInput
from hwkit.jobs import Say
from hwkit.runners import Request, Run, _trt_run
from hwkit.target import target


class Options(Frozen):
    """[options] of a board with this runner. results: the folder that was brought here."""

    results: NonEmpty


def missing(board: Board) -> list[Problem]:
    """The folder itself."""
    results = validated(board.options, Options, f"boards/{board.name}.toml [options]").results
    return [] if Path(results).is_dir() else [Problem(message=f"there is no folder {results}")]


def make(board: Board, say: Say) -> None:
    """Raise BadInput when the folder is not there: nothing else is needed."""
    for problem in missing(board):
        raise BadInput(problem.message, "bring the folder board/out of the artifact back from the board")
    say("nothing to make")


def run(artifact: Artifact, board: Board, request: Request, say: Say) -> Run:
    """Read the results. Raises BadInput where they are of another GPU than the target's, BoardError."""
    folder = Path(validated(board.options, Options, f"boards/{board.name}.toml [options]").results)
    say(f"reading {folder}")
    found = _trt_run.read(folder)
    gpu = target(board.target).gpu
    if gpu and gpu.sm and found.gpu and found.gpu.sm != gpu.sm:
        raise BadInput(f"the results in {folder} are of {found.gpu.name} with SM {found.gpu.sm}, {board.target} "
                       f"has SM {gpu.sm}", "hwkit list targets")
    return _trt_run.told(artifact, board, folder, found)
