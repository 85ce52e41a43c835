"""Boards in the loop against their goals: made, started, run, counted twice, and what hwkit adds to each.

The board is a virtual one on this machine; the ssh is real.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.lines import Line, judged, main, say
from hwkit import pipeline, virtual
from hwkit.board import board
from hwkit.runners._link import connect

BOARD, TARGET, NETWORK = "virtual-rpi4", "rpi4", "dsodenet"
MAKE_S, WARM_S, OVERHEAD, SPREAD, PAYLOAD_BYTES = 180.0, 10.0, 0.15, 0.001, 20e6
REPEATS = 3
# The same work as the payload's, written by hand: what hwkit's own program adds is the difference.
BY_HAND = """
import sys, time, numpy as np
from ai_edge_litert.interpreter import Interpreter
chain = [(Interpreter(model_path=f, num_threads=1), n) for f, n in zip(sys.argv[1::2], map(int, sys.argv[2::2]))]
for one, _ in chain: one.allocate_tensors()
for one, n in chain:
    for _ in range(n): one.invoke()
print([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0])
"""
OTHERS = """
import glob
total = 0
for path in glob.glob('/proc/[0-9]*/cmdline'):
    words = open(path).read().split(chr(0))
    if '-c' in words and 'exec(compile' in ' '.join(words):
        rollup = open(path.replace('cmdline', 'smaps_rollup')).read()
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith('Pss:'))
print(total)
"""


def figures() -> list[Line]:
    artifact = pipeline.build(pipeline.Wanted(model=NETWORK), TARGET, Path(tempfile.mkdtemp()) / "artifact", say)
    with tempfile.TemporaryDirectory(prefix="hwkit-bench-") as scratch:
        other = {"HWKIT_CACHE": f"{scratch}/cache"}
        made_s = _timed("board", "make", BOARD, env=other)
        _hwkit("board", "make", BOARD)
        lines = [Line("a virtual board from nothing", f"{made_s:.0f} s", f"{MAKE_S:.0f} s", "measured",
                      judged(made_s <= MAKE_S), "Debian's packages and wheels downloaded, nothing in the cache")]
        with _started({}):
            lines += _warm(artifact.folder)
            lines.append(_memory(artifact))
        lines += _counts(artifact.folder, other)
    return lines


def _hwkit(*words: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([sys.executable, "-m", "hwkit", *words], capture_output=True, text=True,
                          env={**os.environ, **(env or {})})
    if done.returncode not in (0, 1):
        raise SystemExit(f"hwkit {' '.join(words)}: {done.stderr}")
    return done.stdout


def _timed(*words: str, env: dict[str, str] | None = None) -> float:
    started = time.monotonic()
    _hwkit(*words, env=env)
    return time.monotonic() - started


@contextlib.contextmanager
def _started(env: dict[str, str], *how: str) -> Iterator[None]:
    _hwkit("board", "stop", BOARD, env=env)
    _hwkit("board", "start", BOARD, *how, env=env)
    try:
        yield
    finally:
        _hwkit("board", "stop", BOARD, env=env)


def _report(folder: Path, *words: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    told = json.loads(_hwkit("run", str(folder), "--board", BOARD, "--json", *words, env=env))
    found: dict[str, Any] = told["reports"][0]
    return found


def _warm(folder: Path) -> Iterator[Line]:
    walls, shares = [], []
    for _ in range(REPEATS):
        started = time.monotonic()
        report = _report(folder, "--duration", "3")
        walls.append(time.monotonic() - started)
        text = next(f["text"] for f in report["findings"] if f["name"] == "board over ssh")
        at_work, beside = map(float, re.findall(r"([\d.]+) s (?:at work|beside)", text))
        shares.append(beside / at_work)
    wall, share = statistics.median(walls), statistics.median(shares)
    spread = ", ".join(f"{w:.1f}" for w in walls)
    yield Line("a warm virtual board answers `hwkit run`", f"{wall:.1f} s", f"{WARM_S:.0f} s", "measured",
               judged(wall <= WARM_S), f"{NETWORK}, 3 s measured; median of {spread} s")
    yield Line("host's overhead of such a run", f"{100 * share:.0f} %", f"{100 * OVERHEAD:.0f} %", "measured",
               judged(share <= OVERHEAD), "connecting, sending, fetching; over the time the payload ran there")


def _memory(artifact: Any) -> Line:
    """What the payload and the agent hold beyond a loop written by hand."""
    place = virtual.place(board(BOARD))
    stages = artifact.manifest.built.stages
    with connect(place, say) as link:
        for stage in stages:
            link.put(artifact.path(stage.file), stage.file)
        link.put(BY_HAND.encode(), "by_hand.py")
        words = [word for stage in stages for word in (stage.file, str(stage.repeat))]
        bare = link.run(["python", "by_hand.py", *words], timeout_s=300, env={"PYTHONPATH": str(place.site)})
        agent = int(link.run(["python", "-c", OTHERS], timeout_s=60).output) * 1024
    by_hand = int(next(line for line in bare.output.splitlines() if "VmHWM" in line).split()[1]) * 1024
    found = {m["quantity"]: m["samples"][0] for m in _report(artifact.folder)["measurements"]}
    added = found["peak_rss"] - by_hand + agent
    return Line("memory the payload and the agent add on the board", f"{added / 1e6:.1f} MB",
                f"{PAYLOAD_BYTES / 1e6:.0f} MB", "simulated", judged(added <= PAYLOAD_BYTES),
                f"peak of the payload {found['peak_rss'] / 1e6:.1f} MB, of the same inferences by hand "
                f"{by_hand / 1e6:.1f} MB; the agent's share of memory {agent / 1e6:.1f} MB")


def _counts(folder: Path, other: dict[str, str]) -> Iterator[Line]:
    def count(env: dict[str, str]) -> float:
        found = _report(folder, "--no-operators", "--duration", "0", env=env)["measurements"]
        return statistics.median(next(m["samples"] for m in found if m["quantity"] == "instructions"))

    with _started({}, "--deterministic"):
        first, second = count({}), count({})
    with _started(other, "--deterministic"):
        fresh = count(other)
    yield Line("deterministic mode: instructions of two runs", f"{first:,.0f} and {second:,.0f}", "equal",
               "simulated", judged(first == second))
    yield Line("deterministic mode: two freshly made boards", f"{100 * abs(fresh / first - 1):.4f} %",
               f"{100 * SPREAD:.1f} %", "simulated", judged(abs(fresh / first - 1) <= SPREAD),
               f"{fresh:,.0f} instructions on the other, made in a cache of its own")


if __name__ == "__main__":

    sys.exit(main("Boards in the loop", figures))
