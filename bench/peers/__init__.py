"""Instructions per inference against other runtimes, given the same networks on the same emulated core.

tools: where the peers come from. given: the networks. host_*: each peer's own converter and quantiser,
run in an environment of their own. built: the artifacts. guest: the payload that runs under QEMU.
counted: instructions and errors. This file: the verdict.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from bench.lines import Line, console, say
from bench.peers import built, counted, given, tools
from bench.peers.counted import Count
from hwkit import runners
from hwkit.board import board
from hwkit.runners import qemu_user
from hwkit.units import shown

BOARD = "qemu-rpi4"
OURS = "hwkit (TFLite)"
RUBBISH = 0.3     # RMS error over the outputs' RMS from which on a faster artifact wins nothing

# Why a peer may be ahead, for what is known; keyed by network and peer.
WHY = {
    ("resnet8", "ncnn"):
        "ncnn has int8 Winograd kernels for 3x3 stride-1 convolutions, three quarters of this network's "
        "multiplications: see its row with Winograd switched off. XNNPACK multiplies directly, and without dot "
        "products its kernel does at most 16 int8 multiply-adds in 3 instructions. With dot products ncnn does "
        "without Winograd too, and hwkit is ahead: python -m bench.peers qemu-rpi5",
}


def figures(board_name: str = BOARD) -> list[Line]:
    """Builds, counts on a board of runner qemu_user, prints all of it, and gives one line a network."""
    on = board(board_name)
    cpu = qemu_user.options(on).cpu
    runners.runner(on.runner).make(on, say)
    host = tools.host_site(say)
    guests = tools.guest_sites(say)
    lines = []
    for name in given.NETWORKS:
        with tempfile.TemporaryDirectory(prefix="hwkit-bench-") as scratch:
            say(f"{name}: exporting")
            network = given.given(name, Path(scratch))
            counts = counted.ours(network, OURS, on)
            for artifact in built.artifacts(network, host, cpu):
                say(f"{name}: {artifact.runtime} {artifact.precision}, {artifact.how}")
                counts.append(counted.count(network, artifact, guests, cpu))
        _print(network, counts, cpu)
        lines.append(_verdict(name, counts, cpu))
    return lines


def _verdict(name: str, counts: Sequence[Count], cpu: str) -> Line:
    ours = next(c for c in counts if c.runtime == OURS and c.default)
    assert ours.instructions is not None
    fit = [c for c in counts if c.runtime != OURS and c.instructions is not None
           and c.error is not None and c.error < RUBBISH]
    integer = [c for c in fit if c.precision == "int8"]
    if not integer:
        return Line(f"{name}: int8 instructions", shown(ours.instructions, "instructions"), "", "simulated",
                    "for information", "no peer could be run")
    best, fewest = (min(some, key=lambda c: c.instructions or 0) for some in (integer, fit))
    assert best.instructions is not None
    assert fewest.instructions is not None
    ratio = ours.instructions / best.instructions
    why = f"best peer: {best.runtime}, {shown(best.instructions, 'instructions')} ({best.how})"
    if ratio > 1:
        known = WHY.get((name, best.runtime))
        why += f". {known or 'Not explained yet: see the operators in the report'}"
    if fewest.precision != "int8" and fewest.instructions < ours.instructions:
        why += f". {fewest.runtime} in {fewest.precision} needs {shown(fewest.instructions, 'instructions')}"
    return Line(f"{name}: int8 instructions on {cpu} over the best peer's",
                f"{ratio:.2f} ({shown(ours.instructions, 'instructions')})", "1.00", "simulated",
                "ok" if ratio <= 1 else "behind, see why" if (name, best.runtime) in WHY else "missed", why)


def _print(network: given.Given, counts: Sequence[Count], cpu: str) -> None:
    ours = next(c for c in counts if c.runtime == OURS and c.default)
    assert ours.instructions is not None
    table = Table("runtime", "precision", "instructions", "ours is", "RMS error", "how", title_justify="left",
                  title=f"{network.name}: instructions per inference on {cpu}, simulated. {network.source}",
                  caption="Peers take float32 inputs and quantise them themselves, hwkit's int8 artifact takes "
                          "int8: 0.1 to 0.2 % of the instructions. RMS error: over the RMS of torch's outputs.",
                  caption_justify="left")
    for count in sorted(counts, key=lambda c: (c.precision, c.instructions or float("inf"))):
        if count.instructions is None:
            table.add_row(_named(count.runtime), count.precision, "-", "", "", f"{count.how}: {count.failure}")
            continue
        ratio = f"{ours.instructions / count.instructions:.2f} x" if count is not ours else ""
        assert count.error is not None
        wrong = " (wrong)" if count.error >= RUBBISH else ""
        table.add_row(_named(count.runtime), count.precision, shown(count.instructions, "instructions"), ratio,
                      f"{count.error:.2g}{wrong}", count.how)
    console().print(table)


def _named(runtime: str) -> str:
    """With its version."""
    return f"{runtime} {tools.VERSIONS.get(runtime, tools.OURS)}"
