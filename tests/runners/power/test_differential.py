"""Energy of single operators against power traces whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hwkit.measurement import Measurement
from hwkit.runners.power import Differential, Recording, Sample, operator_energies
from hwkit.runners.power._differential import Energies, t975, welch
from hwkit.runners.power._recording import Window

IDLE_W, CHAIN_W, OPERATOR_W = 2.0, 3.0, 3.5
CHAIN_S, OPERATOR_S = 0.010, 0.004
CHAIN_RUNS, OPERATOR_RUNS, PAIRS = 250, 2, 4
TRUTH_J = (OPERATOR_W - IDLE_W) * OPERATOR_S
RAN = Differential(index=7, chain_runs=CHAIN_RUNS, operator_runs=OPERATOR_RUNS, ns=OPERATOR_S * 1e9)
IDLE = Measurement(quantity="idle_power", unit="w", kind="measured", samples=(IDLE_W,), low=IDLE_W, high=IDLE_W,
                   conditions={"sensor": "hwmon", "rails": ["supply"]})


def recording(noise_w: float, seed: int, period_s: float = 0.1, wander_w: float = 0.0,
              step_w: float = 0.0) -> Recording:
    """What a sensor with white noise, read every `period_s`, says of the windows that the board runs.

    The load repeats in milliseconds, so that a reading sees its mean. wander_w: of each window's level.
    """
    rng = np.random.default_rng(seed)
    windows, samples, now = {}, [], 0.0
    mean_w = (CHAIN_W * CHAIN_S + OPERATOR_W * OPERATOR_S * OPERATOR_RUNS) / (CHAIN_S + OPERATOR_S * OPERATOR_RUNS)
    for pair in range(PAIRS):
        both = [("without", CHAIN_W, CHAIN_S), ("with", mean_w, CHAIN_S + OPERATOR_RUNS * OPERATOR_S)]
        for name, w, each_s in both if pair % 2 == 0 else both[::-1]:
            end = now + CHAIN_RUNS * each_s
            windows[f"7 {name} {pair}"] = Window(start_s=now, end_s=end, inferences=CHAIN_RUNS)
            level = w + wander_w * float(rng.standard_normal())
            for t in np.arange(now, end, period_s):
                seen = level + noise_w * float(rng.standard_normal())
                seen = step_w * round(seen / step_w) if step_w else seen
                samples.append(Sample(sensor="hwmon", t_s=float(t), rails={"supply": seen}))
            now = end
    return Recording(samples={"hwmon": tuple(samples)}, windows=windows)


def energies(made: Recording, idle: Measurement = IDLE) -> Energies:
    return operator_energies(made, idle, [RAN], "measured")


@pytest.mark.parametrize(("noise_w", "wander_w"), [(0.05, 0.0), (0.02, 0.01)])
def test_the_interval_holds_the_truth_as_often_as_it_says(noise_w: float, wander_w: float) -> None:
    """95 % of 120 is 114; three standard deviations of such a count are 7."""
    found = [energies(recording(noise_w, seed, wander_w=wander_w)).energies for seed in range(120)]
    told = [one[0] for one in found if one]
    assert len(told) == 120
    held = sum(one.low_j <= TRUTH_J <= one.high_j for one in told)
    assert 107 <= held <= 120
    widths = [one.high_j - one.low_j for one in told]
    assert np.mean([one.value_j for one in told]) == pytest.approx(TRUTH_J, rel=0.02)
    assert float(np.mean(widths)) < TRUTH_J          # an interval of everything would hold the truth too


def test_without_noise_it_is_the_truth() -> None:
    one = energies(recording(0.0, 0)).energies[0]
    assert one.value_j == pytest.approx(TRUTH_J, rel=0.02)          # a reading that lies across two windows
    assert (one.index, one.kind) == (7, "measured")
    assert "4 pairs of windows of 250 inferences without and with 2 runs" in one.source


def test_a_board_that_warms_up_costs_width_not_truth() -> None:
    """The order within a pair changes, so that a steady drift does not look like the operator."""
    made = recording(0.01, 1)
    warming = {"hwmon": tuple(s.model_copy(update={"rails": {"supply": s.rails["supply"] + 0.004 * s.t_s}})
                              for s in made.samples["hwmon"])}
    idle = IDLE.model_copy(update={"samples": (2.06,), "low": 2.0, "high": 2.12})
    one = energies(made.model_copy(update={"samples": warming}), idle).energies[0]
    assert one.low_j <= TRUTH_J <= one.high_j
    assert one.high_j - one.low_j > (energies(made).energies[0].high_j - energies(made).energies[0].low_j)


def test_the_idle_powers_uncertainty_is_in_it() -> None:
    """0.5 W either way over the 8 ms that two runs take longer: 2 mJ a run, on top of a steady trace."""
    unsure = IDLE.model_copy(update={"low": IDLE_W - 0.5, "high": IDLE_W + 0.5})
    one = energies(recording(0.0, 0), unsure).energies[0]
    assert (one.high_j - one.low_j) / 2 == pytest.approx(0.002, rel=0.05)


@pytest.mark.parametrize(("made", "words"), [
    (recording(0.05, 0, period_s=0.5), "hwmon reads every 500 ms; the operator takes 4e+03 µs: a window of 10 s"),
    (recording(30.0, 0), "is within the noise of"),
    (recording(0.3, 0, step_w=1.0), "hwmon reads in steps of 1 W, which may hide 3.5 J"),
    (recording(0.01, 0, step_w=1.0), "hwmon read 3 W all the time"),
    (Recording(samples=recording(0.05, 0).samples), "0 pairs of windows were recorded"),
])
def test_refused_in_plain_words(made: Recording, words: str) -> None:
    found = energies(made)
    assert found.energies == ()
    assert words in found.refused[7]
    assert found.finding is not None
    assert found.finding.ok is None
    assert words in found.finding.text


def test_an_idle_power_of_another_sensor_is_refused() -> None:
    other = IDLE.model_copy(update={"conditions": {"sensor": "nvml", "rails": ["GPU"]}})
    assert "another sensor" in energies(recording(0.01, 0), other).refused[7]


def test_an_operator_that_costs_nothing_is_seldom_told() -> None:
    """Power at idle throughout: the test errs to one side in 2.5 % of the cases; of 120 that is 3."""
    told = 0
    for seed in range(120):
        rng, made = np.random.default_rng(seed), recording(0.0, 0)
        nothing = tuple(s.model_copy(update={"rails": {"supply": IDLE_W + 0.3 * float(rng.standard_normal())}})
                        for s in made.samples["hwmon"])
        told += bool(energies(made.model_copy(update={"samples": {"hwmon": nothing}})).energies)
    assert told < 9


def test_students_t_and_welch_against_known_values() -> None:
    assert (t975(3), t975(3.9), t975(10), t975(30), t975(1000)) == (3.182, 3.182, 2.228, 2.086, 2.0)
    assert all(t975(k) >= t975(k + 1) for k in range(1, 100))
    assert welch([1.0, 1.1, 0.9, 1.0], [2.0, 2.1, 1.9, 2.0])
    assert not welch([1.0, 2.0, 3.0, 4.0], [1.5, 2.5, 3.5, 4.5])
    assert not math.isnan(t975(2))
