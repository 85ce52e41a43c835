"""Execute an artifact on a board that is reached over ssh: real or virtual, the same way.

Payload, job and the files it names go into a scratch folder there, the results come back, and nothing stays.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hwkit.artifact import Artifact, Finding
from hwkit.board import Board
from hwkit.data import shipped
from hwkit.describe import Frozen, NonEmpty, validated
from hwkit.errors import BoardError, BoardFault
from hwkit.faults import Fault
from hwkit.files import write_json
from hwkit.gpu.ort_profile import CPU
from hwkit.jobs import Say
from hwkit.lab import Place
from hwkit.runners import Request, Run, _dsode_run, _ort_run, _tflite_run, _trt_run, _wheels
from hwkit.runners._link import Hello, Link, connect
from hwkit.runners._tflite_run import Clock
from hwkit.target import target
from hwkit.units import shown

ENGINES = "~/.cache/hwkit/engines"                       # where a board may keep what it builds
STAYING = (f"{_wheels.PUSHED}/", "engines/")              # what a run has there and is no result
SALVAGED = (Fault.PROCESS_FAILED, Fault.OUT_OF_MEMORY, Fault.TIMEOUT)     # the agent still answers after these
SENSE = shipped("boards", "payloads", "sense.py")        # beside a payload: it reads the sensors for it
STEADY = {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1",
          "TF_CPP_MIN_LOG_LEVEL": "3"}


class Options(Frozen):
    """[options] of a board over ssh: what it has for each toolchain.

    providers   onnxruntime's, in order of preference, each a name or [name, {option = value}]
    trtexec     TensorRT's program there, where it is neither on the PATH nor where TensorRT puts it
    bitfile     the design for its programmable logic, there, with its .hwh beside it
    """

    providers: tuple[NonEmpty | _ort_run.Provider, ...] = (CPU,)
    trtexec: NonEmpty | None = None
    bitfile: NonEmpty | None = None


def run(artifact: Artifact, board: Board, place: Place, request: Request, clock: Clock, say: Say, *,
        options: Options | None = None) -> Run:
    """The artifact on the board. Raises BoardFault, BoardError, BadInput, ToolMissing."""
    given = options or validated(board.options, Options, f"boards/{board.name}.toml [options]")
    parcel = _parcel(artifact, board, place, request, clock, given)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hwkit-run-") as scratch, parcel.beside(say) as port:
        folder = Path(scratch)
        with connect(place, say) as link:
            _require_fitting(link.hello, board, place)
            sites = _wheels.ensured(link, parcel.needs, say)
            lead = link.forward(port) if port else None
            lost = _executed(link, parcel, parcel.job(folder, lead), folder, [*_site(place), *sites], say)
        whole_s = time.monotonic() - started
        found = parcel.told(folder, lost)
    # a clock that counts instructions does not tell how long the board was at work
    return found.model_copy(update={"findings": (
        _reached(link, None if clock == "instructions" else link.on_board_s, whole_s), *found.findings)})


def _executed(link: Link, parcel: _Parcel, job: Path, folder: Path, sites: Sequence[str], say: Say) -> str:
    """Push, run, bring back. What was lost of a run that ended early but left enough; else raises BoardFault."""
    named = {file: folder / file for file in _named(json.loads(job.read_text()), folder)}
    sent = {path.name: path for path in (*parcel.payloads, job)} | named
    for file, path in sent.items():
        link.put(path, file)

    def on_line(line: str) -> None:
        if told := _tflite_run.progress_of(line):
            say(told)

    died: BoardFault | None = None
    try:
        link.run(["python", parcel.payloads[0].name, job.name], timeout_s=link.place.timeout_s, on_line=on_line,
                 memory_bytes=link.place.memory_bytes, what="the artifact on the board",
                 env={**STEADY, **({"PYTHONPATH": ":".join(sites)} if sites else {}), **parcel.environment})
    except BoardFault as e:
        if e.fault not in SALVAGED:
            raise
        died = e
    for file in link.paths("."):
        if file not in sent and not file.startswith(STAYING):
            link.get(file, folder / file)
    if died is None:
        return ""
    try:
        return parcel.lost(folder, died)
    except BoardFault:
        raise
    except BoardError:             # what it left cannot be read: how it ended says more
        raise died from None


def _named(job: Any, folder: Path) -> Iterator[str]:
    """The files of the artifact, linked from `folder`, that a job names; all below a folder that it names."""
    if isinstance(job, str):
        if job.startswith("artifact/"):
            found = (folder / job).rglob("*") if (folder / job).is_dir() else [folder / job]
            yield from (str(path.relative_to(folder)) for path in found if path.is_file())
    elif isinstance(job, dict | list):
        for one in job.values() if isinstance(job, dict) else job:
            yield from _named(one, folder)


def _site(place: Place) -> list[str]:
    return [place.site] if place.site else []


def _require_fitting(hello: Hello, board: Board, place: Place) -> None:
    """Raise WRONG_BOARD where another kind of machine answers than the board is described as."""
    cpu = target(board.target).cpu
    wanted = cpu.machine if cpu else None
    if wanted and hello.machine != wanted:
        raise BoardFault(Fault.WRONG_BOARD, f"{place.text} is a {hello.machine}, {board.target} a {wanted}",
                         "correct `board` or `host` in the lab file, or install a 64-bit system there")


def _reached(link: Link, spent_s: float | None, whole_s: float) -> Finding:
    """How the board was reached and what that cost beside the time it worked."""
    hello = link.hello
    times = (f"{whole_s:.1f} s in all" if spent_s is None else
             f"{spent_s:.1f} s at work, {whole_s - spent_s:.1f} s beside")
    return Finding(name="board over ssh", ok=None, text=(
        f"{link.place.text}: {hello.system} {hello.machine}, Python {'.'.join(map(str, hello.python))}; "
        f"{shown(link.bytes_sent, 'bytes')} sent; {times}"))


class _Parcel:
    """What goes to the board for one toolchain, and how what comes back is read. See its subclasses."""

    payloads: Sequence[Path]                   # the first is run
    needs: Sequence[str] = ()                  # packages, as they are imported
    environment: dict[str, str] = {}

    def __init__(self, artifact: Artifact, board: Board, place: Place, request: Request, clock: Clock,
                 options: Options) -> None:
        self.artifact, self.board, self.place = artifact, board, place
        self.request, self.clock, self.options = request, clock, options

    def beside(self, say: Say) -> contextlib.AbstractContextManager[int | None]:
        """What must run here meanwhile; the port it listens on, None for nothing."""
        return contextlib.nullcontext()

    def job(self, folder: Path, port: int | None) -> Path:
        raise NotImplementedError

    def lost(self, folder: Path, died: BoardFault) -> str:
        """What is missing of a run that ended early. Raises BoardError where too much is."""
        raise died

    def told(self, folder: Path, lost: str) -> Run:
        raise NotImplementedError

    def sensing(self, job: Path) -> Path:
        """The job with what the place says of its sensors."""
        about: dict[str, Any] = {"root": self.place.sensors_root}
        if self.place.meter:
            about["meter"] = self.place.meter.model_dump(mode="json")
        write_json(job, {**json.loads(job.read_text()), "sense": about})
        return job


class _Tflite(_Parcel):
    needs = ("numpy", "ai_edge_litert")

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self.payloads = (_tflite_run.payload(), SENSE)
        self.environment = {"OMP_NUM_THREADS": str(self.request.threads)}

    def job(self, folder: Path, port: int | None) -> Path:
        passes = _tflite_run.passes_of(self.artifact, self.request, self.clock)
        return self.sensing(_tflite_run.write_job(self.artifact, self.request, passes, folder, marks=False,
                                                  clock=self.clock))

    def lost(self, folder: Path, died: BoardFault) -> str:
        return _tflite_run.salvaged(folder, died)[1]

    def told(self, folder: Path, lost: str) -> Run:
        return _tflite_run.told(self.artifact, self.board, self.request, folder, clock=self.clock, lost=lost)


class _Onnx(_Parcel):
    needs = ("numpy", "onnxruntime")

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self.payloads = (_ort_run.payload(), SENSE)
        self.providers = [(p, {}) if isinstance(p, str) else p for p in self.options.providers]
        self.environment = {"OMP_NUM_THREADS": str(self.request.threads)}

    def job(self, folder: Path, port: int | None) -> Path:
        return self.sensing(_ort_run.write_job(self.artifact, self.request, self.providers, folder))

    def lost(self, folder: Path, died: BoardFault) -> str:
        return _ort_run.salvaged(folder, died, self.board)[1]

    def told(self, folder: Path, lost: str) -> Run:
        result = _tflite_run.read_answer(folder, _ort_run.Result)
        return _ort_run.told(self.artifact, self.board, self.request, self.providers, folder, result, lost)


class _TensorRT(_Parcel):
    """The whole artifact goes there: its plan says which of its files become engines."""

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self.payloads = (_trt_run.payload(), SENSE)

    def job(self, folder: Path, port: int | None) -> Path:
        kept = ENGINES if self.place.keep else "engines"
        return self.sensing(_trt_run.write_portable_job(self.artifact, self.request, folder, kept,
                                                        self.options.trtexec or ""))

    def lost(self, folder: Path, died: BoardFault) -> str:
        raise _trt_run.failed(folder, died)

    def told(self, folder: Path, lost: str) -> Run:
        return _trt_run.told(self.artifact, self.board, folder, _trt_run.read(folder))


class _Dsode(_Parcel):
    needs = ("numpy",)

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self.payloads = (_dsode_run.payload(),)
        if self.clock == "real" and self.options.bitfile is None:
            raise BoardFault(Fault.MISSING, f"board {self.board.name} names no design for its programmable logic",
                             'make one as the README of hls/dsode/lab says, and name it: bitfile = "PATH" under '
                             "[options] of the board")

    def beside(self, say: Say) -> contextlib.AbstractContextManager[int | None]:
        return contextlib.nullcontext() if self.clock == "real" else _dsode_run.serving(self.artifact, say)

    def job(self, folder: Path, port: int | None) -> Path:
        return _dsode_run.write_job(self.artifact, self.request, folder, port=port,
                                    bitfile=self.options.bitfile or "")

    def told(self, folder: Path, lost: str) -> Run:
        return _dsode_run.told(self.artifact, self.board, self.request, folder)


def _parcel(artifact: Artifact, board: Board, place: Place, request: Request, clock: Clock,
            options: Options) -> _Parcel:
    """The parcel of the toolchain that made the artifact; TFLite's says what is wrong where none did."""
    kinds = ((_trt_run.holds, _TensorRT), (_ort_run.holds, _Onnx), (_dsode_run.holds, _Dsode))
    chosen = next((kind for holds, kind in kinds if holds(artifact)), _Tflite)
    return chosen(artifact, board, place, request, clock, options)
