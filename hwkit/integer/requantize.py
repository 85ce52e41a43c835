"""Quant, BipolarQuant and Trunc of QONNX in integers: rounding, saturation, and how close each value came.

A quantiser that reads integers compares them with integer thresholds, worked out in exact arithmetic: code k or
more from threshold k on. That is what a threshold unit in hardware does. One that reads floats (weights, the
network's input) is one float32 division, as QONNX defines it.

A value that lies exactly half way between two codes is a tie. One within 1/1024 of a code of the place where the
code changes is near: float32 arithmetic, whose errors are smaller than that, may give the neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hwkit.integer.arithmetic import Ints, limits, saturated
from hwkit.integer.scaled import WIDEST, Rationals, Scaled

Mode = Literal["ROUND", "HALF_UP", "HALF_DOWN", "FLOOR", "CEIL", "ROUND_TO_ZERO", "UP"]
"""ROUND         to the nearest, half way to the even one
HALF_UP          to the nearest, half way away from zero
HALF_DOWN        to the nearest, half way towards zero
FLOOR, CEIL      towards minus, plus infinity
ROUND_TO_ZERO    towards zero        UP   away from zero"""
MODES: tuple[Mode, ...] = get_args(Mode)
NEAREST = ("ROUND", "HALF_UP", "HALF_DOWN")
NEAR_BITS = 10   # near is within 2^-NEAR_BITS of a code

Mask = NDArray[np.bool_]


def mode_named(name: str) -> Mode | None:
    """The mode of a rounding_mode attribute, None for one that is not known."""
    word = name.upper()
    word = {"HALF_EVEN": "ROUND", "DOWN": "ROUND_TO_ZERO"}.get(word, word)
    return next((mode for mode in MODES if mode == word), None)


def code_limits(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    """Smallest and largest code of a Quant node."""
    low, high = limits(bits, signed)
    return (low + narrow, high) if signed else (low, high - narrow)


@dataclass(frozen=True)
class Rounded:
    """codes, which of them were a tie, which were near (a tie is not counted as near), and from code to code."""

    codes: Ints
    ties: Mask
    near: Mask
    step: int = 1


@dataclass(frozen=True)
class Table:
    """Thresholds of one scale and offset, ascending, one a code above `low`.

    code = low + step * (number of thresholds <= q)
    ties         values of q that lie exactly half way
    near_from, near_to   q is near where near_from[k] <= q <= near_to[k] for some k
    """

    low: int
    step: int
    thresholds: Ints
    ties: Ints
    near_from: Ints
    near_to: Ints

    def __call__(self, q: Ints) -> Rounded:
        codes = self.low + self.step * np.searchsorted(self.thresholds, q, side="right").astype(np.int64)
        at = np.searchsorted(self.near_from, q, side="right")
        near = (at > 0) & (q <= self.near_to[at - 1]) if len(self.near_to) else np.zeros(q.shape, bool)
        if not len(self.ties):
            return Rounded(codes, np.zeros(q.shape, bool), near)
        ties = self.ties[np.minimum(np.searchsorted(self.ties, q), len(self.ties) - 1)] == q
        return Rounded(codes, ties, near & ~ties)


def table(slope: Fraction, start: Fraction, low: int, high: int, mode: Mode, exact: bool = False) -> Table:
    """For codes low..high of round(slope * q + start), slope > 0. exact: floats cannot err, so nothing is near."""
    an, ad, bn, bd = slope.numerator, slope.denominator, start.numerator, start.denominator
    below = 2 * bd * an
    spread, shift = 2 * bd * ad, NEAR_BITS   # 2^-NEAR_BITS of a code, over `below` << shift
    thresholds, ties, near = [], [], []
    for code in range(low + 1, high + 1):
        halves, strict = _edge(code, mode)
        over = (halves * bd - 2 * bn) * ad   # the edge lies at q = over / below
        thresholds.append(over // below + 1 if strict else -(-over // below))
        if mode in NEAREST and over % below == 0:
            ties.append(over // below)
        near.append((-(-((over << shift) - spread) // (below << shift)),
                     ((over << shift) + spread) // (below << shift)))
    if exact:
        near = []
    return Table(low, 1, _int64(thresholds), _int64(ties), _int64([n[0] for n in near]),
                 _int64([n[1] for n in near]))


def exact_in_floats(scale: Fraction, offset: Fraction, to: Fraction) -> bool:
    """Whether float32 computes (scale * q + offset) / to with no rounding, for sums below 2^24."""
    return (_power_of_two(scale) and _power_of_two(to) and (offset / scale).denominator == 1
            and abs(offset / scale) < 1 << 24)


def sign_table(slope: Fraction, start: Fraction, exact: bool = False) -> Table:
    """For BipolarQuant: 1 where slope * q + start >= 0, else -1."""
    edge, spread = -start / slope, 1 / slope / (1 << NEAR_BITS)
    near = [] if exact else [edge]
    return Table(-1, 2, _int64([ceil(edge)]), _int64([]), _int64([ceil(e - spread) for e in near]),
                 _int64([floor(e + spread) for e in near]))


def _edge(code: int, mode: Mode) -> tuple[int, bool]:
    """Where codes begin to be `code` or more, in halves, and whether only beyond that place."""
    match mode:
        case "ROUND":
            return 2 * code - 1, code % 2 != 0
        case "HALF_UP":
            return 2 * code - 1, code <= 0
        case "HALF_DOWN":
            return 2 * code - 1, code > 0
        case "FLOOR":
            return 2 * code, False
        case "CEIL":
            return 2 * code - 2, True
        case "ROUND_TO_ZERO":
            return (2 * code, False) if code > 0 else (2 * code - 2, True)
        case "UP":
            return (2 * code - 2, True) if code > 0 else (2 * code, False)


def _power_of_two(x: Fraction) -> bool:
    return all(n & (n - 1) == 0 for n in (x.numerator, x.denominator))


def _int64(values: list[int]) -> Ints:
    return np.array([max(-WIDEST, min(WIDEST, v)) for v in values], np.int64)


@dataclass(frozen=True)
class Quantiser:
    """One Quant node that reads integers.

    scale       as many axes as what it reads, each of size 1 or the size there
    zero_point  what the value 0 becomes
    low, high   the codes, `zero_point` included; 1 bit signed: sign
    """

    scale: Rationals
    zero_point: int
    low: int
    high: int
    mode: Mode
    sign: bool = False

    def tables(self, value: Scaled) -> list[tuple[tuple[slice, ...], Table]]:
        """One table for every part of the tensor that has a scale and an offset of its own."""
        made: dict[tuple[Fraction, ...], Table] = {}
        found = []
        for part, key in _parts(value.scale, value.offset, self.scale):
            if key not in made:
                scale, offset, to = key
                made[key] = self._one(scale / to, offset / to + self.zero_point, exact_in_floats(*key))
            found.append((part, made[key]))
        return found

    def __call__(self, value: Scaled, tables: list[tuple[tuple[slice, ...], Table]]) -> Rounded:
        """Codes of `value`, zero point included; its ReLU or Clip, where it has one, is applied to the codes."""
        codes = np.empty(value.codes.shape, np.int64)
        ties, near = np.zeros(codes.shape, bool), np.zeros(codes.shape, bool)
        for part, one in tables:
            done = one(value.codes[part])
            codes[part], ties[part], near[part] = done.codes, done.ties, done.near
        for end, cut in ((value.low, np.maximum), (value.high, np.minimum)):
            if end is not None:
                cuts = self._code_of(end)
                beyond = codes < cuts if cut is np.maximum else codes > cuts
                codes = cut(codes, cuts)
                ties, near = ties & ~beyond, near & ~beyond
        return Rounded(codes, ties, near, 2 if self.sign else 1)

    def _code_of(self, value: Fraction) -> Ints:
        codes = [self._one(1 / s, value / s + self.zero_point)(np.zeros(1, np.int64)).codes[0]
                 for s in self.scale.ravel().tolist()]
        return np.array(codes, np.int64).reshape(self.scale.shape)

    def _one(self, slope: Fraction, start: Fraction, exact: bool = False) -> Table:
        if self.sign:
            return sign_table(slope, start, exact)
        return table(slope, start, self.low, self.high, self.mode, exact)


def _parts(*arrays: Rationals) -> Iterator[tuple[tuple[slice, ...], tuple[Fraction, ...]]]:
    """Every part of a tensor in which all of the arrays are constant, and what they are there."""
    wide = np.broadcast_arrays(*arrays)
    for place in np.ndindex(wide[0].shape):
        part = tuple(slice(None) if size == 1 else slice(k, k + 1)
                     for k, size in zip(place, wide[0].shape, strict=True))
        yield part, tuple(array.item(place) for array in wide)


def quantized_floats(x: NDArray[np.float32], scale: NDArray[np.float32], zero_point: int, low: int, high: int,
                     mode: Mode, sign: bool = False) -> tuple[Ints, Mask]:
    """Codes of floats and which were ties: x / scale + zero_point in float32, saturated, rounded."""
    with np.errstate(over="ignore"):
        y = np.asarray(x / scale, np.float32) + np.float32(zero_point)
    if sign:
        return np.where(y >= 0, 1, -1).astype(np.int64), np.zeros(y.shape, bool)
    exact = np.clip(y.astype(np.float64), low, high)
    ties = (np.abs(exact - np.trunc(exact)) == 0.5) if mode in NEAREST else np.zeros(y.shape, bool)
    return rounded(exact, mode).astype(np.int64), ties


def rounded(x: NDArray[np.float64], mode: Mode) -> NDArray[np.float64]:
    away, size = np.sign(x), np.abs(x)
    match mode:
        case "ROUND":
            return np.rint(x)
        case "HALF_UP":
            return away * np.floor(size + 0.5)
        case "HALF_DOWN":
            return away * np.ceil(size - 0.5)
        case "FLOOR":
            return np.floor(x)
        case "CEIL":
            return np.ceil(x)
        case "ROUND_TO_ZERO":
            return np.trunc(x)
        case "UP":
            return away * np.ceil(size)


def truncated(q: Ints, shift: int, mode: Mode, low: int, high: int) -> tuple[Ints, Mask]:
    """round(q / 2^shift), saturated, and which were ties, for Trunc."""
    if shift == 0:
        return saturated(q, low, high), np.zeros(q.shape, bool)
    quotient, rest = q >> shift, q & ((1 << shift) - 1)
    half, positive = 1 << (shift - 1), q >= 0
    up: Mask
    match mode:
        case "ROUND":
            up = (rest > half) | (rest == half) & (quotient % 2 != 0)
        case "HALF_UP":
            up = (rest > half) | (rest == half) & positive
        case "HALF_DOWN":
            up = (rest > half) | (rest == half) & ~positive
        case "FLOOR":
            up = np.zeros(q.shape, bool)
        case "CEIL":
            up = rest > 0
        case "ROUND_TO_ZERO":
            up = (rest > 0) & ~positive
        case "UP":
            up = (rest > 0) & positive
    ties = (rest == half) if mode in NEAREST else np.zeros(q.shape, bool)
    return saturated(quotient + up, low, high), ties
