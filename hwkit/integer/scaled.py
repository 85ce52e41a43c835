"""Integers with an exact scale: what flows between the nodes of an integer graph.

Scales and offsets are Fractions. A float32 is a rational number, so nothing is lost in reading one, and nothing
is rounded in combining them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwkit.errors import BadModel
from hwkit.integer.arithmetic import Ints

Rationals = NDArray[np.object_]   # of Fraction
WIDEST = 1 << 62                  # no code may reach it
_FLOAT64_HOLDS = 1 << 53


@dataclass(frozen=True)
class Scaled:
    """value = scale * codes + offset, limited to [low, high] where those are given.

    codes          (n, ...), n images; 1 for a constant
    scale, offset  of the same number of axes, each of size 1 or the codes' own; the first is 1; scale > 0
    low, high      a ReLU or Clip that has met an offset and no quantiser yet; None: no limit
    """

    codes: Ints
    scale: Rationals
    offset: Rationals
    low: Fraction | None = None
    high: Fraction | None = None

    @property
    def plain(self) -> bool:
        """Whether the value is scale * codes and nothing else."""
        return self.low is None and self.high is None and not self.offset.any()

    def values(self) -> NDArray[np.float64]:
        """The values, each rounded once a factor and a term to float64."""
        value = self.scale.astype(np.float64) * self.codes + self.offset.astype(np.float64)
        limited: NDArray[np.float64] = np.clip(value, None if self.low is None else float(self.low),
                                               None if self.high is None else float(self.high))
        return limited


def rationals(values: Any) -> Rationals:
    """Floats or integers as Fractions, exactly. Raises BadModel for NaN and infinity."""
    array = np.asarray(values)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadModel("a constant holds NaN or infinity", "train the network again, or load the right weights")
    whole = array.astype(np.float64) if array.dtype.kind == "f" else array
    return np.array([Fraction(v) for v in whole.ravel().tolist()], object).reshape(array.shape)


def plain(codes: Ints, scale: Rationals) -> Scaled:
    """scale * codes, for a scale of any sign that has as many axes as the codes."""
    signs = np.sign(scale.astype(np.float64)).astype(np.int64) if scale.any() else np.zeros(scale.shape, np.int64)
    if not (signs == 1).all():
        codes = codes * signs
        scale = _each(lambda s: abs(s) or Fraction(1), scale)
    return Scaled(codes, scale, np.full((1,) * codes.ndim, Fraction(0), object))


def shifted_by(value: Scaled, offset: Rationals) -> Scaled:
    return replace(value, offset=value.offset + offset)


def settled(value: Scaled) -> Scaled:
    """The same with its offset and limits inside the codes, on the finest grid that they all lie on."""
    if value.plain:
        return value
    ends = [end for end in (value.low, value.high) if end is not None]
    grid = np.asarray(_each(lambda s, o: _gcd(s, o, *ends), value.scale, value.offset), object)
    codes = _widened(value.codes, value.scale / grid) + _integers(value.offset / grid)
    if value.low is not None:
        codes = np.maximum(codes, _integers(value.low / grid))
    if value.high is not None:
        codes = np.minimum(codes, _integers(value.high / grid))
    return plain(codes, grid)


def on_one_scale(value: Scaled) -> Scaled:
    """A plain value with one scale for all of it: that of the finest grid."""
    if value.scale.size == 1:
        return value
    grid = np.full((1,) * value.codes.ndim, _gcd(*value.scale.ravel().tolist()), object)
    return plain(_widened(value.codes, value.scale / grid), grid)


def total(a: Scaled, b: Scaled, sign: int = 1) -> Scaled:
    """a + sign * b of values without limits, on the finest grid of both."""
    grid = np.asarray(_each(_gcd, *np.broadcast_arrays(a.scale, b.scale)), object)
    codes = _widened(a.codes, a.scale / grid) + sign * _widened(b.codes, b.scale / grid)
    return shifted_by(plain(codes, grid), a.offset + sign * b.offset)


def limited(value: Scaled, low: Fraction | None, high: Fraction | None) -> Scaled:
    """max(low, min(high, value)); at once where the codes can say it, else kept for the quantiser to come."""
    if value.plain and value.scale.size == 1:
        scale = value.scale.item()
        if all(end is None or (end / scale).denominator == 1 for end in (low, high)):
            return replace(value, codes=np.clip(value.codes, None if low is None else int(low / scale),
                                                None if high is None else int(high / scale)))
    if value.plain and low == 0 and high is None:
        return replace(value, codes=np.maximum(value.codes, 0))
    lows = [end for end in (low, value.low) if end is not None]
    highs = [end for end in (high, value.high) if end is not None]
    return replace(value, low=max(lows, default=None), high=min(highs, default=None))


def scaled_by(value: Scaled, factor: Rationals) -> Scaled:
    """value * factor, which has as many axes; limits are settled first unless the factor is one number > 0."""
    if (value.low is not None or value.high is not None) and not (factor.size == 1 and factor.item() > 0):
        value = settled(value)
    ends = [None if end is None else end * factor.item() for end in (value.low, value.high)]
    product = plain(value.codes, np.asarray(value.scale * factor, object))
    return replace(product, offset=value.offset * factor, low=ends[0], high=ends[1])


def matrix_product(a: Ints, b: Ints, what: str) -> Ints:
    """np.matmul of integers, exact: in float64 where no sum can leave what it holds, else in int64."""
    reach = _reach(a) * _reach(b) * a.shape[-1]
    if reach >= WIDEST:
        raise BadModel(f"{what}: its sums need more than 62 bits", "give its input one scale for all channels")
    if reach >= _FLOAT64_HOLDS:
        wide: Ints = np.matmul(a, b)
        return wide
    product: Ints = np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int64)
    return product


def _reach(a: Ints) -> int:
    return int(np.abs(a).max(initial=0))


def _each(function: Callable[..., Any], *arrays: Rationals) -> Rationals:
    """`function` of each element; always an array, also of no axes."""
    made = [function(*elements) for elements in zip(*(a.ravel().tolist() for a in arrays), strict=True)] \
        if len({a.shape for a in arrays}) == 1 else None
    if made is None:
        return _each(function, *np.broadcast_arrays(*arrays))
    return np.array([*made, None], object)[:-1].reshape(arrays[0].shape)


def _gcd(*numbers: Fraction) -> Fraction:
    """The largest fraction of which all are whole multiples; not all are 0."""
    below = math.lcm(*(n.denominator for n in numbers))
    return Fraction(math.gcd(*(n.numerator * (below // n.denominator) for n in numbers)), below)


def _integers(wholes: Rationals) -> Ints:
    reach = max((abs(int(w)) for w in wholes.ravel().tolist()), default=0)
    if reach >= WIDEST:
        raise BadModel("its values need more than 62 bits on one grid", "give what meets here one scale")
    return np.array([int(w) for w in wholes.ravel().tolist()], np.int64).reshape(wholes.shape)


def _widened(codes: Ints, factor: Rationals) -> Ints:
    by = _integers(factor)
    if _reach(codes) * _reach(by) >= WIDEST:
        raise BadModel("its values need more than 62 bits on one grid", "give what meets here one scale")
    return codes * by
