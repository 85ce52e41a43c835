"""Rounding and saturation against big rational numbers, and against qonnx's own definition."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit.integer.requantize import (
    MODES,
    NEAREST,
    Mode,
    Quantiser,
    code_limits,
    exact_in_floats,
    mode_named,
    quantized_floats,
    sign_table,
    table,
    truncated,
)
from hwkit.integer.scaled import limited, plain, rationals, shifted_by

SCALES = st.floats(2**-12, 2**12, width=32, allow_nan=False)
OFFSETS = st.floats(-100, 100, width=32, allow_nan=False)
CODES = st.lists(st.integers(-5000, 5000), min_size=1, max_size=30)
BITS = st.integers(1, 8)
MODE = st.sampled_from(MODES)


def rounded(x: Fraction, mode: Mode) -> int:
    """By the definition, with nothing but Python's integers."""
    floor, rest = math.floor(x), x - math.floor(x)
    nearest = {"ROUND": round(x), "HALF_UP": math.floor(abs(x) + Fraction(1, 2)) * (1 if x >= 0 else -1),
               "HALF_DOWN": math.ceil(abs(x) - Fraction(1, 2)) * (1 if x >= 0 else -1)}
    directed = {"FLOOR": floor, "CEIL": math.ceil(x), "ROUND_TO_ZERO": math.trunc(x),
                "UP": (floor if x < 0 or rest == 0 else floor + 1)}
    return {**nearest, **directed}[mode]


def clamped(code: int, low: int, high: int) -> int:
    return max(low, min(high, code))


@given(CODES, SCALES, SCALES, OFFSETS, BITS, st.booleans(), MODE)
def test_thresholds_round_as_rational_numbers_do(codes: list[int], scale: float, to: float, offset: float,
                                                 bits: int, narrow: bool, mode: Mode) -> None:
    slope, start = Fraction(scale) / Fraction(to), Fraction(offset) / Fraction(to)
    low, high = code_limits(bits + 1, True, narrow)
    done = table(slope, start, low, high, mode)(np.array(codes, np.int64))
    exact = [slope * q + start for q in codes]
    assert done.codes.tolist() == [clamped(rounded(x, mode), low, high) for x in exact]
    tied = [mode in NEAREST and (x - Fraction(1, 2)).denominator == 1 and low < x < high for x in exact]
    assert done.ties.tolist() == tied


@given(CODES, st.integers(-6, 3), st.integers(-40, 40), MODE)
def test_powers_of_two_hit_ties_and_count_each(codes: list[int], exponent: int, start: int, mode: Mode) -> None:
    slope, offset = Fraction(2) ** exponent, Fraction(start, 4)
    done = table(slope, offset, -128, 127, mode)(np.array(codes, np.int64))
    exact = [slope * q + offset for q in codes]
    assert done.codes.tolist() == [clamped(rounded(x, mode), -128, 127) for x in exact]
    if mode in NEAREST:
        assert int(done.ties.sum()) == sum(x.denominator == 2 and -128 < x < 127 for x in exact)
    else:
        assert not done.ties.any()


@given(CODES, SCALES, SCALES, OFFSETS)
def test_near_is_within_a_1024th_of_a_code(codes: list[int], scale: float, to: float, offset: float) -> None:
    slope, start = Fraction(scale) / Fraction(to), Fraction(offset) / Fraction(to)
    done = table(slope, start, -8, 7, "ROUND")(np.array(codes, np.int64))
    for q, near, tie in zip(codes, done.near.tolist(), done.ties.tolist(), strict=True):
        x = slope * q + start
        edge = Fraction(2 * clamped(math.floor(x), -8, 6) + 1, 2)
        close = abs(x - edge) <= Fraction(1, 1024)
        assert near == (close and not tie)


def test_near_begins_and_ends_where_it_says() -> None:
    done = table(Fraction(1, 4096), Fraction(0), 0, 1, "ROUND")(np.arange(2040, 2057))
    assert np.flatnonzero(done.near).tolist() == [4, 5, 6, 7, 9, 10, 11, 12]   # 2044..2052, and 2048 is the tie
    assert np.flatnonzero(done.ties).tolist() == [8]


def test_what_a_relu_cuts_off_is_neither_tie_nor_near() -> None:
    value = limited(shifted_by(plain(np.array([[-1, 0, 1, 2, 3]]), rationals([[1.0]])), rationals([[-0.5]])),
                    Fraction(0), None)
    quantiser = Quantiser(rationals([[1.0]]), 0, -8, 7, "ROUND")
    done = quantiser(value, quantiser.tables(value))
    assert done.codes.tolist() == [[0, 0, 0, 2, 2]]
    assert done.ties.tolist() == [[False, True, True, True, True]]   # -1.5 is cut off; -0.5 rounds to 0 either way


