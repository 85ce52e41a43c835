"""An external power meter: the lines of a CSV file that another program appends to, or of a serial line.

What the values of a line are, its columns say: "power_w", or "voltage_v" and "current_a"; "time_s" of the meter's
own clock; "" for one that is not used. Its clock is set by when lines arrived: the quickest was not delayed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise

from hwkit.errors import BoardError
from hwkit.runners.power._samples import METER, Reading, Sample

COLUMNS = ("time_s", "power_w", "voltage_v", "current_a", "")


def _values(reading: Reading) -> dict[str, float] | None:
    """Of one line; None where it does not hold what its columns say (a header, a damaged line)."""
    columns = (reading.files.get("columns") or "").split(",")
    words = [word for word in re.split(r"[,;\s]+", reading.text.strip()) if word]
    if len(words) != len(columns):
        return None
    found = {}
    for name, word in zip(columns, words, strict=True):
        if not name:
            continue
        try:
            found[name] = float(word)
        except ValueError:
            return None
    return found if all(map(math.isfinite, found.values())) else None


def _w(values: dict[str, float]) -> float | None:
    if "power_w" in values:
        return values["power_w"]
    return values["voltage_v"] * values["current_a"] if {"voltage_v", "current_a"} <= values.keys() else None


def sample(reading: Reading) -> Sample:
    """One line by when it arrived. Raises BoardError for one that holds no power."""
    return joined([reading])[0]


def joined(readings: Sequence[Reading]) -> list[Sample]:
    """All lines, on the clock by which they arrived. Raises BoardError where none holds a power."""
    lines = [(one.t_s, values, w) for one in readings
             if (values := _values(one)) is not None and (w := _w(values)) is not None]
    if not lines:
        said = readings[0].text.strip()[:60] if readings else ""
        raise BoardError(f"no line of the meter holds a power by its columns; the first is {said!r}",
                         f"correct `columns` of the meter; each is one of {', '.join(COLUMNS[:-1])} or empty")
    own = [values["time_s"] for _, values, _ in lines if "time_s" in values]
    steady = len(own) == len(lines) and all(b >= a for a, b in pairwise(own))
    late_s = min(t_s - own_s for (t_s, _, _), own_s in zip(lines, own, strict=True)) if steady else 0.0
    return [Sample(sensor="meter", t_s=values["time_s"] + late_s if steady else t_s, rails={METER: w})
            for t_s, values, w in lines]
