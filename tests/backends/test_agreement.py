"""Errors and accuracies, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hwkit.backends._agreement import Agreement, outputs
from hwkit.errors import BadModel

EXPECTED = np.array([[3.0, 0.0], [0.0, 4.0]], np.float32)
DEPLOYED = np.array([[3.0, 1.0], [2.0, 0.0]], np.float32)


def test_errors() -> None:
    found = Agreement(EXPECTED, DEPLOYED, None, "reference")
    assert found.largest == 4.0
    assert found.relative_rms == pytest.approx(np.sqrt((1 + 4 + 16) / (9 + 16)))
    assert found.relative_largest == 1.0


def test_figures_with_and_without_labels() -> None:
    known = {m.quantity: m.value for m in Agreement(EXPECTED, DEPLOYED, np.array([0, 0]), "r").figures({})}
    assert known["agreement"] == 0.5
    assert (known["accuracy_float"], known["accuracy"]) == (0.5, 1.0)
    unknown = {m.quantity for m in Agreement(EXPECTED, DEPLOYED, None, "r").figures({})}
    assert unknown == {"max_error", "rms_error", "agreement"}
    images = Agreement(EXPECTED[:, None], DEPLOYED[:, None], None, "r")
    assert {m.quantity for m in images.figures({})} == {"max_error", "rms_error"}


@pytest.mark.parametrize("wrong", [DEPLOYED, EXPECTED * 1.01, EXPECTED * np.float32("nan")])
def test_float32_must_agree(wrong: np.ndarray) -> None:
    found = Agreement(EXPECTED, wrong.astype(np.float32), None, "the trained network")
    assert found.finding(exact=False).ok is None
    with pytest.raises(BadModel, match="does not compute what the trained network does"):
        found.finding(exact=True)
    assert Agreement(EXPECTED, EXPECTED * (1 + 1e-6), None, "r").finding(exact=True).ok is True


def test_inputs_go_in_one_by_one() -> None:
    inputs = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_array_equal(outputs(lambda one: one * 2, inputs, "doubling", lambda text: None), inputs * 2)