@pytest.mark.parametrize(("scale", "offset", "to", "exact"), [
    (Fraction(1, 4096), Fraction(3, 4096), Fraction(1, 2), True),
    (Fraction(3, 4096), Fraction(3, 4096), Fraction(1, 2), False),   # a sum of 24 bits times 3 has more
    (Fraction(1, 4096), Fraction(3, 8192), Fraction(1, 2), False),
    (Fraction(1, 3), Fraction(0), Fraction(1, 3), False),            # the quotient is 1, its parts are rounded
    (Fraction(1, 4096), Fraction(1 << 12), Fraction(1), False)])
def test_what_floats_compute_exactly_is_never_near(scale: Fraction, offset: Fraction, to: Fraction, exact: bool,
                                                   ) -> None:
    assert exact_in_floats(scale, offset, to) == exact
    q = np.arange(-5000, 5000)
    assert not table(scale / to, offset / to, -8, 7, "ROUND", exact=True)(q).near.any()


@given(st.lists(st.integers(-2**40, 2**40), min_size=1, max_size=30), st.integers(0, 40), MODE)
def test_trunc_divides_by_a_power_of_two(values: list[int], shift: int, mode: Mode) -> None:
    codes, ties = truncated(np.array(values, np.int64), shift, mode, -2**50, 2**50)
    exact = [Fraction(q, 1 << shift) for q in values]
    assert codes.tolist() == [rounded(x, mode) for x in exact]
    assert ties.tolist() == [mode in NEAREST and x.denominator == 2 for x in exact]


FLOATS = st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=30)


@settings(max_examples=50)
@given(FLOATS, SCALES, st.integers(1, 8), st.integers(-4, 4), st.booleans(), st.booleans(), st.sampled_from(
    [mode for mode in MODES if mode != "ROUND_TO_ZERO"]))
def test_floats_are_quantised_as_qonnx_does(values: list[float], scale: float, bits: int, zero: int, signed: bool,
                                            narrow: bool, mode: Mode) -> None:
    from qonnx.custom_op.general.intquant import int_quant

    x, by = np.array(values, np.float32), np.float32(scale)
    low, high = code_limits(bits, signed, narrow)
    sign = signed and bits == 1
    codes, _ = quantized_floats(x, by, zero, low, high, mode, sign)
    theirs = int_quant(x, by, np.float32(zero), np.float32(bits), signed, narrow, mode)
    np.testing.assert_array_equal((codes - zero).astype(np.float32) * by, theirs.astype(np.float32))


def test_ties_of_floats_are_counted_inside_the_range() -> None:
    x = np.array([0.5, 1.5, 0.25, -2.5, 7.5, 100.5], np.float32)
    codes, ties = quantized_floats(x, np.float32(1), 0, -8, 7, "ROUND")
    assert codes.tolist() == [0, 2, 0, -2, 7, 7]
    assert ties.tolist() == [True, True, False, True, False, False]
    assert not quantized_floats(x, np.float32(1), 0, -8, 7, "FLOOR")[1].any()


@given(CODES, SCALES, OFFSETS)
def test_bipolar_is_the_sign(codes: list[int], scale: float, offset: float) -> None:
    slope, start = Fraction(scale), Fraction(offset)
    done = sign_table(slope, start)(np.array(codes, np.int64))
    assert done.codes.tolist() == [1 if slope * q + start >= 0 else -1 for q in codes]


@given(CODES, SCALES, SCALES, OFFSETS, st.integers(0, 5), st.integers(-3, 3), MODE)
def test_a_relu_that_met_an_offset_is_applied_by_the_quantiser(
        codes: list[int], scale: float, to: float, offset: float, top: int, zero: int, mode: Mode) -> None:
    value = limited(shifted_by(plain(np.array([codes], np.int64), rationals([[np.float32(scale)]])),
                               rationals([[np.float32(offset)]])), Fraction(0), Fraction(top))
    quantiser = Quantiser(rationals([[np.float32(to)]]), zero, -8, 7, mode)
    done = quantiser(value, quantiser.tables(value))
    exact = [max(Fraction(0), min(Fraction(top), Fraction(scale) * q + Fraction(offset))) for q in codes]
    assert done.codes[0].tolist() == [clamped(rounded(x / Fraction(to) + zero, mode), -8, 7) for x in exact]


@pytest.mark.parametrize(("name", "mode"), [("round", "ROUND"), ("HALF_EVEN", "ROUND"), ("DOWN", "ROUND_TO_ZERO"),
                                            ("floor", "FLOOR"), ("stochastic", None)])
def test_names_of_modes(name: str, mode: Mode | None) -> None:
    assert mode_named(name) == mode
