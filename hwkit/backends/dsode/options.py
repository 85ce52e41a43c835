"""What a user may choose when building for the on-chip engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from hwkit.describe import Frozen
from hwkit.options import parsed

Positive = Annotated[int, Field(ge=1)]
LEAST_VERIFIED = 100


class Options(Frozen):
    """How to build the engine.

    precision    w4a4: INT4 weights, INT4 between depthwise and pointwise, INT8 state
    pe           outputs a slot; None: the most that fits, or the least that meets `latency_s`
    multipliers  dsp: packed products in DSP48E2; lut: none of those; auto: LUTs for what DSPs cannot hold
    latency_s    kernel time of an image to be met with the smallest design; None: as fast as fits
    images       test images on which torch and integers must agree and are scored; None for all
    verify       of those, how many also go through QONNX, C simulation and RTL; golden: how many are kept
    synthesise   yes: always, whatever it takes; no: resources are estimated; auto: where it takes minutes
    vendor       auto: vivado and vitis_hls run too, for hours, where they are on PATH; no: they do not
    epochs       of quantisation-aware training, for a network that has no quantised weights of its own
    """

    precision: Literal["w4a4"] = "w4a4"
    pe: Positive | None = None
    multipliers: Literal["auto", "dsp", "lut"] = "auto"
    latency_s: Annotated[float, Field(gt=0)] | None = None
    images: Positive | None = None
    verify: Positive = 128
    golden: Positive = 16
    synthesise: Literal["auto", "yes", "no"] = "auto"
    vendor: Literal["auto", "no"] = "auto"
    epochs: Positive = 4
    seed: Annotated[int, Field(ge=0)] = 0


def parse(given: Mapping[str, str]) -> Options:
    """Options from key=value pairs. Raises BadInput."""
    return parsed(given, Options, "dsode")
