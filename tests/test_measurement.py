"""Samples, percentiles and the honesty of a Measurement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hwkit.measurement import (
    QUANTITIES,
    RESOURCES,
    Measurement,
    median_interval,
    percentile,
    sampled,
    synthesised,
)
from hwkit.units import shown

samples = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=60)


@given(samples, st.floats(0, 100))
def test_percentile_is_numpys_linear_one(values: list[float], p: float) -> None:
    assert percentile(values, p) == pytest.approx(float(np.percentile(values, p)), rel=1e-12)


def test_bootstrap_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(7)
    covered = 0
    for seed in range(60):
        low, high = median_interval(draw.exponential(size=60).tolist(), seed=seed)
        covered += low <= np.log(2) <= high
    assert 50 <= covered <= 60    # 95 % of 60 is 57; binomial spread either side


def test_bootstrap_interval_is_the_same_every_time() -> None:
    values = list(np.random.default_rng(1).normal(10, 1, 40))
    assert median_interval(values) == median_interval(values)


def test_an_estimate_without_an_interval_is_refused() -> None:
    with pytest.raises(ValidationError, match="an estimate carries an interval"):
        Measurement(quantity="latency", unit="s", kind="estimated", samples=(1.0,))


@pytest.mark.parametrize("kind", ["published", "assumed"])
def test_a_published_or_assumed_number_names_its_source(kind: str) -> None:
    with pytest.raises(ValidationError, match="names its source"):
        Measurement(quantity="latency", unit="s", kind=kind, samples=(1.0,))   # type: ignore[arg-type]


def test_a_quantity_has_one_unit() -> None:
    with pytest.raises(ValidationError, match="latency is in s, not bytes"):
        Measurement(quantity="latency", unit="bytes", kind="measured", samples=(1.0,))
    with pytest.raises(ValidationError, match="no quantity named 'speed'"):
        Measurement(quantity="speed", unit="1", kind="measured", samples=(1.0,))


def test_a_kind_outside_the_five_is_refused() -> None:
    with pytest.raises(ValidationError):
        Measurement(quantity="latency", unit="s", kind="guessed", samples=(1.0,))   # type: ignore[arg-type]


def test_sampled_keeps_every_sample() -> None:
    m = sampled("latency", "s", "measured", [3.0, 1.0, 2.0, 100.0])
    assert m.samples == (3.0, 1.0, 2.0, 100.0)
    assert (m.value, m.n) == (2.5, 4)
    assert m.low is not None
    assert m.high is not None
    assert 1.0 <= m.low <= 2.5 <= m.high <= 100.0


def test_every_quantity_says_what_it_is() -> None:
    assert all(unit and text for unit, text in QUANTITIES.values())


def test_a_synthesised_count_is_an_estimate_of_what_the_vendors_tool_makes() -> None:
    m = synthesised("LUT", 21259, "Yosys 0.70", conditions={"flattened": True})
    assert (m.value, m.kind) == (21259, "estimated")
    assert (m.low, m.high) == (15944, 22322)          # 0.75 rounded down, 1.05 rounded up, by hand
    assert "synthesised by Yosys 0.70" in m.source
    assert m.conditions == {"flattened": True}
    exact = synthesised("DSP", 1312, "Yosys 0.70")
    assert (exact.low, exact.high) == (1312, 1312)
    given = synthesised("URAM", 8, "Yosys 0.70", across=(0.5, 2.0))
    assert (given.low, given.high) == (4, 16)


def test_every_resource_is_a_quantity_spelt_as_the_tools_spell_it() -> None:
    assert RESOURCES == ("LUT", "FF", "DSP", "BRAM_18K", "URAM")
    assert all(QUANTITIES[r][0] == "1" for r in RESOURCES)


@pytest.mark.parametrize(("value", "unit", "text"), [
    (31148.0, "cycles", "31,148"), (81_931_000.0, "cycles", "81,931,000"), (6420.5, "1/s", "6.42 k/s"),
    (0.5, "1/s", "0.5 /s"), (21259.0, "1", "21,259"), (0.9789, "1", "0.9789"), (0.0, "bytes", "0 B"),
    (155.74e-6, "s", "156 µs"), (7.5e7, "1", "75,000,000"), (float("inf"), "1", "inf"),
])
def test_numbers_as_people_read_them(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text
