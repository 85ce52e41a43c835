"""Placement: shapes counted by hand, every bit in one place, nothing over what there is, refusals that help."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hwkit import target as targets
from hwkit.errors import BadInput
from hwkit.memory import MEMORIES, UNIT_BITS, Buffer, Capacity, Memory, Placed, draw, fits, options, place

WHOLE: dict[Memory, int] = {"LUTRAM": 101_760, "BRAM": 624, "URAM": 96}
CHIP = Capacity(limit=WHOLE, chip=WHOLE)


def room(lutram: int, bram: int, uram: int) -> Capacity:
    return Capacity(limit={"LUTRAM": lutram, "BRAM": bram, "URAM": uram}, chip=WHOLE)


def only(memory: Memory, words: int, width_bits: int, reads: int = 1, writes: int = 1,
         initialised: bool = True) -> Placed:
    initialised = initialised and memory != "URAM"
    (found,) = options(Buffer(name="b", words=words, width_bits=width_bits, contents="weights", reads=reads,
                              writes=writes, initialised=initialised, preferred=(memory,)))
    return found


@pytest.mark.parametrize(("memory", "words", "bits", "reads", "writes", "primitive", "primitives", "taken"), [
    ("BRAM", 512, 36, 1, 1, "RAMB18E2", 1, 1),
    ("BRAM", 512, 72, 1, 1, "RAMB36E2", 1, 2),            # two halves: as a whole one it is a single primitive
    ("BRAM", 513, 36, 1, 1, "RAMB36E2", 1, 2),            # 1K x 36
    ("BRAM", 1024, 18, 1, 1, "RAMB18E2", 1, 1),
    ("BRAM", 16384, 1, 1, 1, "RAMB18E2", 1, 1),
    ("BRAM", 32768, 1, 1, 1, "RAMB36E2", 1, 2),
    ("BRAM", 512, 512, 1, 1, "RAMB18E2", 15, 15),         # 15 x 36 = 540 bits; 8 whole ones would be 16 halves
    ("BRAM", 4096, 5, 1, 1, "RAMB36E2", 1, 2),            # 4K x 9 and not two of 4K x 4
    ("BRAM", 512, 36, 2, 1, "RAMB18E2", 2, 2),            # a second read: a copy
    ("BRAM", 512, 36, 2, 0, "RAMB36E2", 1, 2),            # never written: both ports of one 1K x 36 read
    ("BRAM", 1024, 18, 2, 0, "RAMB18E2", 1, 1),           # both ports read, no copy
    ("URAM", 3072, 512, 1, 1, "URAM288", 8, 8),           # width decides: 8 x 72 bits
    ("URAM", 4097, 72, 1, 1, "URAM288", 2, 2),
    ("URAM", 4096, 72, 2, 1, "URAM288", 2, 2),
    ("LUTRAM", 64, 7, 1, 1, "RAM64M8", 1, 8),
    ("LUTRAM", 32, 14, 1, 1, "RAM32M16", 1, 8),
    ("LUTRAM", 64, 64, 1, 1, "RAM64M8", 10, 80),
    ("LUTRAM", 128, 7, 1, 1, "RAM64M8", 2, 16 + 7),       # two stacked: a LUT a bit chooses
    ("LUTRAM", 256, 7, 1, 1, "RAM64M8", 4, 32 + 7),       # a LUT chooses among four
    ("LUTRAM", 320, 7, 1, 1, "RAM64M8", 5, 40 + 14),
    ("LUTRAM", 64, 7, 3, 1, "RAM64M8", 3, 24),
])
def test_primitives_counted_by_hand(memory: Memory, words: int, bits: int, reads: int, writes: int, primitive: str,
                                    primitives: int, taken: int) -> None:
    found = only(memory, words, bits, reads, writes)
    assert (found.primitive.name, found.primitives, found.taken) == (primitive, primitives, taken)


def test_the_state_and_weights_of_the_three_stage_engine() -> None:
    """64 channels at 32x32, 128 at 16x16 and 256 at 8x8 in one bank; its weights 8192 bits wide."""
    state = Buffer(name="state", words=3072, width_bits=512, contents="feature map")
    weights = Buffer(name="weights", words=42, width_bits=8192, contents="weights", initialised=True)
    found = place([state, weights], CHIP)
    assert [(p.primitive.name, p.primitives, p.partition) for p in found.placed] == [
        ("URAM288", 8, 8), ("RAM64M8", 1171, 1171)]
    assert found.taken == {"LUTRAM": 9368, "BRAM": 0, "URAM": 8}
    assert found.on_chip_bytes == (3072 * 512 + 42 * 8192) / 8
    assert found.off_chip_bytes == 0
    assert found.available_bytes == (101_760 * 64 + 624 * 18_432 + 96 * 294_912) / 8


def test_what_comes_with_the_bitstream_is_in_no_uram() -> None:
    buffer = Buffer(name="w", words=4096, width_bits=72, contents="weights", initialised=True)
    assert {o.primitive.memory for o in options(buffer)} == {"LUTRAM", "BRAM"}
    with pytest.raises(BadInput, match="a URAM starts empty"):
        place([buffer.model_copy(update={"preferred": ("URAM",)})], CHIP)
    with pytest.raises(ValidationError, match="nothing could be read from it"):
        Buffer(name="w", words=1, width_bits=1, contents="bias", writes=0)


buffers = st.lists(st.builds(
    Buffer, name=st.uuids().map(str), words=st.integers(1, 3000), width_bits=st.integers(1, 300),
    contents=st.just("weights"), reads=st.integers(1, 3), writes=st.just(1), initialised=st.booleans(),
    preferred=st.sampled_from([(), ("BRAM",), ("LUTRAM", "BRAM"), ("BRAM", "URAM")])), max_size=6)
rooms = st.builds(room, st.integers(0, 4000), st.integers(0, 60), st.integers(0, 12))


def by_brute_force(wanted: list[Buffer], capacity: Capacity) -> tuple[float, float] | None:
    """The smallest (largest share, sum of shares) over all combinations; None when none fits."""
    best = None
    for chosen in itertools.product(*(options(b) for b in wanted)):
        taken = {m: sum(p.taken for p in chosen if p.primitive.memory == m) for m in MEMORIES}
        if any(taken[m] > capacity.limit[m] for m in MEMORIES):
            continue
        shares = [taken[m] / capacity.limit[m] if capacity.limit[m] else 0.0 for m in MEMORIES]
        cost = (max(shares), sum(shares))
        best = cost if best is None else min(best, cost)
    return best


@given(buffers, rooms)
@settings(max_examples=150, deadline=None)
def test_placements_are_the_best_there_are_and_never_over(wanted: list[Buffer], capacity: Capacity) -> None:
    best = by_brute_force(wanted, capacity)
    assert fits(wanted, capacity) is (best is not None)
    if best is None:
        with pytest.raises(BadInput) as caught:
            place(wanted, capacity)
        assert any(b.name in caught.value.message for b in wanted)
        assert "\n" not in caught.value.line()
        return
    found = place(wanted, capacity)
    assert [p.buffer for p in found.placed] == wanted
    shares = [found.taken[m] / capacity.limit[m] if capacity.limit[m] else 0.0 for m in MEMORIES]
    assert (max(shares), sum(shares)) == pytest.approx(best)
    assert found.off_chip_bytes == 0
    assert found == place(wanted, capacity)
    for p in found.placed:
        assert not p.buffer.preferred or p.primitive.memory in p.buffer.preferred
        assert p.primitive.memory != "URAM" or not p.buffer.initialised


@given(st.integers(1, 200), st.integers(1, 80), st.integers(1, 3), st.integers(0, 1), st.sampled_from(MEMORIES))
@settings(max_examples=60, deadline=None)
def test_every_bit_is_in_exactly_one_place_of_each_copy(words: int, bits: int, reads: int, writes: int,
                                                        memory: Memory) -> None:
    found = only(memory, words, bits, reads, 1 if memory == "URAM" else writes)
    places = Counter(found.where(word, bit, copy) for copy in range(found.copies)
                     for word in range(words) for bit in range(bits))
    assert len(places) == words * bits * found.copies
    assert max(places.values()) == 1
    assert {where[0] for where in places} == set(range(found.primitives))       # and no primitive is there in vain
    depth, width = found.depth, found.width
    assert all(address < depth and offset < width for _, address, offset in places)
    assert depth * width <= UNIT_BITS[memory] * found.primitive.units
    ports = 2 if writes == 0 and (depth, width) in found.primitive.dual else 1
    assert found.copies * ports >= reads


def test_a_refusal_says_by_how_much_and_what_would_fit() -> None:
    state = Buffer(name="state", words=4096, width_bits=720, contents="feature map", preferred=("URAM",))
    bias = Buffer(name="bias", words=16, width_bits=32, contents="bias", initialised=True)

    def narrower(channels: int) -> tuple[str, list[Buffer]]:
        return f"{channels} channels instead of 90", [state.model_copy(update={"width_bits": 8 * channels}), bias]

    changes = map(narrower, (80, 72, 64, 32))
    with pytest.raises(BadInput) as caught:
        place([state, bias], room(1000, 10, 8), changes)
    assert list(changes) == [narrower(64), narrower(32)]           # nothing is made after the one that fits
    assert caught.value.message == (
        "state (feature map, 4096 x 720 bits, 1 read a cycle) does not fit on the chip beside 1 smaller buffer: "
        "as URAM it takes 10 URAM, 2 more than are left of the 8 that may be used")
    assert caught.value.hint == "72 channels instead of 90 fits; state fits with 576 bits instead of 720"
    assert fits([state.model_copy(update={"width_bits": 576}), bias], room(1000, 10, 8))
    assert not fits([state.model_copy(update={"width_bits": 577}), bias], room(1000, 10, 8))


def test_the_buffer_that_breaks_it_is_not_the_small_one_that_came_last() -> None:
    large = Buffer(name="large", words=512, width_bits=360, contents="weights", preferred=("BRAM",))
    small = Buffer(name="small", words=512, width_bits=36, contents="bias", preferred=("BRAM",))
    with pytest.raises(BadInput, match=r"large .* it takes 10 BRAM_18K, 1 more than are left of the 10"):
        place([large, small], room(0, 10, 0))


def test_nothing_to_place_takes_nothing() -> None:
    found = place([], room(0, 0, 0))
    assert found.taken == {"LUTRAM": 0, "BRAM": 0, "URAM": 0}
    assert found.rows() == ()


def test_a_name_stands_once() -> None:
    one = Buffer(name="b", words=1, width_bits=1, contents="bias")
    with pytest.raises(ValueError, match="two buffers have the name b"):
        place([one, one], CHIP)


def test_rows_and_map() -> None:
    state = Buffer(name="state", words=3072, width_bits=512, contents="feature map", preferred=("URAM",))
    bias = Buffer(name="bias", words=16, width_bits=32, contents="bias", preferred=("LUTRAM",))
    found = place([state, bias], CHIP)
    row = found.rows()[0]
    assert (row.buffer, row.memory, row.primitives, row.partition, row.taken, row.available) == (
        "state", "URAM", 8, 8, 8, 96)
    assert (row.data_bits, row.allocated_bits) == (3072 * 512, 8 * 4096 * 72)
    assert row.share == pytest.approx(8 / 96)
    lines = draw(found.rows(), WHOLE, width=24)
    assert lines == [
        "LUTRAM [B.......................] 24 of 101,760 LUT, 0.0 %",
        "         B bias: 0.0 %",
        "BRAM   [........................] 0 of 624 BRAM_18K, 0.0 %",
        "URAM   [AA......................] 8 of 96 URAM, 8.3 %",
        "         A state: 8.3 %"]


def test_a_targets_capacity_is_its_totals_and_its_limits() -> None:
    logic = targets.target("zcu104").fpga
    assert logic is not None
    capacity = logic.capacity()
    assert capacity.chip == WHOLE
    assert capacity.limit == {"LUTRAM": 71_232, "BRAM": 499, "URAM": 76}
