"""Runners: ways of executing an artifact on a board, one file each, found by name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, cast

from hwkit.artifact import Artifact, Finding, Operator, Problem
from hwkit.board import Board
from hwkit.describe import Frozen, Kind
from hwkit.errors import UnknownName
from hwkit.jobs import Say
from hwkit.measurement import Measurement


class Request(Frozen):
    """What to find out on a board.

    iterations, duration_s   the timed pass ends when both are reached
    operators                also cost every operator on its own
    application              also time inferences as an application has them, see "application_latency"
    energy                   also energy, where the board senses its power; None: where its clock is a real one
    energy_operators         also energy of so many of the heaviest operators, by differential runs: 40 s each
    """

    threads: int = 1
    warmup: int = 5
    iterations: int = 30
    duration_s: float = 3.0
    operators: bool = True
    application: bool = True
    energy: bool | None = None
    energy_operators: int = 0


class OperatorCost(Frozen):
    """Cost of one execution of the artifact's operator `index`, seconds or instructions."""

    index: int
    value: float


class OperatorEnergy(Frozen):
    """Energy above idle of one execution of the artifact's operator `index`, with its 95 % interval."""

    index: int
    value_j: float
    low_j: float
    high_j: float
    kind: Kind
    source: str


class Run(Frozen):
    """What a board said.

    measurements      every quantity that was taken; what was not taken is in `not_measured`
    operator_costs    in the unit of `operator_unit`, one execution each, profiled apart from the timed pass
    operators         what ran there and is no operator of the artifact; their indices follow on, and
                      `operator_costs` has them too
    findings          checks made there: same outputs as the build machine, sum of operators against the whole
    not_measured      quantity -> why
    files             name -> text of what is kept beside the raw samples: profiles, a trace
    """

    board: str
    measurements: tuple[Measurement, ...]
    operator_costs: tuple[OperatorCost, ...] = ()
    operator_unit: str = ""
    operator_kind: str = ""
    operator_energies: tuple[OperatorEnergy, ...] = ()
    operators: tuple[Operator, ...] = ()
    findings: tuple[Finding, ...] = ()
    not_measured: dict[str, str] = {}
    tool_versions: dict[str, str] = {}
    files: dict[str, str] = {}


class Runner(Protocol):
    """A module in hwkit/runners/ with these functions."""

    def missing(self, board: Board) -> list[Problem]:
        """What has to be made or installed before a run; empty when ready. Seconds, starts nothing heavy."""
        ...

    def make(self, board: Board, say: Say) -> None:
        """Make whatever `missing` named, as far as hwkit can."""
        ...

    def run(self, artifact: Artifact, board: Board, request: Request, say: Say) -> Run:
        """Execute the artifact there. Raises ToolMissing or BoardError."""
        ...


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_") and not m.ispkg)


def unready(board: Board) -> tuple[str, str] | None:
    """Why a board cannot be used now, and the next command if there is one; None when it can be."""
    fatal = [p.message for p in runner(board.runner).missing(board) if p.fatal]
    if not fatal:
        return None
    return "; ".join(fatal), "" if board.runner == "ssh" else f"hwkit board make {board.name}"


def runner(name: str) -> Runner:
    """The runner of that name. Raises UnknownName."""
    if name not in names():
        raise UnknownName("runner", name, names(), "hwkit list boards")
    return cast(Runner, importlib.import_module(f"{__name__}.{name}"))
