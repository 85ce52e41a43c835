"""Integrals of power against ones done by hand; and the reasons for which there is none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit.measurement import Measurement
from hwkit.runners.power import Account, Sample, accounts, energy, idle, throttling
from hwkit.runners.power._energy import both


def trace(times: Iterable[float], w: Callable[[float], float], rail: str = "VDD_IN",
          sensor: str = "tegrastats") -> list[Sample]:
    return [Sample(sensor=sensor, t_s=t, rails={rail: w(t), "OTHER": 0.25}) for t in times]


def every(period_s: float, start_s: float, end_s: float) -> list[float]:
    return [start_s + k * period_s for k in range(round((end_s - start_s) / period_s) + 1)]


def one(account: Account, quantity: str) -> Measurement:
    return next(m for m in account.measurements if m.quantity == quantity)


def idle_of(w: float, half_width: float = 0.0) -> Measurement:
    return Measurement(quantity="idle_power", unit="w", kind="measured", samples=(w,), low=w - half_width,
                       high=w + half_width, conditions={"sensor": "tegrastats", "rails": ["VDD_IN"]})


def test_a_ramp_by_hand() -> None:
    """2 + t/2 W from 1 to 6 s: 10 + (36 - 1)/4 = 18.75 J, so 3.75 W; less 1.5 W over 5 s is 11.25 J, 100 times."""
    samples = trace(every(0.1, 0.03, 7.03), lambda t: 2 + t / 2)          # no reading lies on the window's ends
    account = energy(samples, 1, 6, 100, idle_of(1.5), {"power_mode": "MAXN (0)"})
    power, joules = one(account, "power"), one(account, "energy")
    assert account.not_measured == {}
    assert (power.value, power.unit, power.kind) == (pytest.approx(3.75), "w", "measured")
    assert (joules.value, joules.unit, joules.kind) == (pytest.approx(0.1125), "j", "measured")
    assert joules.conditions == {"sensor": "tegrastats", "rails": ["VDD_IN"], "power_mode": "MAXN (0)"}
    assert power.n == 50
    for words in ("tegrastats", "rail VDD_IN", "50 readings 100 ms apart over 5 s", "trapezoids",
                  "sensor's own error"):
        assert words in power.source
    assert "above the idle power of 1.5 W, over 100 inferences" in joules.source


def test_uneven_readings_by_hand() -> None:
    """4 W, from 2 s on 8 W with a ramp of 0.5 s before: 4*1.5 + 0.5*6 + 8*2 = 25 J over 4 s."""
    times = [0, 0.3, 0.5, 0.9, 1.0, 1.4, 1.5, 2.0, 2.1, 2.4, 2.7, 3.1, 3.5, 3.6, 4.0]
    account = energy(trace(times, lambda t: 4 if t <= 1.5 else 8), 0, 4, 10, idle_of(2.25))
    assert one(account, "power").value == pytest.approx(6.25)
    assert one(account, "energy").value == pytest.approx((25 - 2.25 * 4) / 10)


def test_the_order_of_the_readings_does_not_matter() -> None:
    samples = trace(every(0.1, 0, 5), lambda t: 3 + math.sin(t))
    assert energy(samples[::-1], 1, 4, 5, idle_of(1)) == energy(samples, 1, 4, 5, idle_of(1))


def test_the_rails_of_a_board_without_an_input_are_added() -> None:
    samples = [Sample(sensor="ina3221", t_s=t, rails={"VDD_GPU_SOC": 2, "VDD_CPU_CV": 1, "VIN_SYS_5V0": 4,
                                                      "VDDQ_VDD2_1V8AO": 0.5}) for t in every(0.1, 0, 4)]
    power = one(idle(samples, 0, 4), "idle_power")
    assert power.value == pytest.approx(7)
    assert power.conditions["rails"] == ["VDD_CPU_CV", "VDD_GPU_SOC", "VIN_SYS_5V0"]
    assert "VDDQ_VDD2_1V8AO left out" in power.source


def test_a_reading_without_the_input_rail_is_left_out() -> None:
    """What remains of a damaged line is not the board: 0.25 W would be taken for it."""
    samples = trace(every(0.1, 0, 4), lambda t: 5)
    samples[7:9] = [s.model_copy(update={"rails": {"OTHER": 0.25, "DAMAGED": 900.0}}) for s in samples[7:9]]
    power = one(idle(samples, 0, 4), "idle_power")
    assert (power.value, power.low, power.high) == pytest.approx((5, 5, 5))
    assert power.n == 39


def test_the_counter_of_a_graphics_card_goes_before_its_averaged_power() -> None:
    """The counter says 100 J a second from 0 s on; the power, an average over a second, comes late."""
    samples = [Sample(sensor="nvml", t_s=t, rails={"GPU": min(100.0, 50 + 50 * t)}, counter_j=1e6 + 100 * t)
               for t in every(0.1, 0, 5)]
    power = one(energy(samples, 0, 5, 1, None), "power")
    assert power.value == pytest.approx(100)
    assert "differences of its energy counter" in power.source
    assert "graphics card without its host" in power.source
    # a window that reaches a little past the readings: the counter did not stop there
    assert one(energy(samples, -0.05, 5.05, 1, None), "power").value == pytest.approx(100)


def test_a_counter_that_went_back_is_not_believed() -> None:
    samples = [Sample(sensor="nvml", t_s=t, rails={"GPU": 80}, counter_j=1000 * t % 3000)
               for t in every(0.1, 0, 5)]
    power = one(energy(samples, 0, 5, 1, None), "power")
    assert power.value == pytest.approx(80)
    assert "trapezoids" in power.source


@pytest.mark.parametrize(("change", "words"), [
    (dict(end_s=2.9), "the window lasts 1.9 s, too short"),
    (dict(end_s=1.0), "the window of the measurement is empty"),
    (dict(end_s=0.5), "the window of the measurement is empty"),
    (dict(end_s=float("nan")), "the window of the measurement is empty"),
    (dict(samples=[]), "no sensor gave the power of a rail"),
    (dict(samples=[Sample(sensor="tegrastats", t_s=t) for t in every(0.1, 0, 7)]), "no sensor gave the power"),
    (dict(samples=trace(every(1, 0, 7), lambda t: 3)), "tegrastats gave 6 readings in the window of 5 s; 10 are"),
    (dict(samples=trace(every(0.1, 0, 3), lambda t: 3)), "gave no reading for 3 s of the window"),
    (dict(samples=trace(every(0.1, 0, 2) + every(0.1, 5, 7), lambda t: 3)), "gave no reading for 3 s"),
    (dict(samples=trace(every(0.1, 3, 7), lambda t: 3)), "gave no reading for 2 s of the window"),
])
def test_refused_for_one_clear_reason(change: dict[str, object], words: str) -> None:
    given = {"samples": trace(every(0.1, 0, 7), lambda t: 3), "start_s": 1.0, "end_s": 6.0, "inferences": 10,
             "idle_power": idle_of(1), **change}
    account = energy(**given)         # type: ignore[arg-type]
    assert account.measurements == ()
    assert set(account.not_measured) == {"power", "energy"}
    assert account.not_measured["power"] == account.not_measured["energy"]
    assert words in account.not_measured["energy"]
    alone = idle(given["samples"], given["start_s"], given["end_s"])     # type: ignore[arg-type]
    assert alone == Account(not_measured={"idle_power": account.not_measured["power"]})


@pytest.mark.parametrize(("inferences", "idle_power", "words"), [
    (0, idle_of(1), "no inference ran"), (10, None, "no idle power"),
    (10, idle_of(3.5), "3 W, is not above the idle power, 3.5 W"), (10, idle_of(3), "not above"),
    (10, idle_of(1).model_copy(update={"conditions": {"sensor": "nvml", "rails": ["GPU"]}}), "another sensor")])
def test_the_energy_alone_may_be_refused(inferences: int, idle_power: Measurement | None, words: str) -> None:
    account = energy(trace(every(0.1, 0, 7), lambda t: 3), 1, 6, inferences, idle_power)
    assert one(account, "power").value == pytest.approx(3)
    assert list(account.not_measured) == ["energy"]
    assert words in account.not_measured["energy"]


def noisy(correlated: float, n: int = 400, seed: int = 3) -> list[Sample]:
    """5 W and unit noise, each value `correlated` with the one before it."""
    rng, x, samples = np.random.default_rng(seed), 0.0, []
    for k in range(n + 1):
        x = correlated * x + math.sqrt(1 - correlated**2) * float(rng.standard_normal())
        samples.append(Sample(sensor="tegrastats", t_s=k / 10, rails={"VDD_IN": 5 + x}))
    return samples


def half_width(samples: list[Sample]) -> float:
    power = one(idle(samples, 0, samples[-1].t_s), "idle_power")
    assert power.low is not None
    assert power.high is not None
    assert power.low <= power.value <= power.high
    return (power.high - power.low) / 2


def test_the_interval_is_that_of_independent_noise() -> None:
    """1.96 sigma / sqrt(n) = 0.098 W for 400 independent readings of unit noise."""
    widths = [half_width(noisy(0, seed=seed)) for seed in range(8)]
    assert float(np.mean(widths)) == pytest.approx(0.098, rel=0.2)


def test_the_interval_is_wider_where_readings_follow_each_other() -> None:
    """Correlation 0.8 from one to the next: (1 + 0.8)/(1 - 0.8) = 9 times the mean's variance, 3 times as wide."""
    widths = [half_width(noisy(0.8, seed=seed)) for seed in range(8)]
    assert 0.2 < float(np.mean(widths)) < 0.35


