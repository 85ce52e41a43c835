"""Runner `local`: this machine is the board. Numbers are measured, on whatever else it is doing."""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from hwkit.artifact import Artifact, Finding, Problem
from hwkit.board import Board
from hwkit.describe import Frozen, validated
from hwkit.errors import JobFailed, ToolMissing
from hwkit.jobs import Say
from hwkit.measurement import Measurement, sampled
from hwkit.process import run as run_process
from hwkit.runners import Request, Run, _findings, _tflite_run

RUNTIMES = ("ai_edge_litert", "tflite_runtime")
PASSES = ("memory", "outputs", "latency", "operators")
NO_ENERGY = "nothing on this machine senses it for hwkit"


class Options(Frozen):
    """[options] of a board with this runner. timeout_s: the longest a run may take."""

    timeout_s: float = Field(default=900.0, gt=0)


def options(board: Board) -> Options:
    """The board's options. Raises BadDescription."""
    return validated(board.options, Options, f"boards/{board.name}.toml [options]")


def missing(board: Board) -> list[Problem]:
    """What must be installed before a run."""
    options(board)
    if any(importlib.util.find_spec(name) for name in RUNTIMES):
        return []
    return [Problem(message='no TFLite interpreter here (pip install "hwkit[tflite]")')]


def make(board: Board, say: Say) -> None:
    """Nothing is made for this machine. Raises ToolMissing when the interpreter is not installed."""
    for problem in missing(board):
        raise ToolMissing(problem.message)
    say("nothing to make")


def run(artifact: Artifact, board: Board, request: Request, say: Say) -> Run:
    """Execute the artifact in a child process here. Raises JobFailed, BoardError, BadInput."""
    limits = options(board)
    passes = PASSES if request.operators and _tflite_run.sliced(artifact) else PASSES[:-1]
    with tempfile.TemporaryDirectory(prefix="hwkit-run-") as scratch:
        folder = Path(scratch)
        job = _tflite_run.write_job(artifact, request, passes, folder, marks=False)
        result, lost = _execute(job, folder, limits.timeout_s, request.threads, say)
        raw, outputs = _tflite_run.read_outputs(folder)
    return _told(artifact, board, request, result, raw, outputs, lost)


def _execute(job: Path, folder: Path, timeout_s: float, threads: int, say: Say) -> tuple[_tflite_run.Result, str]:
    environment: Mapping[str, str] = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": "0",
                                      "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

    def on_line(line: str) -> None:
        told = _tflite_run.progress_of(line)
        if told:
            say(told)

    try:
        run_process([sys.executable, str(_tflite_run.payload()), job.name], cwd=folder, env=environment,
                    timeout_s=timeout_s, what="the artifact on this machine", on_line=on_line)
    except JobFailed as e:
        return _tflite_run.salvaged(folder, e)
    return _tflite_run.read_result(folder), ""


def _told(artifact: Artifact, board: Board, request: Request, result: _tflite_run.Result, raw: _findings.Array,
          outputs: _findings.Array, lost: str) -> Run:
    found = result.passes
    assert found.latency is not None
    assert found.memory is not None
    conditions: dict[str, Any] = {"threads": request.threads, "board": board.name,
                                  "runtime": f"{result.runtime} {result.runtime_version}"}
    seconds = [ns / 1e9 for ns in found.latency.ns]
    latency: Measurement = sampled(
        "latency", "s", "measured", seconds,
        source="wall time of one inference, copies between its stages included",
        conditions={**conditions, "warmup": request.warmup, "kept": f"1 of {found.latency.every}"})
    findings: list[Finding | None] = [_findings.same_outputs(artifact, raw),
                                      _findings.same_answers(artifact, outputs),
                                      *_findings.steadiness(seconds)]
    not_measured = {"energy": NO_ENERGY}
    costs = _tflite_run.costs(artifact, {o.index: statistics.median(o.ns) / 1e9
                                         for o in found.operators or () if o.ns})
    if costs:
        failed = [o.error for o in found.operators or () if o.error]
        findings.append(_findings.operators_add_up(artifact, costs, failed, latency.value, "s"))
    elif request.operators:
        not_measured["operators"] = lost or "the artifact has no model of a single operator"
    memory = _tflite_run.memory_figures(found.memory, board.kind, conditions)
    return Run(board=board.name, measurements=(latency, *memory),
               operator_costs=costs, operator_unit="s" if costs else "",
               operator_kind="measured" if costs else "", findings=tuple(f for f in findings if f),
               not_measured=not_measured, tool_versions=result.versions)
