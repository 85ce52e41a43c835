"""Numbers as people read them: SI prefixes, three significant digits. Stored values never pass through here."""

from __future__ import annotations

import math

_DECIMAL = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")]


COUNT = 1000.0       # plain numbers from here on are counts


def shown(value: float, unit: str) -> str:
    """`value` in `unit` ("s", "j", "w", "bytes", "instructions", "cycles", "1/s", "1") as short text.

    Bytes use decimal prefixes (1 kB = 1000 B); "1" is a plain number. Cycles, and whole counts up to a
    million, keep every digit.
    """
    if unit == "cycles" or (unit == "1" and abs(value) < 1e6 and value == int(value)):
        return f"{value:,.0f}"
    if unit == "1":
        return f"{value:,.0f}" if abs(value) >= COUNT else f"{value:.4g}"
    if unit == "1/s" and abs(value) < 1:
        return f"{value:.3g} /s"
    symbol = {"bytes": "B", "j": "J", "w": "W", "instructions": "", "1/s": "/s"}.get(unit, unit)
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {symbol}".strip()
    whole = unit in ("bytes", "instructions")
    for scale, prefix in _DECIMAL:
        if abs(value) >= scale or (whole and scale == 1.0):
            scaled = value / scale
            digits = 0 if whole and scale == 1.0 else max(0, 2 - math.floor(math.log10(abs(scaled))))
            return f"{scaled:.{digits}f} {prefix}{symbol}".strip()
    return f"{value:.3g} {symbol}"


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"
