"""Runner `verilator`: the RTL of an artifact, simulated cycle by cycle.

It gives the outputs and the cycles exactly, and nothing about time: how long a cycle takes is the target's
assumption, and what follows from it was estimated when the design was built.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from hwkit.artifact import Artifact, Finding, Problem
from hwkit.board import Board
from hwkit.eda import verilator
from hwkit.errors import BadInput, ToolMissing
from hwkit.jobs import Say
from hwkit.measurement import Measurement
from hwkit.runners import Request, Run

STALL = 5          # of 16 cycles in which either stream pauses, in the second pass
DESIGN = "engine"  # the artifact's folder that holds the bench


def missing(board: Board) -> list[Problem]:
    """What must be installed before a run."""
    found = []
    try:
        verilator.version()
    except ToolMissing as e:
        found.append(Problem(message=e.line()))
    packages = [program for program in ("make", "g++") if not shutil.which(program)]
    if packages:
        found.append(Problem(message=f"apt-get install {' '.join(packages)}"))
    return found


def make(board: Board, say: Say) -> None:
    """Nothing is made beforehand: a simulator is compiled from each design. Raises ToolMissing."""
    problems = missing(board)
    if problems:
        raise ToolMissing(problems[0].message)


def run(artifact: Artifact, board: Board, request: Request, say: Say) -> Run:
    """The artifact's golden states through its RTL, at full speed and with both streams stalling.

    Raises BadInput for an artifact that holds no RTL, ToolMissing, JobFailed.
    """
    about = artifact.manifest.built.details.get("bench")
    if about is None:
        raise BadInput(f"{artifact.folder} holds no RTL to simulate: it was built by {artifact.manifest.backend}",
                       "hwkit list boards")
    bench = verilator.Bench.model_validate(about)
    states, wanted = (np.load(artifact.path(f"golden/{name}.npy"), allow_pickle=False)
                      for name in ("states", "results"))
    n = len(states)
    given = states.reshape(n, -1)
    with tempfile.TemporaryDirectory(prefix="hwkit-run-") as scratch:
        found = [verilator.simulate(bench, artifact.path(DESIGN), given, Path(scratch), say, stall=stall)
                 for stall in (0, STALL)]
    findings = []
    for (results, _), how in zip(found, ("", " with both streams stalling"), strict=True):
        differing = int(np.sum(results.reshape(wanted.shape) != wanted))
        findings.append(Finding(name=f"outputs as built{how}", ok=differing == 0,
                                text=f"{differing:,} of {wanted.size:,} bytes of {n} golden results differ"))
    cycles = [float(c) for c in found[0][1].run_cycles]
    steady = len({c for _, told in found for c in told.run_cycles}) == 1
    told = (f"every image takes {cycles[0]:,.0f} cycles, whatever the streams do" if steady else
            "the cycles differ between images")
    findings.append(Finding(name="cycles repeat", ok=steady, text=told))
    return Run(board=board.name, findings=tuple(findings), tool_versions={"verilator": verilator.version()},
               measurements=(Measurement(
                   quantity="cycles", unit="cycles", kind="simulated", samples=tuple(cycles), n=n,
                   source=f"the artifact's RTL simulated by Verilator over {n} golden images, from the start of "
                          "each run to its last write", conditions={"board": board.name}),))
