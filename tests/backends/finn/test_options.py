"""Options from key=value pairs."""

from __future__ import annotations

import pytest

from hwkit.backends import backend, names
from hwkit.backends.finn.options import Options, parse
from hwkit.errors import BadInput
from hwkit.target import target


def test_the_backend_is_found_by_its_name() -> None:
    assert "finn" in names()
    assert backend("finn").options({}, target("zcu104")) == Options()


@pytest.mark.parametrize(("given", "expected"), [
    ({}, Options()),
    ({"fps": "max"}, Options(fps=None)),
    ({"fps": "12.5", "ode": "rolled"}, Options(fps=12.5, ode="rolled")),
    ({"thresholds": "standalone", "golden": "2"}, Options(thresholds="standalone", golden=2))])
def test_values_are_read(given: dict[str, str], expected: Options) -> None:
    assert parse(given) == expected


@pytest.mark.parametrize(("given", "says"), [
    ({"fpz": "1"}, "did you mean 'fps'"), ({"fps": "0"}, "greater than 0"), ({"fps": "fast"}, "valid number"),
    ({"fps": "inf"}, "finite"), ({"ode": "folded"}, "'unrolled' or 'rolled'"), ({"golden": "0"}, "greater than"),
    ({"precision": "int8"}, "pattern")])
def test_a_wrong_one_is_named(given: dict[str, str], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        parse(given)
    assert next(iter(given)) in caught.value.message
    assert caught.value.hint
