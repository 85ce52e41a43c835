"""Fitting a resource model: exact on exact data, honest on the rest, and the same from a file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit.eda.fitted import Fitted, Point, fit
from hwkit.errors import BadInput

LANES = [(64, 1), (64, 4), (256, 1), (256, 8), (1024, 2), (1024, 16), (4096, 3)]


def points(value: float = 0.0) -> list[Point]:
    """200 + 5 a lane + 30 a row, the last one off by `value`."""
    made = [Point({"one": 1, "lanes": lanes, "rows": rows}, 200 + 5 * lanes + 30 * rows) for lanes, rows in LANES]
    return [*made[:-1], Point(made[-1].features, made[-1].value + value)]


@given(st.integers(1, 10_000), st.integers(1, 100))
@settings(deadline=None)
def test_a_linear_law_is_found_exactly(lanes: int, rows: int) -> None:
    found = fit(points()).predict({"one": 1, "lanes": lanes, "rows": rows})
    assert found.value == pytest.approx(200 + 5 * lanes + 30 * rows, rel=1e-4)
    assert found.high - found.low < 1e-3 * found.value
    assert found.inside == (64 <= lanes <= 4096 and 1 <= rows <= 16)


def test_the_interval_holds_what_leaving_one_out_missed() -> None:
    given_points = points(value=8000.0)
    model = fit(given_points)
    for i, point in enumerate(given_points):
        foretold = fit(given_points[:i] + given_points[i + 1:]).predict(point.features).value
        off = max(abs(e) for e in model.relative_errors)
        assert foretold / (1 + off) <= point.value * 1.0001
        assert point.value <= foretold / (1 - off) * 1.0001
    wide = model.predict({"one": 1, "lanes": 512, "rows": 4})
    assert wide.low < wide.value < wide.high


def test_coefficients_are_never_negative() -> None:
    falling = [Point({"one": 1, "lanes": x}, 1000 - x) for x in (1, 10, 100, 500)]
    assert min(fit(falling).coefficients.values()) == 0


def test_a_fit_survives_a_file_and_is_the_same_again() -> None:
    model = fit(points(100.0))
    assert Fitted.model_validate_json(model.model_dump_json()) == model == fit(points(100.0))


def test_what_cannot_be_fitted() -> None:
    with pytest.raises(BadInput, match="no points"):
        fit([])
    with pytest.raises(BadInput, match="3 points are too few for 3 features"):
        fit(points()[:3])
    with pytest.raises(BadInput, match="cannot tell these features apart"):
        fit([Point({"a": x, "b": 2 * x}, x) for x in (1, 2, 3, 4)])
    with pytest.raises(BadInput, match="not above 0"):
        fit([Point({"a": 1}, 0), Point({"a": 2}, 1)])
    with pytest.raises(BadInput, match="'b' is missing or unknown"):
        fit([Point({"a": 1, "b": 1}, 1), Point({"a": 2}, 1)])
    with pytest.raises(BadInput, match="'lane' is missing or unknown"):
        fit(points()).predict({"one": 1, "lane": 3, "rows": 1})
