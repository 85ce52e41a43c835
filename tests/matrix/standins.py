"""Stand-ins for a build and for boards, so that a matrix of many cells takes a second; the matrix is the real one.

As a program it is a host that is killed at random moments: python -m tests.matrix.standins FOLDER SEED SEED ...
It runs the matrix in a process of its own, ends that with SIGKILL, and again, until one invocation has come to its
end; then the next seed. Below FOLDER/<seed> is what is left.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwkit import pipeline
from hwkit.artifact import Artifact, Built, Problem, StageFile, pack
from hwkit.board import Board
from hwkit.errors import BadInput, BoardFault
from hwkit.faults import Fault
from hwkit.matrix import work
from hwkit.matrix.cells import Matrix
from hwkit.measurement import Measurement
from hwkit.pipeline import Wanted
from hwkit.runners import Request, Run

MODELS = ("dsodenet", "resnet8", "ds_cnn", "mobilenet_v2")     # names of the zoo; nothing opens them here
BOARDS = {"bench-a": "rpi4", "bench-b": "rpi4", "bench-c": "rpi5"}
MOST_LINES, LONGEST_S = 30, 0.03                # a host is killed after so much more of its journal, and so long
RETRIES = {"limit": 3, "first_s": 0.001, "longest_s": 0.002}


def describe_boards(root: Path) -> None:
    """Files of the boards below `root`, which has to be in HWKIT_PATH."""
    (root / "boards").mkdir(parents=True, exist_ok=True)
    for name, target in BOARDS.items():
        (root / "boards" / f"{name}.toml").write_text(
            f'name = "{name}"\ndescription = "a stand-in"\ntarget = "{target}"\nkind = "simulated"\n'
            'runner = "local"\n')


def small(**changes: Any) -> Matrix:
    return Matrix.model_validate({"name": "small", "models": MODELS, "precisions": ["int8", "f32"],
                                  "boards": [*BOARDS], "retries": RETRIES, **changes})


class Bench:
    """What stands for pipeline.build, and for the runner of all boards.

    script   cell of (network, precision, board) -> what happens at each of its runs: an exception that is raised,
             a function that is called, None for a run that goes well, as do all after the script's end
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.script: dict[tuple[str, str, str], list[Any]] = {}
        self.builds: Counter[str] = Counter()
        self.runs: list[tuple[str, str, str]] = []
        self.busy: Counter[str] = Counter()
        self.at_once: list[set[str]] = []
        self._guard = threading.Lock()

    def install(self, set_attribute: Callable[[Any, str, Any], None]) -> None:
        set_attribute(pipeline, "build", self.build)
        set_attribute(pipeline, "_package_digest", lambda: "this")     # also while someone edits hwkit
        set_attribute(pipeline.runners, "runner", lambda name: self)

    def build(self, wanted: Wanted, target: str, out: Path, say: Any, budget: Any) -> Artifact:
        precision = wanted.options.get("precision", "default")
        self.builds[f"{wanted.model}/{precision}/{target}"] += 1
        if precision == "int3":
            raise BadInput(f"{wanted.model} cannot be deployed on {target}: no int3")
        flash = Measurement(quantity="flash", unit="bytes", kind="measured", samples=(1000,))
        built = Built(files=("net.bin",), stages=(StageFile(name="net", file="net.bin"),), figures=(flash,))
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "net.bin").write_bytes(f"{wanted.model} {precision}".encode() * 100)
            return pack(Path(scratch), out, built, name=wanted.model, target=target, backend="tflite",
                        precision=precision, dataset=wanted.dataset, input_shape=(1,), history=())

    def missing(self, board: Board) -> list[Problem]:
        return []

    def run(self, artifact: Artifact, board: Board, request: Request, say: Any) -> Run:
        cell = (artifact.manifest.name, artifact.manifest.precision, board.name)
        with self._guard:
            self.runs.append(cell)
            self.busy[board.name] += 1
            self.at_once.append({b for b, n in self.busy.items() if n})
            assert self.busy[board.name] == 1, f"two runs at once on {board.name}"
        try:
            say("running")
            time.sleep(self.seconds)
            now = (self.script.get(cell) or [None]).pop(0)
            if isinstance(now, BaseException):
                raise now
            if now:
                now()
        finally:
            with self._guard:
                self.busy[board.name] -= 1
        value = int(hashlib.sha256(repr(cell).encode()).hexdigest()[:6], 16) / 1e8
        return Run(board=board.name, measurements=(
            Measurement(quantity="guest_latency", unit="s", kind="simulated", samples=(value,) * 5),))


def flaky(seconds: float, drawn: random.Random) -> Bench:
    """A bench where one run in six is lost, in a way that may pass."""
    bench = Bench(seconds)
    faults = (Fault.LINK_DROPPED, Fault.BOARD_LOST, Fault.CORRUPT_TRANSFER)
    for model in MODELS:
        for precision in ("int8", "f32"):
            for board in BOARDS:
                if drawn.random() < 1 / 6:
                    bench.script[model, precision, board] = [BoardFault(drawn.choice(faults), "gone for now")]
    return bench


def _once(folder: Path, seed: int) -> None:
    """One invocation of the matrix, in this process."""
    flaky(0.01, random.Random(seed)).install(setattr)
    work.execute(small(), folder, False, "hwkit matrix", lambda text: None)


def _lines(folder: Path) -> int:
    """Of the journal, as far as it is written."""
    log = folder / work.JOURNAL
    return log.read_bytes().count(b"\n") if log.exists() else 0


def _killed(folder: Path, more: int, delay_s: float, seed: int) -> bool:
    """An invocation in a child process; whether SIGKILL ended it, rather than it by itself.

    It comes so long after so many more lines of the journal: by what was done, not by how fast this machine is.
    """
    until = _lines(folder) + more
    child = os.fork()
    if child == 0:
        try:
            _once(folder, seed)
            os._exit(0)
        except BaseException as e:
            print(f"{type(e).__name__}: {e}", file=sys.stderr, flush=True)
            os._exit(1)
    ended, status = 0, 0
    while not ended and _lines(folder) < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.0005)
    if not ended:
        time.sleep(delay_s)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and status:
        raise SystemExit(f"seed {seed}: the matrix failed")
    return os.WIFSIGNALED(status)


def _main(root: Path, seeds: list[int]) -> None:
    for seed in seeds:
        drawn = random.Random(seed)
        kills, sizes = 0, []
        folder = root / str(seed)
        while _killed(folder, drawn.randint(0, MOST_LINES), drawn.uniform(0, LONGEST_S), seed * 1000 + kills):
            kills += 1
            log = folder / work.JOURNAL
            sizes.append(log.read_bytes().count(b'"event": "finished"') if log.exists() else 0)
        print(json.dumps({"seed": seed, "kills": kills, "finished": sizes}), flush=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]])
