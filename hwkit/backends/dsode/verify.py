"""Five forms of one network, and whether they compute the same: torch, QONNX, integers, HLS C++, RTL.

The integers are the reference. Everything is compared bit for bit; there is no tolerance anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwkit.artifact import Finding
from hwkit.backends.dsode import hls, program
from hwkit.backends.dsode.engine import Engine
from hwkit.eda.verilator import Bench, Simulated, simulate
from hwkit.integer.arithmetic import Ints
from hwkit.integer.separable import IntegerNetwork
from hwkit.jobs import Say

BATCH = 250


@dataclass(frozen=True)
class Reference:
    """What the integers give for n images, and what crosses the chip's border for the first k of them.

    states   (k, C, H, W) that enter the chip;  results  (k, C', H', W') that leave it;  logits  (n, classes)
    """

    states: Ints
    results: Ints
    logits: Ints


def reference(network: IntegerNetwork, images: NDArray[np.float32], kept: int, say: Say) -> Reference:
    """The integer network over all images; states and results of the first `kept`."""
    states: list[Ints] = []
    results: list[Ints] = []
    logits: list[Ints] = []
    for start in range(0, len(images), BATCH):
        given = network.stem(network.stem.quantized(images[start:start + BATCH]))
        made = network.on_chip(given)
        logits.append(network.head(made))
        if start < kept:
            states.append(given)
            results.append(made)
        say(f"integer reference: {min(start + BATCH, len(images))} of {len(images)} images")
    return Reference(np.concatenate(states)[:kept], np.concatenate(results)[:kept], np.concatenate(logits))


def _said(name: str, differing: int, values: int, images: int, what: str) -> Finding:
    text = f"{differing:,} of {values:,} {what} differ over {images:,} test images"
    return Finding(name=name, ok=differing == 0, text=text)


def torch_agrees(logits: NDArray[np.float32], wanted: Ints, scale: float) -> Finding:
    """Outputs of the torch module, over the output scale, against the integers' logits."""
    return _said("torch = integers", int(np.sum(logits.astype(np.float64) / scale != wanted)), wanted.size,
                 len(wanted), "outputs of the Brevitas network")


def qonnx_agrees(run: Callable[[NDArray[np.float32]], NDArray[np.float32]], images: NDArray[np.float32],
                 wanted: Ints, scale: float, say: Say) -> Finding:
    """The QONNX file executed node by node."""
    say(f"QONNX: {len(images)} images")
    differing = int(np.sum(run(images).astype(np.float64) / scale != wanted))
    return _said("QONNX = integers", differing, wanted.size, len(images), "outputs of the QONNX executor")


def hls_agrees(folder: Path, states: Ints, wanted: Ints, say: Say) -> Finding:
    """The HLS kernel, compiled with g++."""
    say(f"C simulation of the HLS kernel: {len(states)} images")
    differing = int(np.sum(hls.simulate(folder, states) != wanted))
    return _said("HLS C simulation = integers", differing, wanted.size, len(states), "values of the last state")


def rtl_agrees(bench: Bench, folder: Path, engine: Engine, states: Ints, wanted: Ints, scratch: Path, say: Say,
               ) -> tuple[Finding, Simulated, Ints]:
    """The RTL, fed over its own buses; also its cycles and the states it gave."""
    packed = program.pack_state(states, engine, 0)
    raw, cycles = simulate(bench, folder, packed.reshape(len(states), -1), scratch, say)
    given = program.unpack_state(raw, engine, len(engine.shapes) - 1)
    differing = int(np.sum(given != wanted))
    said = _said("RTL = integers", differing, wanted.size, len(states), "values of the last state")
    return said, cycles, given


def verdict(findings: list[Finding]) -> Finding:
    """All five, in one line."""
    failed = [f.name for f in findings if not f.ok]
    if failed:
        return Finding(name="five forms, bit for bit", ok=False, text=f"not the same: {', '.join(failed)}")
    return Finding(name="five forms, bit for bit", ok=True,
                   text="torch (Brevitas) = QONNX = integer reference = HLS C simulation = Verilator RTL")
