"""A small engine as an artifact, with golden data made by the integer reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwkit.artifact import Artifact, Built, StageFile, pack
from hwkit.backends.dsode import emit, lab, program, schedule
from hwkit.backends.dsode.engine import engine_for
from hwkit.eda.verilator import Bench
from hwkit.integer import separable
from tests.backends.dsode.test_lab import images_for, network_of

NETWORK = network_of(8, (2, 4, 6), 1, 1, seed=2)
BITS = 16                  # of a beat: two make a row
ENGINE = engine_for(NETWORK, 2)
CYCLES = schedule.cycles(NETWORK, ENGINE)
DIGEST = emit.design_digest(ENGINE, BITS)
IMAGES = images_for(NETWORK, 6)


def design(folder: Path) -> Bench:
    """RTL, tables and what is taken to the lab, in `folder`."""
    bench = emit.write_design(NETWORK, ENGINE, BITS, folder)
    lab.emit(NETWORK, ENGINE, BITS, "xczu3eg-sbva484-1-e", 200e6, folder)
    return bench


def packed() -> tuple[list[bytes], list[bytes]]:
    """The states of IMAGES as they cross the bus, and what must come back."""
    states = NETWORK.stem(NETWORK.stem.quantized(IMAGES))
    last = len(ENGINE.shapes) - 1
    return ([one.tobytes() for one in program.pack_state(states, ENGINE, 0)],
            [one.tobytes() for one in program.pack_state(NETWORK.on_chip(states), ENGINE, last)])


def artifact(folder: Path) -> Artifact:
    """As the backend packs it, below `folder`."""
    build = folder / "build"
    bench = design(build / "engine")
    separable.save(NETWORK, build / "network.npz")
    (build / "golden").mkdir()
    states, results = packed()
    arrays = {"inputs": IMAGES, "outputs": NETWORK.logits(IMAGES)}
    for name, rows in (("states", states), ("results", results)):
        arrays[name] = np.frombuffer(b"".join(rows), np.int8).reshape(len(IMAGES), -1, ENGINE.row_bytes)
    for name, array in arrays.items():
        np.save(build / "golden" / f"{name}.npy", array)
    files = sorted(p.relative_to(build).as_posix() for p in build.rglob("*") if p.is_file())
    built = Built(files=tuple(files), stages=(StageFile(name="engine", file="engine/tables.bin"),),
                  details={"bench": bench.model_dump(mode="json")})
    return pack(build, folder / "artifact", built, name="small", target="zcu104", backend="dsode",
                precision="w4a4", dataset=None, input_shape=NETWORK.input_shape, history=())
