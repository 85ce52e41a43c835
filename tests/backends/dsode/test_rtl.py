"""The RTL, simulated behind its own bus, gives what the integer reference gives, in the cycles that were foretold.

Few simulators, many images and networks: another network with the engine's parameters runs on the same one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hwkit import process
from hwkit.backends.dsode import emit, program, schedule
from hwkit.data import shipped
from hwkit.eda import verilator
from hwkit.integer.separable import OdeBlock, Separable, Transition
from tests.backends.dsode.conftest import Design, Designs
from tests.backends.dsode.networks import SMALLEST, Plan, states


@dataclass(frozen=True)
class Case:
    plan: Plan
    pe: int
    bits: int                    # of a beat, at most
    choices: dict[str, object]
    waits: set[bool]             # whether a pass waits for the one before it of the same shape: what must occur


CASES = {
    "one convolution, passes without a gap, a transition last": Case(
        Plan(16, 8, 8, steps=3, pointwise_shift=(0, 4), closing=True), 8, 128, {"state_style": "URAM"}, {False}),
    "three odd shapes, two convolutions that depend on time": Case(
        Plan(8, 11, 7, 3, 3, 2, rows=3, middle_high=15, depthwise_shift=(5, 8)), 8, 64, {}, {True, False}),
    "two shapes, multipliers of LUTs and memories of LUTs": Case(
        Plan(16, 6, 12, 2, 2, 2, middle_high=63, depthwise_shift=(7, 8), pointwise_shift=(0, 7)), 4, 128,
        {"depthwise_dsp": False, "lut_blocks": 1, "state_style": "LUTRAM", "weight_style": "LUTRAM",
         "lane_style": "BRAM", "bias_style": "BRAM"}, {False}),
}


@pytest.fixture(scope="session", params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="session")
def made(case: Case, design: Designs) -> Design:
    return design(case.plan.network(), case.pe, case.bits, **case.choices)


def test_every_value_and_every_cycle_is_right(made: Design, case: Case, tmp_path: Path) -> None:
    given = states(made.network, 12)
    expected = made.network.on_chip(given)
    assert (expected.std(0) > 0).mean() > 0.9, "the results hardly depend on the states"
    found, cycles = made.results(given, tmp_path)
    assert int((found != expected).sum()) == 0
    assert set(cycles.run_cycles) == {schedule.cycles(made.network, made.engine)}
    passes = schedule.passes(made.network, made.engine)
    assert {p.gap > 0 for p, following in pairwise(passes) if p.shape == following.shape} == case.waits


def test_nothing_of_an_image_is_left_for_the_next(made: Design, tmp_path: Path) -> None:
    """Each image alone, in another order, and behind streams that pause: the same values."""
    given = states(made.network, 2)
    expected = made.network.on_chip(given)
    backwards, _ = made.results(given[::-1].copy(), tmp_path)
    assert int((backwards != expected[::-1]).sum()) == 0
    for image in (0, 3):
        alone, _ = made.results(given[image:image + 1], tmp_path)
        assert int((alone != expected[image:image + 1]).sum()) == 0
    for stall in (4, 12):
        paused, cycles = made.results(given, tmp_path, stall)
        assert int((paused != expected).sum()) == 0
        assert set(cycles.run_cycles) == {schedule.cycles(made.network, made.engine)}


@pytest.mark.parametrize("seed", [1, 2])
def test_other_weights_run_on_the_same_simulator(case: Case, made: Design, seed: int, design: Designs,
                                                 tmp_path: Path) -> None:
    other = design(case.plan.network(seed), case.pe, case.bits, **case.choices)
    assert other.engine == made.engine
    given = states(other.network, 6, seed)
    found, _ = other.results(given, tmp_path)
    assert int((found != other.network.on_chip(given)).sum()) == 0


def test_weights_at_the_ends_of_their_range_fill_the_accumulators(case: Case, made: Design, design: Designs,
                                                                  tmp_path: Path) -> None:
    for value in (-8, 7):
        network = replace(made.network, core=tuple(_filled(part, value) for part in made.network.core))
        extreme = design(network, case.pe, case.bits, **case.choices)
        given = states(network, 1)
        found, _ = extreme.results(given, tmp_path)
        assert int((found != network.on_chip(given)).sum()) == 0


def test_registers_streams_and_resets(design: Designs, tmp_path: Path) -> None:
    """The smallest engine under a testbench of its own: see bus_tb.cpp for what it checks."""
    small = design(SMALLEST.network(), 2)
    assert [p.gap for p in schedule.passes(small.network, small.engine)] == [1, 0]
    state = states(small.network, 1)[:1]
    program.pack_state(state, small.engine, 0).tofile(tmp_path / "state.bin")
    program.pack_state(small.network.on_chip(state), small.engine, 0).tofile(tmp_path / "result.bin")
    bench = small.bench.model_copy(update={"testbench": str(shipped("hls", "dsode", "sim", "bus_tb.cpp"))})
    numbers = (bench.stream_bytes, bench.beats_in, bench.beats_out, schedule.cycles(small.network, small.engine),
               emit.design_digest(small.engine, 8 * bench.stream_bytes))
    done = process.run([str(verilator.build(bench, small.folder, lambda _: None)),
                        *map(str, (small.folder / bench.config, tmp_path / "state.bin", tmp_path / "result.bin")),
                        *map(str, numbers)], timeout_s=60, what="bus testbench", check=False)
    assert done.returncode == 0, done.stdout


def _filled(part: OdeBlock | Transition, value: int) -> OdeBlock | Transition:
    """The same shifts, every weight `value`, every bias 0."""
    def filled(conv: Separable) -> Separable:
        return replace(conv, depthwise=np.full_like(conv.depthwise, value),
                       pointwise=np.full_like(conv.pointwise, value),
                       depthwise_bias=np.zeros_like(conv.depthwise_bias),
                       pointwise_bias=np.zeros_like(conv.pointwise_bias))

    if isinstance(part, Transition):
        return replace(part, convolution=filled(part.convolution))
    return replace(part, convolutions=tuple(filled(conv) for conv in part.convolutions))
