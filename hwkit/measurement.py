"""Measurement: one quantity with its samples and its provenance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal, Self, get_args

from pydantic import model_validator

from hwkit.describe import Frozen, Kind

Unit = Literal["s", "j", "w", "bytes", "instructions", "cycles", "1/s", "1"]
Resource = Literal["LUT", "FF", "DSP", "BRAM_18K", "URAM"]        # of an FPGA, spelt as the tools' reports do
RESOURCES: tuple[Resource, ...] = get_args(Resource)

# Every quantity a report can hold: its unit and what it is. One name, one unit, everywhere.
QUANTITIES: dict[str, tuple[Unit, str]] = {
    "latency": ("s", "time of one inference on the device, end to end"),
    "application_latency": ("s", "the same as an application has it: caches cold, the input copied in and "
                                 "quantised, the output dequantised, its largest value found"),
    "guest_latency": ("s", "time of one inference on an emulated guest's clock; says nothing of a device"),
    "kernel_latency": ("s", "time of one inference inside the programmable logic alone"),
    "transfer_latency": ("s", "time to move one inference's data between processor and accelerator"),
    "gpu_latency": ("s", "time of one inference's kernels on the GPU, copies to and from it left out"),
    "host_latency": ("s", "time of the layers before and after the programmable logic, on the board's processor"),
    "throughput": ("1/s", "inferences in a second when the next one always waits"),
    "cycles": ("cycles", "clock cycles of one inference inside the programmable logic"),
    "instructions": ("instructions", "machine instructions of one inference"),
    "energy": ("j", "energy of one inference above idle"),
    "idle_power": ("w", "power of the idle board"),
    "power": ("w", "power of the board while it infers, idle included"),
    "device_bytes": ("bytes", "GPU memory that a loaded engine takes: weights and activations"),
    "flash": ("bytes", "files that must be stored on the device"),
    "weights": ("bytes", "constant tensors inside the deployed files, each shared one once"),
    "resident_weights": ("bytes", "memory the weights take when loaded, packed copies included"),
    "arena": ("bytes", "working memory for activations"),
    "on_chip_bytes": ("bytes", "weights, biases and feature maps placed in memories of the chip"),
    "off_chip_bytes": ("bytes", "weights, biases and feature maps of the accelerated layers outside the chip"),
    "LUT": ("1", "look-up tables, those used as memory and as shift registers included"),
    "FF": ("1", "flip-flops"),
    "DSP": ("1", "DSP slices"),
    "BRAM_18K": ("1", "halves of block RAM; a whole one counts as two"),
    "URAM": ("1", "UltraRAM blocks"),
    "lane_utilisation": ("1", "share of the multiplier lanes' cycles that do a multiplication the network needs"),
    "logic_levels": ("1", "look-up tables in a row, at most, between two registers; carry chains not counted"),
    "peak_rss": ("bytes", "peak resident memory of the whole process"),
    "runtime_rss": ("bytes", "resident memory of the runtime before any model is loaded"),
    "accuracy_float": ("1", "share of test samples the trained network gets right"),
    "accuracy": ("1", "share of test samples the deployed network gets right"),
    "agreement": ("1", "share of samples on which the deployed network gives the trained network's answer"),
    "max_error": ("1", "largest absolute difference to the trained network's outputs"),
    "rms_error": ("1", "RMS difference to the trained network's outputs over their RMS"),
}

BOOTSTRAP_RESAMPLES = 1000

# What the vendor's tool may make of one unit that Yosys counts. LUT: Yosys knows neither LUT6_2 pairs nor ternary
# adders, and keeping the hierarchy costs up to 5 %. FF: the vendor's tool copies registers with many loads and
# turns chains of them into shift registers. The others are as a rule instantiated, and stay what they are.
# These ranges are ours: no vendor tool was run on the same design.
SYNTHESIS_RANGE: dict[Resource, tuple[float, float]] = {
    "LUT": (0.75, 1.05), "FF": (0.9, 1.1), "DSP": (1.0, 1.0), "BRAM_18K": (1.0, 1.0), "URAM": (1.0, 1.0)}


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


def synthesised(resource: Resource, count: int, tool: str, across: tuple[float, float] | None = None,
                **rest: Any) -> Measurement:
    """A count that `tool` (its name and version) found by synthesising this very design.

    It is "estimated": the vendor's tool, which makes what is loaded into the chip, will count differently.
    The value is the count itself, the interval what the vendor's tool may make of it: `across` times the
    count, SYNTHESIS_RANGE by default; `source` says that it was synthesised and by what.
    """
    least, most = across or SYNTHESIS_RANGE[resource]
    same = least == most == 1
    why = ("the vendor's tool is taken to need as many" if same else
           f"the interval is what the vendor's tool may make of it: {least:g} to {most:g} of the count, assumed")
    return Measurement(quantity=resource, unit="1", kind="estimated", samples=(float(count),),
                       low=float(math.floor(count * least)), high=float(math.ceil(count * most)),
                       source=f"this design synthesised by {tool}; {why}", **rest)
