"""A small linear model fitted to a few syntheses, for designs that nobody synthesised.

    model = fit([Point({"lanes": 256, "rows": 8}, 9310), ...])
    model.predict({"lanes": 1024, "rows": 8})          # Prediction(value, low, high)

The caller chooses features that the quantity grows with linearly, products included, as floats by name. A constant
is a feature like any other. Coefficients are never negative: more of something never takes fewer resources. The
interval comes from leaving each point out in turn, so it says how well the model foretold what it had not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwkit.describe import Frozen
from hwkit.errors import BadInput

DIGITS = 6          # of coefficients and errors: a fit on another machine gives the same file


@dataclass(frozen=True)
class Point:
    """One synthesised design: its features and what was counted."""

    features: Mapping[str, float]
    value: float


class Prediction(Frozen):
    """A value with the interval [low, high]; `inside` is False where a feature lies outside the points fitted."""

    value: float
    low: float
    high: float
    inside: bool


class Fitted(Frozen):
    """Coefficients by feature, the range of each feature among the points, and the errors of leaving one out.

    relative_errors    (foretold - counted) / counted of each point by the model fitted to the others, ascending
    """

    coefficients: dict[str, float]
    ranges: dict[str, tuple[float, float]]
    relative_errors: tuple[float, ...]

    def predict(self, features: Mapping[str, float]) -> Prediction:
        """Value and interval: as far off as the model was, on either side, for the worst point left out.

        Raises BadInput unless `features` has exactly the names of the fit.
        """
        _require(features, list(self.coefficients))
        value = sum(c * features[name] for name, c in self.coefficients.items())
        off = max(abs(e) for e in self.relative_errors)
        inside = all(low <= features[name] <= high for name, (low, high) in self.ranges.items())
        return Prediction(value=value, low=value / (1 + off), high=value / max(1 - off, 1e-9), inside=inside)


def fit(points: Sequence[Point]) -> Fitted:
    """Least squares of the relative error, coefficients >= 0.

    Raises BadInput for too few points (one more than features), values <= 0, features that differ between points
    or that no point can tell apart.
    """
    if not points:
        raise BadInput("nothing to fit: no points")
    names = list(points[0].features)
    for point in points:
        _require(point.features, names)
        if not point.value > 0:
            raise BadInput(f"cannot fit a value that is not above 0: {point.value}")
    if len(points) <= len(names):
        raise BadInput(f"{len(points)} points are too few for {len(names)} features",
                       "synthesise more configurations or drop a feature")
    rows = np.array([[point.features[name] for name in names] for point in points], dtype=np.float64)
    values = np.array([point.value for point in points], dtype=np.float64)
    if np.linalg.matrix_rank(rows / np.maximum(np.abs(rows).max(axis=0), 1e-300)) < len(names):
        raise BadInput(f"the points cannot tell these features apart: {', '.join(names)}",
                       "vary each of them independently, or drop one")
    errors = []
    for left_out in range(len(points)):
        kept = np.arange(len(points)) != left_out
        errors.append(float(rows[left_out] @ _solve(rows[kept], values[kept]) / values[left_out] - 1))
    found = _solve(rows, values)
    return Fitted(coefficients={name: _rounded(c) for name, c in zip(names, found, strict=True)},
                  ranges={name: (float(column.min()), float(column.max()))
                          for name, column in zip(names, rows.T, strict=True)},
                  relative_errors=tuple(sorted(_rounded(e) for e in errors)))


def _solve(rows: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients >= 0 that make rows @ c / values as near to 1 as possible."""
    from scipy.optimize import nnls  # only to fit: a prediction needs none

    scale = np.maximum(np.abs(rows).max(axis=0), 1e-300)
    solution: NDArray[np.float64] = nnls(rows / scale / values[:, None], np.ones(len(values)))[0]
    found: NDArray[np.float64] = solution / scale
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") if abs(value) > 1e-9 else 0.0


def _require(features: Mapping[str, float], names: Sequence[str]) -> None:
    wrong = sorted(set(features) ^ set(names))
    if wrong:
        raise BadInput(f"the features are {', '.join(names)}: {wrong[0]!r} is missing or unknown")
