"""Did a processor or a GPU lower its clocks while something was timed?"""

from __future__ import annotations

from collections.abc import Sequence

from hwkit.artifact import Finding
from hwkit.runners.power._samples import CARD, Sample

NAME = "throttling"
CLOCK_DROP = 0.10         # of the GPU's clock during a window that is worth saying
SLOW = 0.97               # of the clock that the governor should give: below it is slow
HELD = ("performance",)   # governors that hold the clock at its limit, whatever the load
RARE = 0.2                # of the readings under another governor that may be slow: it takes a moment to follow
NEAR_C = 3.0              # below the temperature from which clocks are lowered


def throttling(samples: Sequence[Sample], start_s: float, end_s: float) -> Finding | None:
    """Did the GPU lower its clocks in the window? None where the samples do not say."""
    inside = [one for one in samples if start_s <= one.t_s <= end_s]
    reasons = sorted({reason for one in inside for reason in one.throttled})
    clocks = [max(one.clocks_hz["GR3D"]) for one in inside if one.clocks_hz.get("GR3D")]
    hottest = max((c for one in inside for name, c in one.temperatures_c.items() if name.upper() == CARD),
                  default=None)
    heat = "" if hottest is None else f"; its temperature reached {hottest:.3g} °C"
    if reasons:
        times = sum(bool(one.throttled) for one in inside)
        return Finding(name=NAME, ok=False, text=f"the GPU lowered its clocks in {times} of {len(inside)} "
                                                 f"readings: {', '.join(reasons)}{heat}")
    if not clocks:
        return None
    least, most = min(clocks), max(clocks)
    if least < (1 - CLOCK_DROP) * most:
        return Finding(name=NAME, ok=None, text=f"the GPU's clock lay between {least / 1e6:.4g} and "
                                                f"{most / 1e6:.4g} MHz{heat}")
    return Finding(name=NAME, ok=True, text=f"the GPU's clock stayed at {most / 1e6:.4g} MHz{heat}")


def _slow(one: Sample) -> tuple[str, float, float] | None:
    """(clock, Hz, Hz it should have) where the governor's clock is not reached, the slowest by share.

    A governor that holds the clock must reach it everywhere; any other need only do so where the work is, so that
    one clock at its height is enough.
    """
    both = one.clocks_hz.keys() & one.most_hz
    shares = sorted((one.clocks_hz[name][0] / one.most_hz[name], name) for name in both)
    if not shares:
        return None
    share, name = shares[0] if one.governor in HELD else shares[-1]
    return (name, one.clocks_hz[name][0], one.most_hz[name]) if share < SLOW else None


def cpu_throttling(samples: Sequence[Sample], windows: Sequence[tuple[float, float]]) -> Finding | None:
    """Did the processor lower its clocks in these [start_s, end_s]? None where the samples do not say.

    ok False: clocks were below what governor and settings would have given, or the firmware said so; None: it was
    so hot that they may have been, or the user's own settings hold them down.
    """
    inside = [one for one in samples if any(start <= one.t_s <= end for start, end in windows)]
    if not any(one.most_hz or one.temperatures_c or one.throttled for one in inside):
        return None
    heat = _heat(inside)
    reasons = sorted({reason for one in inside for reason in one.throttled})
    if reasons:
        hit = [one for one in inside if one.throttled]
        return Finding(name=NAME, ok=False, text=f"the firmware says {', '.join(reasons)} in "
                                                 f"{_when(hit, inside, windows)}{_clock(hit)}{heat}")
    slow = [one for one in inside if _slow(one)]
    steady = all(one.limits_hz == inside[0].limits_hz for one in inside)
    following = steady and all(one.governor not in HELD for one in inside) and len(slow) < RARE * len(inside)
    if slow and not following:
        # a limit that was there before, and that the clock keeps to, is the user's wish
        wished = steady and all(map(_kept_to, slow)) and not _hot(inside)
        return Finding(name=NAME, ok=None if wished else False,
                       text=("settings of the board hold the clock down in " if wished else
                             "the clock was lowered in ") + f"{_when(slow, inside, windows)}{_clock(slow)}{heat}")
    if _hot(inside):
        return Finding(name=NAME, ok=None, text=f"no lowered clock was seen{_clock(inside)}{heat}")
    return Finding(name=NAME, ok=True, text=f"no lowered clock in {len(inside)} readings{_clock(inside)}{heat}")


def _kept_to(one: Sample) -> bool:
    """The clock is as high as its limit, which is below what the hardware could."""
    found = _slow(one)
    limit = one.limits_hz.get(found[0]) if found else None
    return bool(found and limit and limit < SLOW * found[2] and found[1] >= SLOW * limit)


def _hottest(inside: Sequence[Sample]) -> tuple[Sample, str] | None:
    """The reading and the zone that came nearest to its trip; without trips, the hottest."""
    zones = [(one.temperatures_c[zone] - one.trips_c.get(zone, 1e3), k, zone)
             for k, one in enumerate(inside) for zone in one.temperatures_c]
    if not zones:
        return None
    _, k, zone = max(zones)
    return inside[k], zone


def _hot(inside: Sequence[Sample]) -> bool:
    found = _hottest(inside)
    return bool(found and found[0].temperatures_c[found[1]] > found[0].trips_c.get(found[1], 1e3) - NEAR_C)


def _heat(inside: Sequence[Sample]) -> str:
    found = _hottest(inside)
    if not found:
        return ""
    one, zone = found
    trip = one.trips_c.get(zone)
    limit = "" if trip is None else f", clocks are lowered from {trip:.4g} °C on"
    return f"; {zone} reached {one.temperatures_c[zone]:.4g} °C{limit}"


def _clock(some: Sequence[Sample]) -> str:
    """The lowest clock among these readings."""
    clocks = [(one.clocks_hz[name][0] / one.most_hz[name], name, one) for one in some
              for name in one.clocks_hz.keys() & one.most_hz]
    if not clocks:
        return ""
    _, name, one = min(clocks, key=lambda c: c[:2])
    governor = f", governor {one.governor}" if one.governor else ""
    return f": {name} at {one.clocks_hz[name][0] / 1e6:.4g} of {one.most_hz[name] / 1e6:.4g} MHz{governor}"


def _when(hit: Sequence[Sample], inside: Sequence[Sample], windows: Sequence[tuple[float, float]]) -> str:
    first = hit[0].t_s - min(start for start, _ in windows)
    return f"{len(hit)} of {len(inside)} readings, first {first:.1f} s into the timing"
