"""Energy of single operators from differences: the network, and the network with one operator run more often.

Each pair of windows holds the chain run `chain_runs` times, once alone and once with the operator run
`operator_runs` times after each. The difference of their energies above idle is that of all those runs. Pairs are
repeated, so that their spread tells the uncertainty, whatever causes it: the sensor, the board, other programs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

from hwkit.artifact import Finding
from hwkit.describe import Frozen, Kind
from hwkit.measurement import Measurement
from hwkit.runners import OperatorEnergy
from hwkit.runners.power._energy import Refused, Trace
from hwkit.runners.power._recording import Recording, Window
from hwkit.runners.power._samples import Sample

LEAST_PAIRS = 3
LEAST_READINGS = 20           # of the sensor in each window
# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom (any table); above the last, the normal's 1.96
T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086)


class Differential(Frozen):
    """What the board ran for one operator; ns: of one execution, timed apart."""

    index: int
    chain_runs: int
    operator_runs: int
    ns: float


class Energies(Frozen):
    """What could be told. refused: operator -> why not."""

    energies: tuple[OperatorEnergy, ...] = ()
    refused: dict[int, str] = {}
    finding: Finding | None = None


def t975(degrees: float) -> float:
    """Two-sided 95 % of Student's t, for degrees of freedom rounded down: never too narrow."""
    return T975[int(degrees) - 1] if degrees < len(T975) + 1 else 2.086 if degrees < 60 else 2.0


def welch(a: Sequence[float], b: Sequence[float]) -> bool:
    """Do the means of a and b differ, at 95 %? Welch's test (Biometrika 34, 1947): their spreads may differ."""
    of_a, of_b = (statistics.variance(x) / len(x) for x in (a, b))
    if of_a + of_b == 0:
        return statistics.mean(a) != statistics.mean(b)
    degrees = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    return abs(statistics.mean(a) - statistics.mean(b)) > t975(degrees) * math.sqrt(of_a + of_b)


def step_w(samples: Sequence[Sample], w: Sequence[float]) -> float:
    """The sensor's resolution: the least difference between two readings, W; 0 where it counts energy."""
    if samples and samples[0].counter_j is not None:
        return 0.0
    different = sorted({round(one, 9) for one in w})
    return min((b - a for a, b in pairwise(different)), default=math.inf)


def operator_energies(recording: Recording, idle: Measurement, ran: Sequence[Differential],
                      kind: Kind) -> Energies:
    """Energy above idle of one execution of each operator in `ran`.

    recording   with the windows "<index> without <pair>" and "<index> with <pair>"
    idle        power beside them, of the same sensor
    """
    found: list[OperatorEnergy] = []
    refused: dict[int, str] = {}
    for one in ran:
        try:
            found.append(_energy(recording, idle, one, kind))
        except Refused as e:
            refused[one.index] = str(e)
    if not ran:
        return Energies()
    text = f"energy of {len(found)} of the {len(ran)} heaviest operators by differential runs"
    if refused:
        index, why = next(iter(refused.items()))
        text += f"; of {len(refused)} not, e.g. operator {index}: {why}"
    return Energies(energies=tuple(found), refused=refused,
                    finding=Finding(name="energy of operators", ok=True if not refused else None, text=text))


def _pairs(recording: Recording, index: int) -> list[tuple[Window, Window]]:
    found = []
    for k in range(len(recording.windows)):
        without, beside = (recording.windows.get(f"{index} {word} {k}") for word in ("without", "with"))
        if without and beside:
            found.append((without, beside))
    return found


def _energy(recording: Recording, idle: Measurement, ran: Differential, kind: Kind) -> OperatorEnergy:
    samples = recording.power
    pairs = _pairs(recording, ran.index)
    if len(pairs) < LEAST_PAIRS:
        raise Refused(f"{len(pairs)} pairs of windows were recorded, {LEAST_PAIRS} are needed")
    _require_quick(samples, pairs, ran)
    runs = ran.chain_runs * ran.operator_runs
    traces = [[Trace(samples, w.start_s, w.end_s) for w in pair] for pair in pairs]
    if any(idle.conditions.get(key) != value for key, value in traces[0][0].conditions().items()):
        raise Refused("the idle power was taken with another sensor or of other rails")
    without, beside = ([(t.w - idle.value) * t.window_s for t in side] for side in zip(*traces, strict=True))
    differences = [b - a for a, b in zip(without, beside, strict=True)]
    mean = statistics.mean(differences)
    longer_s = statistics.mean(b.window_s - a.window_s for a, b in traces)
    spread = t975(len(differences) - 1) * statistics.stdev(differences) / math.sqrt(len(differences))
    still = max(idle.value - (idle.value if idle.low is None else idle.low),
                (idle.value if idle.high is None else idle.high) - idle.value) * abs(longer_s)
    half = math.hypot(spread, still)
    inside = [w for pair in traces for t in pair for w in t.readings_w]
    if (step := step_w(samples, inside)) == math.inf:
        raise Refused(f"{samples[0].sensor} read {inside[0]:.4g} W all the time: its steps are too coarse")
    coarse = step / 2 * statistics.mean(a.window_s + b.window_s for a, b in traces)
    if coarse >= abs(mean):
        raise Refused(f"{samples[0].sensor} reads in steps of {step:.3g} W, which may hide {coarse:.3g} J; "
                      f"the difference is {mean:.3g} J")
    if not welch(beside, without) or mean - half <= 0:
        raise Refused(f"the difference of {mean:.3g} J is within the noise of {half:.3g} J of {len(pairs)} pairs")
    return OperatorEnergy(
        index=ran.index, value_j=mean / runs, low_j=(mean - half) / runs, high_j=(mean + half) / runs, kind=kind,
        source=f"{samples[0].sensor}, {traces[0][0].total.text}: difference of {len(pairs)} pairs of windows of "
               f"{ran.chain_runs} inferences without and with {ran.operator_runs} runs of it after each, "
               f"above the idle power of {idle.value:.4g} W; 95 % t-interval over the pairs and the idle power's")


def _require_quick(samples: Sequence[Sample], pairs: Sequence[tuple[Window, Window]], ran: Differential) -> None:
    """Raise Refused unless the sensor reads often enough in each window."""
    for pair in pairs:
        for window in pair:
            n = sum(window.start_s <= one.t_s <= window.end_s for one in samples)
            if n < LEAST_READINGS:
                window_s = window.end_s - window.start_s
                apart = [b.t_s - a.t_s for a, b in pairwise(samples)]
                apart_s = statistics.median(apart) if apart else window_s
                name = samples[0].sensor if samples else "no sensor"
                raise Refused(f"{name} reads every {apart_s * 1e3:.3g} ms; the operator takes {ran.ns / 1e3:.3g} "
                              f"µs: a window of {LEAST_READINGS * apart_s:.3g} s would be needed, it was "
                              f"{window_s:.3g} s")
