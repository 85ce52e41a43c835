"""Runner `local`: this machine is the board. Numbers are measured, on whatever else it is doing."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from pydantic import Field

from hwkit.artifact import Artifact, Problem
from hwkit.board import Board
from hwkit.data import cache_root
from hwkit.describe import Frozen, NonEmpty, validated
from hwkit.errors import HwkitError, JobFailed, ToolMissing
from hwkit.gpu.ort_profile import CPU
from hwkit.jobs import Say
from hwkit.process import run as run_process
from hwkit.runners import Request, Run, _ort_run, _tflite_run, _trt_run

RUNTIMES = ("ai_edge_litert", "tflite_runtime")
ONNX = "onnxruntime"
PROBE_S = 60.0
PROBE = "import json, onnxruntime as o; print('probed: ' + json.dumps(o.get_available_providers()))"


class Options(Frozen):
    """[options] of a board with this runner.

    timeout_s   the longest a run may take
    providers   onnxruntime's, in order of preference, each a name or [name, {option = value}]
    python      an interpreter that has onnxruntime, where hwkit's own has another or none
    trtexec     TensorRT's program, where it is neither on the PATH nor where TensorRT puts it
    """

    timeout_s: float = Field(default=900.0, gt=0)
    providers: tuple[NonEmpty | _ort_run.Provider, ...] = Field(default=(CPU,), min_length=1)
    python: NonEmpty | None = None
    trtexec: NonEmpty | None = None

    def listed(self) -> list[_ort_run.Provider]:
        return [(p, {}) if isinstance(p, str) else p for p in self.providers]

    def interpreter(self) -> str:
        """The Python that runs ONNX artifacts, as an absolute path. Raises ToolMissing."""
        if self.python is None:
            return sys.executable
        found = shutil.which(Path(self.python).expanduser())
        if found is None:
            raise ToolMissing(f"no interpreter at {self.python}", "correct `python` in the board's [options]")
        return str(Path(found).absolute())


def options(board: Board) -> Options:
    """The board's options. Raises BadDescription."""
    return validated(board.options, Options, f"boards/{board.name}.toml [options]")


def missing(board: Board) -> list[Problem]:
    """What must be installed before a run. A board that names providers must have them."""
    given = options(board)
    if {"providers", "python"} & board.options.keys():
        try:
            _require_providers(board, given)
        except ToolMissing as e:
            return [Problem(message=e.line())]
        return []
    if any(importlib.util.find_spec(name) for name in (*RUNTIMES, ONNX)):
        return []
    return [Problem(message='no TFLite interpreter and no onnxruntime here (pip install "hwkit[tflite]" or '
                            '"hwkit[onnxruntime]")')]


def make(board: Board, say: Say) -> None:
    """Nothing is made for this machine. Raises ToolMissing when an interpreter is not installed."""
    for problem in missing(board):
        raise ToolMissing(problem.message)
    say("nothing to make")


def run(artifact: Artifact, board: Board, request: Request, say: Say) -> Run:
    """Execute the artifact in a child process here, with the runtime that its stages are for.

    Raises ToolMissing, JobFailed, BoardError, BadInput.
    """
    limits = options(board)
    with tempfile.TemporaryDirectory(prefix="hwkit-run-") as scratch:
        if _trt_run.holds(artifact):
            return _run_tensorrt(artifact, board, request, limits, Path(scratch), say)
        if _ort_run.holds(artifact):
            return _run_onnx(artifact, board, request, limits, Path(scratch), say)
        return _run_tflite(artifact, board, request, limits, Path(scratch), say)


def _run_tflite(artifact: Artifact, board: Board, request: Request, limits: Options, folder: Path,
                say: Say) -> Run:
    job = _tflite_run.write_job(artifact, request, _tflite_run.passes_of(artifact, request), folder, marks=False)
    if not any(importlib.util.find_spec(name) for name in RUNTIMES):
        raise ToolMissing("no TFLite interpreter here", 'pip install "hwkit[tflite]"')
    lost = ""
    try:
        _execute(sys.executable, _tflite_run.payload(), job, limits.timeout_s, request.threads, say)
    except JobFailed as e:
        _, lost = _tflite_run.salvaged(folder, e)
    return _tflite_run.told(artifact, board, request, folder, clock="real", lost=lost)


def _run_onnx(artifact: Artifact, board: Board, request: Request, limits: Options, folder: Path, say: Say) -> Run:
    providers = limits.listed()
    job = _ort_run.write_job(artifact, request, providers, folder)
    if limits.python is None and not importlib.util.find_spec(ONNX):
        raise ToolMissing("no onnxruntime here", 'pip install "hwkit[onnxruntime]"')
    try:
        _execute(limits.interpreter(), _ort_run.payload(), job, limits.timeout_s, request.threads, say)
    except JobFailed as e:
        result, lost = _ort_run.salvaged(folder, e, board)
    else:
        result, lost = _tflite_run.read_answer(folder, _ort_run.Result), ""
    return _ort_run.told(artifact, board, request, providers, folder, result, lost)


def _run_tensorrt(artifact: Artifact, board: Board, request: Request, limits: Options, folder: Path,
                  say: Say) -> Run:
    job = _trt_run.write_job(artifact, request, folder, cache_root() / "engines", limits.trtexec or "")
    try:
        _execute(sys.executable, _trt_run.payload(), job, limits.timeout_s, request.threads, say)
    except JobFailed as e:
        raise _trt_run.failed(folder, e) from None
    return _trt_run.told(artifact, board, folder, _trt_run.read(folder))


def _execute(python: str, payload: Path, job: Path, timeout_s: float, threads: int, say: Say) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1",
                   "TF_CPP_MIN_LOG_LEVEL": "3"}

    def on_line(line: str) -> None:
        told = _tflite_run.progress_of(line)
        if told:
            say(told)

    run_process([python, str(payload), job.name], cwd=job.parent, env=environment, timeout_s=timeout_s,
                what="the artifact on this machine", on_line=on_line)


def _require_providers(board: Board, given: Options) -> None:
    """Raise ToolMissing unless the board's interpreter has an onnxruntime with all its providers."""
    python = given.interpreter()
    try:
        said = run_process([python, "-c", PROBE], timeout_s=PROBE_S, what="onnxruntime").stdout
    except HwkitError as e:
        raise ToolMissing(f"{python} cannot import onnxruntime ({e.message[-200:]})",
                          f"{python} -m pip install onnxruntime") from None
    has: list[str] = next((json.loads(line.removeprefix("probed: ")) for line in said.splitlines()
                           if line.startswith("probed: ")), [])
    for name, _ in given.listed():
        if name not in has:
            raise _ort_run.lacking(name, f"it has {', '.join(has)}", board)
