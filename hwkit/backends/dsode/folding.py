"""Folding: how many multipliers a design gets, so that it is as fast as the target's limits allow.

Every legal PE is tried, the fastest first; what stops the next one is said. A target latency takes the smallest
design that meets it instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwkit.backends.dsode import memories, resources, schedule
from hwkit.backends.dsode.engine import Engine, engine_for, legal_pe, shapes_of
from hwkit.backends.dsode.options import Options
from hwkit.errors import BadInput
from hwkit.integer.separable import IntegerNetwork, Transition
from hwkit.memory import Placement
from hwkit.target import Fpga


@dataclass(frozen=True)
class Folded:
    """The design, where its buffers lie, the cycles of an image, and what keeps it from being faster."""

    engine: Engine
    placement: Placement
    cycles: int
    bottleneck: str


@dataclass(frozen=True)
class _Refused:
    pe: int
    why: str


def fold(network: IntegerNetwork, fpga: Fpga, options: Options) -> Folded:
    """Raises BadInput when no design fits, or none that fits is fast enough: by how much, and what would help."""
    downs = sum(isinstance(part, Transition) for part in network.core)
    candidates = legal_pe(network.state_shape[0], downs + 1)
    if not candidates:
        shapes_of(network, network.state_shape[0])     # says what is wrong with the network, whatever the PE
    if options.pe is not None:
        if options.pe not in candidates:
            raise BadInput(f"pe={options.pe} is not a folding of {network.name}",
                           f"legal: {', '.join(map(str, candidates))}")
        candidates = [options.pe]
    fitting: list[Folded] = []
    refused: list[_Refused] = []
    for pe in candidates:
        found = _tried(network, fpga, options, pe)
        if isinstance(found, Folded):
            fitting.append(found)
        else:
            refused.append(found)
    if not fitting:
        first = refused[0]
        raise BadInput(f"{network.name} does not fit at PE {first.pe}: {first.why}",
                       "fewer channels, a smaller image, or more of the chip in the budget")
    if options.latency_s is not None:
        return _slow_enough(network, fpga, fitting, options.latency_s)
    best = min(fitting, key=lambda f: f.cycles)
    larger = [r for r in refused if r.pe > best.engine.pe]
    why = f"PE {larger[0].pe} does not fit: {larger[0].why}" if larger else _own_limit(network, best, options)
    return Folded(best.engine, best.placement, best.cycles, why)


def _own_limit(network: IntegerNetwork, best: Folded, options: Options) -> str:
    """Why a design that could be larger is not: the network's own shape, and what its cycles go to."""
    engine = best.engine
    program = schedule.passes(network, engine)
    useful = sum(engine.shapes[p.shape].slots for p in program)
    by_shape = {k: sum(engine.shapes[p.shape].slots + p.gap for p in program if p.shape == k)
                for k in range(len(engine.shapes))}
    heaviest = max(by_shape, key=lambda k: by_shape[k])
    at = engine.shapes[heaviest]
    size = f"{at.channels}x{at.height}x{at.width}"
    said = (f"the passes over {size} take {100 * by_shape[heaviest] / best.cycles:.0f} % of the cycles, filling "
            f"and emptying the pipeline {100 * (1 - useful / best.cycles):.0f} %")
    if options.pe is not None:
        return f"PE {engine.pe} was asked for; {said}"
    return f"PE {engine.pe} is the most that {engine.simd} channels in the first stage allow; {said}"


def _slow_enough(network: IntegerNetwork, fpga: Fpga, fitting: list[Folded], latency_s: float) -> Folded:
    clock = fpga.clock_hz.value
    met = [f for f in fitting if f.cycles / clock <= latency_s]
    if not met:
        best = min(fitting, key=lambda f: f.cycles)
        raise BadInput(f"no design of {network.name} that fits takes {latency_s * 1e6:g} µs at {clock / 1e6:g} "
                       f"MHz: the fastest, PE {best.engine.pe}, takes {best.cycles / clock * 1e6:.4g} µs",
                       "raise latency_s, or take fewer solver steps")
    smallest = min(met, key=lambda f: (f.engine.dsps, f.cycles))
    return Folded(smallest.engine, smallest.placement, smallest.cycles,
                  f"the smallest design within {latency_s * 1e6:g} µs was asked for")


def _tried(network: IntegerNetwork, fpga: Fpga, options: Options, pe: int) -> Folded | _Refused:
    """The design with this PE, with LUTs for the multipliers that DSPs cannot hold; or what it lacks."""
    room = fpga.limit("DSP")
    try:
        engine = engine_for(network, pe)
    except BadInput as e:
        return _Refused(pe, e.message)
    if options.multipliers == "lut":
        engine = engine.model_copy(update={"lut_blocks": pe // 2, "depthwise_dsp": False})
    else:
        if engine.dsps > room and options.multipliers == "auto":
            over = -(-(engine.dsps - room) // engine.simd)
            engine = engine.model_copy(update={"lut_blocks": min(over, pe // 2)})
        if engine.dsps > room:
            return _Refused(pe, f"it takes {engine.dsps:,} DSP of the {room:,} that may be used")
    fitted = _fitted(network, fpga, engine, spare_luts=False)
    if isinstance(fitted, _Refused):                     # where LUTs are short, block RAM holds the tables
        spared = _fitted(network, fpga, engine, spare_luts=True)
        fitted = spared if isinstance(spared, Folded) else fitted
    return fitted


def _fitted(network: IntegerNetwork, fpga: Fpga, engine: Engine, spare_luts: bool) -> Folded | _Refused:
    """The engine with its memories placed, where that is within the limits."""
    try:
        engine, placement = memories.placed(engine, fpga.capacity(), spare_luts)
    except BadInput as e:
        return _Refused(engine.pe, e.message)
    for name, interval in resources.estimated(engine, placement).items():
        if interval.value > fpga.limit(name):
            return _Refused(engine.pe, f"it takes about {interval.value:,.0f} {name} of the {fpga.limit(name):,} "
                            "that may be used")
    return Folded(engine, placement, schedule.cycles(network, engine), "")
