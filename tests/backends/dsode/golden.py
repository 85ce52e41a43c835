"""Golden vectors of the on-chip engine, kept beside the kernel: a network, states, and their results.

    python -m tests.backends.dsode.golden        writes them anew (only when the scheme itself changes)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwkit.data import shipped
from hwkit.files import sha256, write
from hwkit.integer import separable
from tests.backends.dsode.networks import Plan, states

# Three shapes of odd sizes, f of two convolutions that depends on time, a narrow middle. PE 8 and 64 bits a beat.
PLAN = Plan(8, 11, 7, 3, 3, 2, rows=3, middle_high=15, depthwise_shift=(5, 8))
PE, BEAT_BITS = 8, 64
NETWORK, STATES, RESULTS, SUMS = "network.npz", "states.npy", "results.npy", "SHA256SUMS"


def folder() -> Path:
    return shipped("hls", "dsode", "golden")


def make(into: Path) -> None:
    network = PLAN.network()
    given = states(network, 3)
    separable.save(network, into / NETWORK)
    np.save(into / STATES, given.astype(np.int8))
    np.save(into / RESULTS, network.on_chip(given).astype(np.int8))
    write(into / SUMS, "".join(f"{sha256(into / name)}  {name}\n" for name in (NETWORK, STATES, RESULTS)))


if __name__ == "__main__":
    make(folder())
