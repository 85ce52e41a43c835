"""The on-chip engine against its goals: cycles, busy lanes, resources, levels, forecast, speed-up, parameters.

Weights of the large designs are random: cycles and resources do not depend on them. What they compute is compared
with the integer reference all the same.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.lines import Line, judged, main, say
from hwkit.backends.dsode import emit, folding, memories, program, resources, schedule
from hwkit.backends.dsode.engine import Engine, engine_for
from hwkit.backends.dsode.options import Options
from hwkit.backends.dsode.outline import sized
from hwkit.describe import Kind
from hwkit.eda import levels
from hwkit.eda.verilator import simulate
from hwkit.integer.separable import IntegerNetwork, OdeBlock, Separable, Transition
from hwkit.memory import Placement
from hwkit.target import Fpga, target

TARGET, PROCESSOR = "zcu104", "zcu104-ps"
IMAGES = 2
STEPS = 10


@dataclass(frozen=True)
class Case:
    """A design and its goals; None where there is none. Shares are of the whole chip."""

    name: str
    channels: int
    side: int
    shapes: int
    convolutions: int
    pe: int
    cycles: int
    busy: float | None = None
    lut: float = 0.8
    dsp: float = 0.8
    lut_blocks: int = 0


CASES = (
    Case("64 ch 16x16, N=10", 64, 16, 1, 1, 32, 2_650, 0.97, 0.10, 0.76),
    Case("64/128/256 ch from 32x32, N=10, transitions included", 64, 32, 3, 1, 32, 34_000, None, 0.16, 0.76),
    Case("the same with two convolutions in f", 64, 32, 3, 2, 32, 71_400, None, 0.70, 0.80),
    Case("DSP + LUT hybrid of the second, a stretch", 64, 32, 3, 1, 64, 16_000, None, 0.65, 0.80, 20),
)


def figures() -> list[Line]:
    part = target(TARGET).fpga
    assert part is not None
    lines: list[Line] = []
    for case in CASES:
        say(f"engine: {case.name}")
        lines += _case(case, part)
    return [*lines, _packing(), *_forecast(), *_speedup(), _parameters()]


def _random(network: IntegerNetwork, seed: int) -> IntegerNetwork:
    """The outline with weights drawn from `seed`, shifts that keep values inside their range."""
    rng = np.random.default_rng(seed)

    def conv(of: Separable) -> Separable:
        inputs, outputs = of.inputs, of.outputs
        down, up = rng.integers(5, 9, inputs), rng.integers(4, 7, outputs)
        return replace(
            of, depthwise=rng.integers(-7, 8, (inputs, 3, 3)), depthwise_shift=down,
            depthwise_bias=rng.integers(-200, 200, inputs) + (8 << down) + (1 << down >> 1),
            pointwise=rng.integers(-7, 8, (outputs, inputs)), pointwise_shift=up,
            pointwise_bias=rng.integers(-300, 300, (1, outputs)))

    core = tuple(OdeBlock(tuple(map(conv, part.convolutions)), part.steps) if isinstance(part, OdeBlock)
                 else Transition(conv(part.convolution)) for part in network.core)
    return replace(network, core=core)


def _design(case: Case) -> tuple[IntegerNetwork, Engine, Placement]:
    network = _random(sized(case.channels, case.side, case.shapes, case.convolutions, STEPS), seed=0)
    allowed = target(TARGET).limited({"utilisation.LUT": case.lut, "utilisation.DSP": case.dsp}).fpga
    assert allowed is not None
    if case.lut_blocks:
        engine = engine_for(network, case.pe, lut_blocks=case.lut_blocks)
        return network, *memories.placed(engine, allowed.capacity(), spare_luts=True)
    folded = folding.fold(network, allowed, Options(pe=case.pe, multipliers="dsp"))
    return network, folded.engine, folded.placement


def _case(case: Case, part: Fpga) -> Iterator[Line]:
    network, engine, placement = _design(case)
    bits = emit.stream_bits(engine, part.stream_bits)
    with tempfile.TemporaryDirectory(prefix="hwkit-bench-") as scratch:
        folder = Path(scratch)
        bench = emit.write_design(network, engine, bits, folder)
        states = np.random.default_rng(1).integers(-128, 128, (IMAGES, *network.state_shape))
        raw, told = simulate(bench, folder, program.pack_state(states, engine, 0).reshape(IMAGES, -1),
                             folder / "run", say)
        given = program.unpack_state(raw, engine, len(engine.shapes) - 1)
        wrong = int(np.sum(given != network.on_chip(states)))
        done = emit.synthesise(engine, folder, folder / "synthesis", say)
        assert done.netlist_json is not None
        path = levels.longest(done.netlist_json, emit.TOP).worst
    cycles = max(told.run_cycles)
    busy, counts = schedule.busy(network, engine, cycles), done.resources

    def line(what: str, reached: str, limit: str, kind: Kind, met: bool | None, why: str = "") -> Line:
        return Line(f"{case.name}: {what}", reached, limit, kind,
                    "for information" if met is None else judged(met), why)

    yield line("cycles", f"{cycles:,}", f"{case.cycles:,}", "simulated", cycles <= case.cycles,
               f"{wrong} of {given.size:,} values differ from the integer reference; "
               f"{schedule.cycles(network, engine):,} scheduled")
    yield line("busy multiplier lanes", f"{100 * busy:.1f} %", f"{100 * case.busy:.0f} %" if case.busy else "",
               "simulated", busy >= case.busy if case.busy else None)
    used = {"LUT": (counts.lut, case.lut), "DSP": (counts.dsp, case.dsp), "BRAM_18K": (counts.bram_18k, 0.8),
            "URAM": (counts.uram, 0.8)}
    for name, (count, limit) in used.items():
        share = count / part.total(name)  # type: ignore[arg-type]
        yield line(name, f"{count:,} ({100 * share:.1f} %)", f"{100 * limit:.0f} %", "estimated", share <= limit,
                   f"synthesised by {done.tool} in {done.seconds:.0f} s")
    yield line("bytes off chip", f"{placement.off_chip_bytes:.0f}", "0", "measured", placement.off_chip_bytes == 0,
               f"{placement.on_chip_bytes:,.0f} bytes placed")
    yield line("logic between registers", f"{path.luts} LUTs + {path.chains} carry chains", "3 + 1", "estimated",
               path.luts <= 3 and path.chains <= 1, path.text())


def _packing() -> Line:
    engine = engine_for(sized(64, 16, 1, 1, STEPS), 32)
    rate = (engine.pointwise_lanes + engine.depthwise_lanes) / engine.dsps
    return Line("products a DSP48E2 and cycle", f"{rate:.2f}", "3.50", "measured", judged(rate >= 3.5),
                "four pointwise and two depthwise ones share a slice; checked exhaustively in "
                "tests/backends/dsode/test_packing.py")


def _forecast() -> Iterator[Line]:
    points = resources.read_points()
    for name in ("LUT", "FF"):
        worst = 0.0
        for point in points.held_out:
            given = resources.features(Engine.model_validate(point.engine), point.lutram)
            foretold = getattr(resources.shipped_fits(), name).predict(given).value
            worst = max(worst, abs(foretold / getattr(point, name) - 1))
        yield Line(f"{name} foretold against synthesised, worst of {len(points.held_out)} designs kept from the "
                   "fit",
                   f"{100 * worst:.1f} %", "10 %", "estimated", judged(worst <= 0.10))
    from hwkit import pipeline

    pipeline.check(pipeline.Wanted(model="dsodenet"), TARGET, say)       # opens the network
    started = time.perf_counter()
    pipeline.check(pipeline.Wanted(model="dsodenet"), TARGET, lambda text: None)
    taken = time.perf_counter() - started
    yield Line(f"check of dsodenet for {TARGET}, opened before", f"{taken:.2f} s", "2 s", "measured",
               judged(taken <= 2.0))


def _speedup() -> Iterator[Line]:
    """dsodenet on the chip against the same network in TFLite on the board's own processor."""
    from hwkit import pipeline
    from hwkit.board import board
    from hwkit.runners import Request

    with tempfile.TemporaryDirectory(prefix="hwkit-bench-") as scratch:
        built = pipeline.build(pipeline.Wanted(model="dsodenet", options={"images": "64"}), PROCESSOR,
                               Path(scratch) / "ps", say)
        on = board(f"qemu-{PROCESSOR}")
        told = pipeline.run(built, on, Request(), say)
    costs = {c.index: c.value for c in told.operator_costs}
    by_stage = {"chip": 0.0, "host": 0.0}
    for operator in built.manifest.built.operators:
        where = "host" if operator.stage in ("stem", "head") else "chip"
        by_stage[where] += costs[operator.index] * operator.repeat
    software = {m.quantity: m for m in told.measurements}
    foretold = pipeline.check(pipeline.Wanted(model="dsodenet"), TARGET, say).estimate.figures
    engine = {m.quantity: m for m in foretold}
    share = by_stage["chip"] / sum(by_stage.values())
    whole = software["latency"].value
    kernel, latency = engine["kernel_latency"], engine["latency"]
    shown_instructions = f"{software['instructions'].value:,.0f} instructions (simulated)"
    yield Line("speed-up of what is on the chip over TFLite on one Cortex-A53",
               f"{whole * share / kernel.value:.0f}x", "23.8x published", "estimated", "for information",
               f"{whole * share * 1e6:.0f} µs, {100 * share:.1f} % of {shown_instructions}, against "
               f"{kernel.value * 1e6:.1f} µs; published: arXiv 2107.12824, another network")
    yield Line("speed-up end to end, transfers, stem and head included", f"{whole / latency.value:.1f}x",
               "9.85x published", "estimated", "for information",
               f"{whole * 1e6:.0f} µs against {latency.value * 1e6:.0f} µs ({(latency.low or 0) * 1e6:.0f} to "
               f"{(latency.high or 0) * 1e6:.0f}); published: arXiv 2401.02721, the same group's later design")


def _parameters() -> Line:
    from hwkit import zoo
    from hwkit.zoo._odenet import core_parameters

    counts: dict[str, Any] = {name: core_parameters(zoo.build(name, 0)[0]) for name in ("odenet", "dsodenet")}
    share = 1 - counts["dsodenet"] / counts["odenet"]
    return Line("dsodenet's parameters against odenet's, without stem and head", f"-{100 * share:.1f} %",
                "-54.2 to -79.8 % published", "measured", "for information",
                f"{counts['dsodenet']:,} of {counts['odenet']:,}; published: arXiv 2107.12824, other networks")


if __name__ == "__main__":
    sys.exit(main("the on-chip engine", figures))