def test_the_interval_of_the_energy_holds_that_of_the_idle_power() -> None:
    """A steady 3 W, an idle power of 1 ± 0.1 W: 10 ± 0.5 J in 5 s, over 10 inferences."""
    joules = one(energy(trace(every(0.1, 0, 7), lambda t: 3), 1, 6, 10, idle_of(1, 0.1)), "energy")
    assert (joules.value, joules.low, joules.high) == (pytest.approx(1), pytest.approx(0.95), pytest.approx(1.05))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.05, 0.3), min_size=60, max_size=90), st.floats(0.1, 100), st.floats(-5, 5))
def test_straight_lines_are_exact_at_any_times(steps: list[float], level: float, slope: float) -> None:
    times = [float(t) for t in np.cumsum(steps)]
    start, end = times[0], times[0] + 2.5
    got = one(idle(trace(times, lambda t: level + slope * t), start, end), "idle_power").value
    assert got == pytest.approx(level + slope * (start + end) / 2, rel=1e-9, abs=1e-9)


def test_throttling_is_told() -> None:
    cool = [Sample(sensor="nvml", t_s=k, clocks_hz={"GR3D": (1.98e9,)}, temperatures_c={"GPU": 50 + k})
            for k in range(10)]
    steady = throttling(cool, 0, 5)
    assert steady is not None
    assert (steady.ok, steady.text) == (True, "the GPU's clock stayed at 1980 MHz; its temperature reached 55 °C")
    hot = [s.model_copy(update={"throttled": ("power cap",)}) if s.t_s in (3, 4) else s for s in cool]
    lowered = throttling(hot, 0, 9)
    assert lowered is not None
    assert lowered.ok is False
    assert "in 2 of 10 readings: power cap" in lowered.text
    slow = [s.model_copy(update={"clocks_hz": {"GR3D": (0.9e9, 1.0e9)}}) if s.t_s > 6 else s for s in cool]
    fell = throttling(slow, 0, 9)
    assert fell is not None
    assert fell.ok is None
    assert "between 1000 and 1980 MHz" in fell.text
    assert throttling([Sample(sensor="ina3221", t_s=1, rails={"VDD_IN": 1})], 0, 9) is None


