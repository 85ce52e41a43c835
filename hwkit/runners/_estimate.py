"""Time estimated from an instruction count, where no clock of a device was there to measure it."""

from __future__ import annotations

import math
from typing import Any

from hwkit.measurement import Measurement
from hwkit.target import Target


def estimated_latency(instructions: float, on: Target, conditions: dict[str, Any]) -> Measurement | None:
    """Seconds from instructions / (clock x instructions per cycle); None when the target gives no such range.

    The value is the geometric middle of its interval, which is the whole range of the target.
    """
    if on.cpu is None or on.cpu.instructions_per_cycle is None:
        return None
    rate, clock_hz = on.cpu.instructions_per_cycle, on.cpu.clock_hz.value
    low, high = instructions / (clock_hz * rate.high), instructions / (clock_hz * rate.low)
    return Measurement(
        quantity="latency", unit="s", kind="estimated", samples=(math.sqrt(low * high),), low=low, high=high, n=1,
        conditions=conditions,
        source=f"simulated instructions / ({clock_hz / 1e9:g} GHz x {rate.low:g} to {rate.high:g} instructions a "
               f"cycle); the clock is {on.cpu.clock_hz.kind} ({on.cpu.clock_hz.source}), the range is {rate.kind} "
               f"({rate.source})")
