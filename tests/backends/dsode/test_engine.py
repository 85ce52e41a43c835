"""Which engines there are, and what is refused before anything is built."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from hwkit.backends.dsode import engine, program
from hwkit.backends.dsode.engine import Engine
from hwkit.errors import BadInput
from hwkit.integer.separable import IntegerNetwork, OdeBlock, Transition
from tests.backends.dsode.networks import Plan, network_of, separable

RNG = np.random.default_rng(0)
PLAN = Plan(8, 4, 4)
THREE = Plan(8, 5, 7, 3, 2, 2)


def block(channels: int, convolutions: int = 1) -> OdeBlock:
    return OdeBlock(tuple(separable(RNG, PLAN, channels, channels) for _ in range(convolutions)), 2)


def shifts(depthwise: list[int], pointwise: list[int]) -> IntegerNetwork:
    conv = replace(separable(RNG, PLAN, 8, 8), depthwise_shift=np.array(depthwise),
                   pointwise_shift=np.array(pointwise))
    return network_of([OdeBlock((conv,), 1)], 8, (4, 4))


EVEN = [5] * 8
REFUSED: dict[str, tuple[IntegerNetwork, int]] = {
    "12 channels in the first stage: the engine takes 8, 16, 32": (network_of([block(12)], 12, (4, 4)), 4),
    "4 channels in the first stage": (network_of([block(4)], 4, (4, 4)), 4),
    "PE 3: legal are powers of two from 2 to 8": (PLAN.network(), 3),
    "PE 1: legal": (PLAN.network(), 1),
    "PE 0: legal": (PLAN.network(), 0),
    "PE -4: legal": (PLAN.network(), -4),
    "PE 16: legal are powers of two from 2 to 8": (PLAN.network(), 16),
    "PE 4: legal are powers of two from 8 to 8": (THREE.network(), 4),
    "4 sizes of feature map: the engine takes at most 3": (Plan(8, 8, 8, 4).network(), 8),
    "from 8 to 12 channels with stride 2": (
        network_of([block(8), Transition(separable(RNG, PLAN, 8, 12, stride=2))], 8, (4, 4)), 4),
    "from 8 to 16 channels with stride 1": (
        network_of([block(8), Transition(separable(RNG, PLAN, 8, 16, stride=1))], 8, (4, 4)), 4),
    "f has more than two convolutions": (network_of([block(8, 3)], 8, (4, 4)), 4),
    "depthwise shifts go from 2 to 10; the engine's lie at most 7 apart": (shifts([2, *EVEN[1:-1], 10], EVEN), 4),
    "pointwise shifts go from 0 to 8": (shifts(EVEN, [0, *EVEN[1:-1], 8]), 4),
    "a feature map of 8x257x4 is larger than the engine counts at PE 8": (Plan(8, 257, 4).network(), 8),
    "a feature map of 8x4x600 is larger": (Plan(8, 4, 600).network(), 8),
    "a feature map of 1024x4x4 is larger than the engine counts at PE 2": (Plan(1024, 4, 4).network(), 2),
}


@pytest.mark.parametrize(("message", "case"), REFUSED.items(), ids=list(REFUSED))
def test_what_the_engine_cannot_be_is_refused_in_one_line(message: str, case: tuple[IntegerNetwork, int]) -> None:
    with pytest.raises(BadInput) as caught:
        engine.engine_for(*case)
    assert message in caught.value.line()
    assert "\n" not in caught.value.line()


def test_legal_pes() -> None:
    assert engine.legal_pe(8, 1) == [2, 4, 8]
    assert engine.legal_pe(64, 3) == [8, 16, 32, 64]
    assert engine.legal_pe(12, 1) == []
    for simd, shapes in ((8, 1), (16, 2), (32, 3)):
        for pe in range(-1, 70):
            assert (engine.illegal(pe, simd, shapes) == "") == (pe in engine.legal_pe(simd, shapes))


def test_an_engine_made_by_hand_is_checked_too() -> None:
    made = engine.engine_for(PLAN.network(), 4)
    with pytest.raises(ValidationError, match="PE 6: legal are"):
        Engine.model_validate({**made.model_dump(), "pe": 6})


def test_shapes_of_odd_maps_leave_room_for_what_comes_after() -> None:
    """5x7 -> 3x4 -> 2x2 by hand: two pairs a row at least, and twice what the next shape needs, less one."""
    made = engine.engine_for(THREE.network(), 8)
    assert [(s.channels, s.height, s.width, s.pairs, s.groups) for s in made.shapes] == [
        (8, 5, 7, 5, 1), (16, 3, 4, 3, 4), (32, 2, 2, 2, 16)]
    assert [s.slots for s in made.shapes] == [25, 36, 64]
    assert made.rows == 25                     # 25 slots; 36 halves; 64 quarters
    assert made.middle_rows == made.rows
    assert made.granule == 2


def test_tables_have_room_for_every_convolution_and_every_step() -> None:
    made = engine.engine_for(Plan(8, 5, 7, 3, 4, 2, rows=4).network(), 8)
    # lanes: 8, 4, 2; groups of a block's input and output: 1, 4, 16; of a transition's output: 2, 8
    assert made.weight_rows == 2 * (1 + 4 + 16) + 2 + 8
    assert made.lane_rows == 2 * (1 + 4 + 16) + 1 + 4
    assert made.bias_rows == 4 * 2 * (1 + 4 + 16) + 2 + 8
    assert made.passes == 4 * 2 * 3 + 2


def test_lanes_and_multipliers() -> None:
    made = engine.engine_for(PLAN.network(), 4)
    assert made.pointwise_lanes == 4 * 8 * 2             # outputs, inputs, pixels
    assert made.depthwise_lanes == 4 * 9 * 2
    assert made.dsps == 4 * 8 * 2 // 4 + 4 * 9 * 2 // 2
    luts = engine.engine_for(PLAN.network(), 4, depthwise_dsp=False, lut_blocks=1)
    assert luts.dsps == 4 * 8 * 2 // 4 // 2


def changed(**values: object) -> IntegerNetwork:
    conv = replace(separable(RNG, PLAN, 8, 8), **values)  # type: ignore[arg-type]
    return network_of([OdeBlock((conv,), 1)], 8, (4, 4))


# What the RTL computes otherwise than the integer reference, or what is no legal RTL.
BEYOND_THE_RTL: dict[str, IntegerNetwork] = {
    "bias + sum is beyond the 20 bits of the update": changed(
        pointwise=np.full((8, 8), 7), pointwise_bias=np.full((1, 8), (1 << 19) - 1 + 1024)),
    "a weight is no INT4": changed(pointwise=np.full((8, 8), 9)),
    "a shift is negative": changed(pointwise_shift=np.full(8, -1)),
    "pointwise shifts beyond every base and rest": changed(pointwise_shift=np.full(8, 20)),
    "depthwise shifts beyond every base and rest": changed(depthwise_shift=np.full(8, 20)),
    "the middle has one bit": replace(Plan(8, 4, 4, convolutions=2).network(), middle_high=1),
    "the middle's end is no 2^n - 1": replace(Plan(8, 4, 4, convolutions=2).network(), middle_high=100),
    "there is no pass": replace(PLAN.network(), core=()),
}


def test_large_shifts_keep_a_base_that_leaves_the_state_its_bits() -> None:
    made = engine.engine_for(changed(pointwise_shift=np.full(8, 13), depthwise_shift=np.full(8, 14)), 4)
    assert (made.pointwise_shift, made.pointwise_shift_bits) == (12, 1)
    assert (made.depthwise_shift, made.depthwise_shift_bits) == (12, 2)


@pytest.mark.parametrize("network", BEYOND_THE_RTL.values(), ids=list(BEYOND_THE_RTL))
def test_what_the_rtl_cannot_compute_is_refused(network: IntegerNetwork) -> None:
    with pytest.raises(BadInput):
        program.configuration(network, engine.engine_for(network, 4))
