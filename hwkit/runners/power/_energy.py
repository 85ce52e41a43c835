"""Power and energy of a window of time, out of samples; or the reason why they cannot be told."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from hwkit.describe import Frozen, Kind
from hwkit.measurement import BOOTSTRAP_RESAMPLES, Measurement
from hwkit.runners.power._samples import Sample, Total, total

Array = np.ndarray[Any, np.dtype[np.float64]]

LEAST_READINGS = 10
LEAST_WINDOW_S = 2.0
GAP_PERIODS = 10          # a pause longer than so many usual periods means that the sensor was away
GAP_SHARE = 0.2           # of the window, likewise


class Account(Frozen):
    """What could be told of a window. not_measured: quantity -> why, as hwkit.runners.Run has it."""

    measurements: tuple[Measurement, ...] = ()
    not_measured: dict[str, str] = {}


class Refused(Exception):
    """One clear reason."""


class Trace:
    """Energy between the readings of a window.

    joules, seconds   of each stretch between two readings, shape (stretches,); the window cuts the outer ones
    n, period_s       readings inside the window and the median time between two of them
    readings_w        those readings
    """

    def __init__(self, samples: Sequence[Sample], start_s: float, end_s: float) -> None:
        if not end_s > start_s:
            raise Refused("the window of the measurement is empty")
        self.window_s = end_s - start_s
        if self.window_s < LEAST_WINDOW_S:
            raise Refused(f"the window lasts {self.window_s:.3g} s, too short for a power sensor: it needs "
                           f"{LEAST_WINDOW_S:g} s")
        seen = Counter(name for one in samples for name in one.rails)
        # a name that only a damaged line has must not change which rails are added up
        chosen = total(name for name, times in seen.items() if 2 * times > len(samples))
        if chosen is None:
            raise Refused("no sensor gave the power of a rail")
        self.total: Total = chosen
        self.sensor = samples[0].sensor
        ordered = sorted(samples, key=lambda one: one.t_s)
        read = [(one.t_s, w, one.counter_j) for one in ordered if (w := chosen.w(one.rails)) is not None]
        times = np.array([t for t, _, _ in read])
        inside = (times >= start_s) & (times <= end_s)
        self.n = int(inside.sum())
        self.readings_w = [w for (_, w, _), chosen_here in zip(read, inside, strict=True) if chosen_here]
        if self.n < LEAST_READINGS:
            raise Refused(f"{self.sensor} gave {self.n} readings in the window of {self.window_s:.3g} s; "
                           f"{LEAST_READINGS} are needed")
        grid = np.unique(np.concatenate(([start_s], times[inside], [end_s])))
        self.period_s = float(np.median(np.diff(times[inside])))
        longest = float(np.diff(grid).max())
        if longest > min(GAP_PERIODS * self.period_s, GAP_SHARE * self.window_s):
            raise Refused(f"{self.sensor} gave no reading for {longest:.3g} s of the window")
        grid = grid[(grid >= times[0]) & (grid <= times[-1])]      # nothing is known before the first reading
        self.seconds: Array = np.diff(grid)
        counted = np.array([math.nan if j is None else j for _, _, j in read])
        self.counted = not np.isnan(counted).any() and bool((np.diff(counted) >= 0).all())
        if self.counted:
            self.joules: Array = np.diff(np.interp(grid, times, counted))
        else:
            w = np.interp(grid, times, np.array([w for _, w, _ in read]))
            self.joules = (w[1:] + w[:-1]) / 2 * self.seconds

    @property
    def w(self) -> float:
        return float(self.joules.sum() / self.seconds.sum())

    def interval_w(self, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
        """Interval of the mean power: circular block bootstrap (Politis and Romano, 1992), seeded.

        Neighbouring readings are alike, so that single ones drawn at random would promise too much.
        """
        n = len(self.joules)
        block = math.ceil(math.sqrt(n))
        starts = np.random.default_rng(seed).integers(0, n, (BOOTSTRAP_RESAMPLES, math.ceil(n / block)))
        drawn = ((starts[:, :, None] + np.arange(block)) % n).reshape(BOOTSTRAP_RESAMPLES, -1)[:, :n]
        means = self.joules[drawn].sum(axis=1) / self.seconds[drawn].sum(axis=1)
        tail = (1 - confidence) / 2 * 100
        low, high = np.percentile(means, (tail, 100 - tail))
        return float(min(low, self.w)), float(max(high, self.w))

    def source(self) -> str:
        how = "differences of its energy counter" if self.counted else "trapezoids"
        return (f"{self.sensor}, {self.total.text}: {self.n} readings {self.period_s * 1e3:.3g} ms apart over "
                f"{self.window_s:.3g} s, {how}; the interval is the readings' spread (block bootstrap), "
                "without the sensor's own error")

    def conditions(self) -> dict[str, Any]:
        return {"sensor": self.sensor, "rails": list(self.total.rails)}


def _power(quantity: Literal["power", "idle_power"], trace: Trace, conditions: Mapping[str, Any],
           kind: Kind) -> Measurement:
    low, high = trace.interval_w()
    made_up = "" if kind == "measured" else f"{kind} sensors: "
    return Measurement(quantity=quantity, unit="w", kind=kind, samples=(trace.w,), low=low, high=high, n=trace.n,
                       source=made_up + trace.source(), conditions={**conditions, **trace.conditions()})


def idle(samples: Sequence[Sample], start_s: float, end_s: float,
         conditions: Mapping[str, Any] = MappingProxyType({}), kind: Kind = "measured") -> Account:
    """Mean power of a window in which nothing ran: "idle_power". Arguments as for `energy`."""
    try:
        return Account(measurements=(_power("idle_power", Trace(samples, start_s, end_s), conditions, kind),))
    except Refused as why:
        return Account(not_measured={"idle_power": str(why)})


def both(before: Measurement, after: Measurement) -> Measurement:
    """Idle power of before and after together; what it drifted by in between is in its interval."""
    value = (before.value + after.value) / 2
    drift_w = abs(after.value - before.value) / 2
    (low_b, high_b), (low_a, high_a) = _interval(before), _interval(after)
    below_w = math.hypot((before.value - low_b) / 2, (after.value - low_a) / 2, drift_w)
    beyond_w = math.hypot((high_b - before.value) / 2, (high_a - after.value) / 2, drift_w)
    return before.model_copy(update={
        "samples": (before.value, after.value), "low": value - below_w, "high": value + beyond_w,
        "n": (before.n or 0) + (after.n or 0),
        "source": f"{before.source}; {before.value:.4g} W before and {after.value:.4g} W after, half of the "
                  "difference is in the interval"})


def energy(samples: Sequence[Sample], start_s: float, end_s: float, inferences: int,
           idle_power: Measurement | None, conditions: Mapping[str, Any] = MappingProxyType({}),
           kind: Kind = "measured") -> Account:
    """Mean "power" of the window [start_s, end_s], and "energy" above idle of each of its inferences.

    samples      of one sensor, at least LEAST_READINGS of them inside the window
    idle_power   what `idle` measured with the same sensor and rails
    conditions   kept with the measurements beside the sensor and its rails
    kind         "simulated" where the sensors are
    Intervals of 95 %; that of the energy holds the idle power's as well.
    """
    try:
        trace = Trace(samples, start_s, end_s)
    except Refused as why:
        return Account(not_measured={"power": str(why), "energy": str(why)})
    power = _power("power", trace, conditions, kind)
    try:
        return Account(measurements=(power, _above_idle(power, trace, inferences, idle_power)))
    except Refused as why:
        return Account(measurements=(power,), not_measured={"energy": str(why)})


def _interval(power: Measurement) -> tuple[float, float]:
    return (power.value if power.low is None else power.low, power.value if power.high is None else power.high)


def _above_idle(power: Measurement, trace: Trace, inferences: int, idle_power: Measurement | None) -> Measurement:
    if inferences < 1:
        raise Refused("no inference ran in the window")
    if idle_power is None:
        raise Refused("no idle power was taken beside it")
    if any(idle_power.conditions.get(key) != value for key, value in trace.conditions().items()):
        raise Refused("the idle power was taken with another sensor or of other rails")
    above = power.value - idle_power.value
    if above <= 0:
        raise Refused(f"the power while it ran, {power.value:.4g} W, is not above the idle power, "
                       f"{idle_power.value:.4g} W")
    each_s = trace.window_s / inferences
    (low, high), (idle_low, idle_high) = _interval(power), _interval(idle_power)
    below_w = math.hypot(power.value - low, idle_high - idle_power.value)          # independent of each other
    beyond_w = math.hypot(high - power.value, idle_power.value - idle_low)
    return Measurement(
        quantity="energy", unit="j", kind=power.kind, samples=(above * each_s,), low=(above - below_w) * each_s,
        high=(above + beyond_w) * each_s, n=trace.n, conditions=power.conditions,
        source=f"{power.source}; above the idle power of {idle_power.value:.4g} W, over {inferences} inferences")