def test_idle_before_and_after_together() -> None:
    """2.0 ± 0.06 and 2.2 ± 0.08 W: 2.1 W; half the drift 0.1, the halves of the widths 0.03 and 0.04: ± 0.1118."""
    before, after = idle_of(2.0, 0.06), idle_of(2.2, 0.08)
    found = both(before, after)
    assert (found.value, found.samples) == (pytest.approx(2.1), (2.0, 2.2))
    assert (found.low, found.high) == pytest.approx((2.1 - 0.1118, 2.1 + 0.1118), abs=1e-4)
    assert "2 W before and 2.2 W after" in found.source


def recording(tmp_path: Path, after_w: float) -> Path:
    """A meter's: 2 W at rest, 5 W while it ran, `after_w` at rest again; three seconds each, read every 0.1 s."""
    level = [2.0] * 30 + [5.0] * 30 + [after_w] * 30
    lines: list[dict[str, object]] = [{"t_s": -1.0, "kind": "start"}, {
        "t_s": -1.0, "kind": "fixed", "sensor": "meter", "files": {"columns": "power_w"}}]
    lines += [{"t_s": k / 10, "kind": "reading", "sensor": "meter", "text": str(w)} for k, w in enumerate(level)]
    lines += [{"t_s": 9.0, "kind": "note", "sensor": "rapl", "text": "no energy counter"},
              {"t_s": 9.0, "kind": "note", "sensor": "meter", "text": "was away"}]
    for name, start, inferences in (("idle", 0.05, 0), ("timed", 3.05, 10), ("idle-after", 6.05, 0)):
        lines.append({"t_s": 9, "kind": "window", "text": name,
                      "values": {"start_s": start, "end_s": start + 2.8, "inferences": inferences}})
    path = tmp_path / "power.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in [*lines, {"t_s": 9.0, "kind": "end"}]))
    return path


def test_an_account_of_a_recording(tmp_path: Path) -> None:
    """3 W more than at rest for 2.8 s over 10 inferences: 0.84 J."""
    found = accounts(recording(tmp_path, 2.0), "", {"threads": 1})
    by_name = {m.quantity: m for m in found.measurements}
    assert by_name["energy"].value == pytest.approx(0.84, rel=1e-3)
    assert by_name["idle_power"].samples == pytest.approx((2.0, 2.0))
    assert {m.kind for m in found.measurements} == {"measured"}
    assert [f.text for f in found.findings] == ["meter: was away"]       # not that there is no RAPL


def test_a_board_that_was_not_at_rest_widens_the_energy_and_is_told(tmp_path: Path) -> None:
    """2.4 W after: 2.2 ± 0.2 W at rest, so that the energy is (2.8 ± 0.2) W x 2.8 s / 10."""
    found = accounts(recording(tmp_path, 2.4), "", {})
    energy_j = next(m for m in found.measurements if m.quantity == "energy")
    assert energy_j.value == pytest.approx(0.784, rel=1e-3)
    assert (energy_j.low, energy_j.high) == (pytest.approx(0.728, rel=5e-3), pytest.approx(0.84, rel=5e-3))
    assert "2 W before, 2.4 W after" in next(f.text for f in found.findings if f.name == "idle power")


def test_simulated_sensors_give_simulated_numbers(tmp_path: Path) -> None:
    found = accounts(recording(tmp_path, 2.0), "", {}, "simulated")
    assert {m.kind for m in found.measurements} == {"simulated"}
    assert all(m.source.startswith("simulated sensors: meter") for m in found.measurements)
