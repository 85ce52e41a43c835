"""Integer arithmetic as the hardware does it. All values are int64 arrays: nothing here can overflow."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]


def shifted(value: Ints, shift: ArrayLike) -> Ints:
    """floor(value / 2^shift): the arithmetic shift right, which rounds towards minus infinity.

    Rounding half up is this with 2^(shift - 1) added before; the networks here hold that half in their bias.
    """
    return value >> np.asarray(shift, np.int64)


def saturated(value: Ints, low: int, high: int) -> Ints:
    """`value` limited to [low, high]."""
    return np.clip(value, low, high)


def limits(bits: int, signed: bool) -> tuple[int, int]:
    """Smallest and largest integer of a width: two's complement, or from 0."""
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
