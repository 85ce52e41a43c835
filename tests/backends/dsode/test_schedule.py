"""When the engine reads and writes what: the schedule against a model of its memories, slot by slot.

The model is made from the engine's own account of its pipeline (the head of core.sv), not from schedule.py: it
takes the program and its gaps, puts every read and write of every granule at its cycle, and plays them in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit.backends.dsode import engine, schedule
from hwkit.backends.dsode.engine import Engine
from hwkit.integer.separable import IntegerNetwork
from tests.backends.dsode.networks import Plan

Granule = tuple[str, int]        # memory, and which of its granules


@dataclass(frozen=True)
class Event:
    """Pass `number` touches a granule at `cycle`; a read finds what stood there before that cycle."""

    cycle: int
    write: bool
    number: int
    granule: Granule


def outputs(of: Engine, this: schedule.Pass, start: int) -> Iterator[tuple[int, int]]:
    """(output group's number in the pass, cycle in which its pair is held + the group's number)."""
    shape = of.shapes[this.shape]
    number = 0
    for row in range(0, shape.height, 2 if this.strided else 1):
        for pair in range(shape.pairs):
            left_alone = this.strided and pair % 2 == 0
            if left_alone and pair < shape.pairs - 1:
                continue         # its right neighbour completes the output pair
            last_slot = (row * shape.pairs + pair) * shape.groups + shape.groups - 1
            token = start + last_slot + 3 + shape.pairs * shape.groups + shape.groups
            held = token + 19 + (shape.groups if left_alone else 0)
            for group in range(shape.groups * (2 if this.strided else 1)):
                yield number, held + group
                number += 1


def events(of: Engine, program: list[schedule.Pass]) -> Iterator[Event]:
    chains = of.simd // 8
    until_sum = 14 + int(np.log2(chains)) + len(of.shapes) - 1
    start = 5
    for number, this in enumerate(program):
        shape = of.shapes[this.shape]
        size = (1 << len(of.shapes) - 1) >> this.shape       # granules of a slot
        slots = shape.height * shape.pairs * shape.groups
        for slot in range(slots):
            for k in range(size):
                yield Event(start + slot, False, number, (this.source, slot * size + k))
        for slot, held in outputs(of, this, start):
            for k in range(size):
                if this.skip:        # the state arrives two cycles after the sum and is three cycles on its way
                    yield Event(held + until_sum - 1, False, number, ("state", slot * size + k))
                yield Event(held + until_sum + 5, True, number, (this.target, slot * size + k))
        start += slots + this.gap


def faults(of: Engine, program: list[schedule.Pass]) -> list[str]:
    """Every read that finds not what the program means, and every granule beyond its memory. [] is right."""
    found = []
    held: dict[Granule, int] = {}                  # who wrote what stands there; -1: the image
    newest = {"state": -1}
    meant: list[dict[str, int]] = []               # of each pass: who wrote what it shall read
    for number, this in enumerate(program):
        meant.append(dict(newest))
        newest[this.target] = number
    rows = {"state": of.rows, "middle": of.middle_rows}
    banks = 1 << len(of.shapes) - 1
    for event in sorted(events(of, program), key=lambda e: (e.cycle, e.write)):
        memory, place = event.granule
        if place >= rows[memory] * banks:
            found.append(f"pass {event.number} beyond the {memory} memory: granule {place}")
        elif event.write:
            held[event.granule] = event.number
        elif held.get(event.granule, -1) != meant[event.number][memory]:
            found.append(f"pass {event.number} at cycle {event.cycle} reads {memory} {place} of pass "
                         f"{held.get(event.granule, -1)}, not {meant[event.number][memory]}")
    return found


def last_write(of: Engine, program: list[schedule.Pass]) -> int:
    return max(event.cycle for event in events(of, program) if event.write)


@st.composite
def engines(draw: st.DrawFn) -> tuple[IntegerNetwork, Engine]:
    stages = draw(st.integers(1, 3))
    opening = draw(st.booleans()) if stages < 3 else False
    plan = Plan(draw(st.sampled_from([8, 16, 32])), draw(st.integers(1, 12)), draw(st.integers(1, 12)), stages,
                draw(st.integers(1, 3)), draw(st.integers(1, 2)), opening=opening,
                closing=draw(st.booleans()) if stages + opening < 3 else False)
    network = plan.network()
    return network, engine.engine_for(network, draw(st.sampled_from(engine.legal_pe(plan.channels, plan.shapes))))


@settings(max_examples=60, deadline=None)
@given(engines())
def test_no_pass_reads_what_is_not_written_or_what_is_written_over(drawn: tuple[IntegerNetwork, Engine]) -> None:
    network, of = drawn
    program = schedule.passes(network, of)
    assert faults(of, program) == []
    assert schedule.cycles(network, of) == last_write(of, program) + 1


@settings(max_examples=60, deadline=None)
@given(engines())
def test_gaps_are_no_longer_than_they_must_be(drawn: tuple[IntegerNetwork, Engine]) -> None:
    """One cycle less between two passes of one shape, and a slot would be read too early."""
    network, of = drawn
    program = schedule.passes(network, of)
    for number, this in enumerate(program[:-1]):
        if this.gap and program[number + 1].shape == this.shape:
            hasty = [*program[:number], replace(this, gap=this.gap - 1), *program[number + 1:]]
            assert faults(of, hasty) != []


@settings(max_examples=60, deadline=None)
@given(engines())
def test_the_pipeline_is_empty_where_the_shape_changes_and_outputs_do_not_meet(
        drawn: tuple[IntegerNetwork, Engine]) -> None:
    network, of = drawn
    program = schedule.passes(network, of)
    start, busy_until = 5, -1
    written: list[int] = []
    for number, this in enumerate(program):
        shape = of.shapes[this.shape]
        if number and program[number - 1].shape != this.shape:
            assert written[-1] < start
        cycles = [cycle for _, cycle in outputs(of, this, start)]
        assert all(a < b for a, b in pairwise([busy_until, *cycles]))      # one output group a cycle, in order
        busy_until = cycles[-1]
        written.append(cycles[-1] + schedule.sum_cycles(of) + 5)
        assert schedule.lag(shape) < shape.slots + this.gap or number == len(program) - 1
        start += shape.slots + this.gap


@settings(max_examples=100, deadline=None)
@given(engines())
def test_a_slot_comes_back_before_it_is_read_and_lines_only_grow(drawn: tuple[IntegerNetwork, Engine]) -> None:
    network, of = drawn
    for this, following in pairwise(schedule.passes(network, of)):
        shape = of.shapes[this.shape]
        if this.shape == following.shape:
            assert shape.slots + this.gap >= schedule.latency(of, shape) + 1
    parameters = of.parameters()
    rows, groups = ([parameters[f"{name}{k}"] for k in range(3)] for name in "RT")
    assert groups == sorted(groups)
    assert rows == sorted(rows)
    # the window's lines, less a cycle: to the next pair, and from a row's last tap to the next row's first
    lines = [r - t for r, t in zip(rows, groups, strict=True)]
    assert lines == sorted(lines)
    assert min(lines) > 0


def test_cycles_worked_out_by_hand() -> None:
    """8 channels, 4x4, PE 4: 2 groups, 2 pairs a row, 16 slots a pass; one convolution, two steps."""
    network = Plan(8, 4, 4, steps=2).network()
    of = engine.engine_for(network, 4)
    # address 0 at 5; the first pair's last group is slot 1: at the window at 9, token at 9 + 4 + 2 = 15, held at
    # 34, sum at 34 + 14 = 48, written at 53: slot 0 is written 48 cycles after it was read, slot 15 too
    assert schedule.latency(of, of.shapes[0]) == 48
    # so the second pass begins 49 cycles after the first, at 54; its slot 15 is read at 69, written at 117
    assert [p.gap for p in schedule.passes(network, of)] == [49 - 16, 0]
    assert schedule.cycles(network, of) == 118
    # 2 steps, 16 pixels, 8 channels: 8 * 9 + 64 products each; 64 pointwise and 72 depthwise lanes
    assert schedule.macs(network, of) == 2 * 16 * (72 + 64)
    assert schedule.busy(network, of, schedule.cycles(network, of)) == pytest.approx(2 * 16 * 136 / (136 * 118))


def test_a_transition_worked_out_by_hand() -> None:
    """8 channels at 4x6, then 16 at 2x3; PE 8: one group, three pairs a row, the third of them alone."""
    network = Plan(8, 4, 6, stages=2, steps=1).network()
    of = engine.engine_for(network, 8)
    assert [(s.pairs, s.groups, s.slots) for s in of.shapes] == [(3, 1, 12), (2, 4, 16)]
    first, down, last = schedule.passes(network, of)
    # sum: 14 + 1 halving = 15. A slot: 3 + 3 + 1 + 19 + 15 + 5 = 46 cycles to its write.
    assert first.gap == 46 + 1 - 12
    # Row 2 is the last one kept; its pair 2 is slot 8, token 3 + 3 + 1 later, one cycle more since it is alone;
    # held 19 later, the second output group 1, 15 + 5 to the write: 8 + 7 + 1 + 19 + 1 + 20 = 56, that is 45 after
    # the last address, 11; one cycle more, and the next shape may begin
    assert down.gap == 56 - 11 + 1
    assert last.gap == 0
    starts = [5, 5 + 12 + first.gap]
    starts.append(starts[1] + 12 + down.gap)
    # 4 groups of 2 pairs a row: slot 15 is written 3 + 8 + 2 * 4 - 1 + 19 + 15 + 5 = 57 cycles after it is read
    assert schedule.cycles(network, of) == starts[2] + 15 + 57 + 1
