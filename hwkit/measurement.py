"""Measurement: one quantity with its samples and its provenance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import model_validator

from hwkit.describe import Frozen, Kind

Unit = Literal["s", "j", "w", "bytes", "instructions", "1"]

# Every quantity a report can hold: its unit and what it is. One name, one unit, everywhere.
QUANTITIES: dict[str, tuple[Unit, str]] = {
    "latency": ("s", "wall time of one inference on the device"),
    "instructions": ("instructions", "machine instructions of one inference"),
    "energy": ("j", "energy of one inference above idle"),
    "idle_power": ("w", "power of the idle board"),
    "flash": ("bytes", "files that must be stored on the device"),
    "weights": ("bytes", "constant tensors inside the deployed files, each shared one once"),
    "resident_weights": ("bytes", "memory the weights take when loaded, packed copies included"),
    "arena": ("bytes", "working memory for activations"),
    "peak_rss": ("bytes", "peak resident memory of the whole process"),
    "runtime_rss": ("bytes", "resident memory of the runtime before any model is loaded"),
    "accuracy_float": ("1", "share of test samples the trained network gets right"),
    "accuracy": ("1", "share of test samples the deployed network gets right"),
    "agreement": ("1", "share of samples on which the deployed network gives the trained network's answer"),
    "max_error": ("1", "largest absolute difference to the trained network's outputs"),
    "rms_error": ("1", "RMS difference to the trained network's outputs over their RMS"),
}

BOOTSTRAP_RESAMPLES = 1000


class Measurement(Frozen):
    """A quantity, its raw samples, and what kind of number it is.

    quantity    a key of QUANTITIES, which fixes its unit
    samples     one value a repetition, in `unit`; a single value where repetition means nothing
    low, high   an interval: of the median for samples, of the value for an estimate
    n           how many things one sample rests on when that differs (images behind an accuracy)
    conditions  threads, board, tool versions ... whatever is needed to read the number
    """

    quantity: str
    unit: Unit
    kind: Kind
    samples: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    n: int | None = None
    source: str = ""
    conditions: dict[str, Any] = {}

    @model_validator(mode="after")
    def _honest(self) -> Self:
        if self.quantity not in QUANTITIES:
            raise ValueError(f"no quantity named {self.quantity!r}; known: {', '.join(QUANTITIES)}")
        if self.unit != QUANTITIES[self.quantity][0]:
            raise ValueError(f"{self.quantity} is in {QUANTITIES[self.quantity][0]}, not {self.unit}")
        if not self.samples:
            raise ValueError(f"{self.quantity}: no samples")
        if self.kind == "estimated" and (self.low is None or self.high is None):
            raise ValueError(f"{self.quantity}: an estimate carries an interval")
        if self.kind in ("published", "assumed") and not self.source:
            raise ValueError(f"{self.quantity}: a {self.kind} number names its source")
        return self

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.samples)

    def percentile(self, p: float) -> float:
        return percentile(self.samples, p)


def percentile(samples: Sequence[float], p: float) -> float:
    """The p-th percentile (0..100) with linear interpolation between order statistics."""
    ordered = sorted(samples)
    position = (len(ordered) - 1) * p / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median_interval(samples: Sequence[float], confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile-bootstrap confidence interval of the median (Efron, 1979), seeded."""
    import numpy as np

    drawn = np.random.default_rng(seed).choice(np.asarray(samples), (BOOTSTRAP_RESAMPLES, len(samples)))
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(np.median(drawn, axis=1), (tail, 100 - tail))
    return float(low), float(high)


def sampled(quantity: str, unit: Unit, kind: Kind, samples: Sequence[float], **rest: Any) -> Measurement:
    """A repeated measurement with the bootstrap interval of its median."""
    low, high = median_interval(samples)
    return Measurement(quantity=quantity, unit=unit, kind=kind, samples=tuple(samples),
                       low=low, high=high, n=len(samples), **rest)
