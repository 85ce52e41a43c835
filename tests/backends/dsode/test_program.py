"""What is written into the engine's tables: every weight once, nothing twice, nothing cut off."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit.backends.dsode import engine, program
from hwkit.backends.dsode.engine import Engine
from hwkit.errors import BadInput
from hwkit.integer.arithmetic import Ints
from hwkit.integer.separable import IntegerNetwork, OdeBlock, Separable, convolutions
from tests.backends.dsode.networks import Plan

NETWORK = Plan(8, 5, 7, 3, 2, 2, rows=2).network()
PE = 8
Field = tuple[int, int, int]     # bank, row, which of the word's fields


def fields(network: IntegerNetwork, of: Engine, first: int, end: int, bits: int) -> dict[Field, int]:
    """The words of banks first .. end - 1 in fields of so many bits; a word written twice is an error."""
    found: dict[Field, int] = {}
    for bank, row, word in program.configuration(network, of):
        if first <= bank < end:
            for k in range(64 // bits):
                assert found.setdefault((bank, row, k), word >> bits * k & (1 << bits) - 1) >= 0
    return found


def numbered(network: IntegerNetwork, of: Engine, name: str, table: tuple[str, str]) -> tuple[Counter[int], int]:
    """The weights `name` numbered from 1, digit by digit in base 16, as they come to lie in the table.

    Returns how often each number is there (0: no weight), and how many weights there are.
    """
    banks = program.banks(of)
    total = sum(getattr(conv, name).size for _, conv in convolutions(network))
    places: dict[Field, int] = {}
    for digit in range((total.bit_length() + 3) // 4):
        following = 1

        def marked(conv: Separable) -> Separable:
            nonlocal following
            weights = getattr(conv, name)
            numbers = np.arange(following, following + weights.size).reshape(weights.shape)
            following += weights.size
            nibbles = numbers >> 4 * digit & 15  # noqa: B023
            signed: Any = {name: np.where(nibbles > 7, nibbles - 16, nibbles)}
            return replace(conv, **signed)

        core = tuple(replace(part, convolutions=tuple(map(marked, part.convolutions)))
                     if isinstance(part, OdeBlock) else replace(part, convolution=marked(part.convolution))
                     for part in network.core)
        for place, nibble in fields(replace(network, core=core), of, banks[table[0]], banks[table[1]], 4).items():
            places[place] = places.get(place, 0) | nibble << 4 * digit
    return Counter(places.values()), total


def test_every_pointwise_weight_stands_in_its_table_once() -> None:
    of = engine.engine_for(NETWORK, PE)
    found, total = numbered(NETWORK, of, "pointwise", ("weights", "taps"))
    assert {n: count for n, count in found.items() if n} == dict.fromkeys(range(1, total + 1), 1)
    assert found[0] == of.weight_rows * 8 * (64 - 4 * PE) // 4     # only where a word is wider than the table


def test_every_depthwise_weight_stands_in_its_table_once() -> None:
    found, total = numbered(NETWORK, engine.engine_for(NETWORK, PE), "depthwise", ("taps", "lane_bias"))
    assert {n: count for n, count in found.items() if n} == dict.fromkeys(range(1, total + 1), 1)


def test_biases_and_shifts_stand_in_their_tables() -> None:
    of = engine.engine_for(NETWORK, PE)
    banks = program.banks(of)
    convs = [conv for _, conv in convolutions(NETWORK)]
    lane = fields(NETWORK, of, banks["lane_bias"], banks["bias"], 32).values()
    meant = [(int(b) & 0xffff) | int(s) - of.depthwise_shift << 16
             for c in convs for b, s in zip(c.depthwise_bias, c.depthwise_shift, strict=True)]
    assert Counter(lane) - Counter(meant) == Counter({0: len(lane) - len(meant)})
    # what the packed fields of 8 inputs add, 1024, is taken off again
    output = fields(NETWORK, of, banks["bias"], banks["program"], 32).values()
    meant = [(int(b) - 128 * c.inputs & 0xfffff) | int(s) - of.pointwise_shift << 24
             for c in convs for row in c.pointwise_bias for b, s in zip(row, c.pointwise_shift, strict=True)]
    assert Counter(output) - Counter(meant) == Counter({0: len(output) - len(meant)})


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([8, 16, 32]), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 2),
       st.booleans(), st.data())
def test_every_word_has_one_address_within_its_table(channels: int, height: int, width: int, stages: int,
                                                     convs: int, timed: bool, data: st.DataObject) -> None:
    network = Plan(channels, height, width, stages, 3, convs, rows=3 if timed else 1).network()
    of = engine.engine_for(network, data.draw(st.sampled_from(engine.legal_pe(channels, stages))))
    banks = program.banks(of)
    rows = {"weights": of.weight_rows, "taps": of.lane_rows, "lane_bias": of.lane_rows, "bias": of.bias_rows,
            "program": of.passes}
    words = program.configuration(network, of)
    assert len({(bank, row) for bank, row, _ in words}) == len(words)
    assert all(0 <= word < 1 << 64 for _, _, word in words)
    names, firsts = list(banks), list(banks.values())
    assert firsts == sorted(firsts)
    for (name, first), end in zip(banks.items(), firsts[1:], strict=False):
        written = {(bank, row) for bank, row, _ in words if first <= bank < end}
        # every row of every bank: nothing that is read is left as it was
        assert written == {(bank, row) for bank in range(first, end) for row in range(rows[name])}
    assert names[-1] == "end"
    assert max(bank for bank, _, _ in words) < banks["end"] <= 1 << 16


def test_the_banks_of_the_largest_engine_fit_the_bus() -> None:
    largest = engine.engine_for(Plan(256, 4, 4).network(), 256)
    assert program.banks(largest)["end"] < 1 << 16


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([8, 16]), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.data())
def test_a_state_comes_back_as_it_was_packed(channels: int, height: int, width: int, stages: int,
                                             data: st.DataObject) -> None:
    of = engine.engine_for(Plan(channels, height, width, stages).network(),
                           data.draw(st.sampled_from(engine.legal_pe(channels, stages))))
    for number, shape in enumerate(of.shapes):
        states: Ints = np.random.default_rng(height).integers(
            -128, 128, (2, shape.channels, shape.height, shape.width))
        packed = program.pack_state(states, of, number)
        assert packed.shape[2] == 2 * of.pe
        assert packed.shape[1] <= of.rows
        assert np.array_equal(program.unpack_state(packed, of, number), states)
        assert Counter(packed[packed != 0].tolist()) == Counter(states[states != 0].tolist())


def test_a_packed_state_is_pairs_of_pixels_and_within_them_granules_of_channels() -> None:
    """4 of 8 channels a row at PE 4, in one granule: left pixel's channels, right pixel's channels."""
    of = engine.engine_for(Plan(8, 2, 3).network(), 4)
    states = np.arange(8 * 2 * 3).reshape(1, 8, 2, 3)
    packed = program.pack_state(states, of, 0)
    assert packed.shape == (1, 2 * 2 * 2, 8)
    assert packed[0, 0].tolist() == [*states[0, :4, 0, 0], *states[0, :4, 0, 1]]
    assert packed[0, 1].tolist() == [*states[0, 4:, 0, 0], *states[0, 4:, 0, 1]]
    assert packed[0, 2].tolist() == [*states[0, :4, 0, 2], 0, 0, 0, 0]     # the row's padding
    assert packed[0, 4].tolist() == [*states[0, :4, 1, 0], *states[0, :4, 1, 1]]


def changed(**values: Any) -> IntegerNetwork:
    network = Plan(8, 4, 4).network()
    block = network.core[0]
    assert isinstance(block, OdeBlock)
    return replace(network, core=(replace(block, convolutions=(replace(block.convolutions[0], **values),)),))


@pytest.mark.parametrize(("name", "last"), [("depthwise_bias", (1 << 15) - 1),
                                            ("pointwise_bias", (1 << 19) - 1 + 128 * 8)])
def test_a_bias_that_a_table_cannot_hold_is_refused(name: str, last: int) -> None:
    shape = (8,) if name == "depthwise_bias" else (1, 8)
    for value in (last + 1, -(1 << 20)):
        network = changed(**{name: np.full(shape, value)})
        with pytest.raises(BadInput, match=rf"ode1\.conv1: {name.split('_')[0]} biases go from") as caught:
            program.configuration(network, engine.engine_for(network, 4))
        assert "\n" not in caught.value.line()
