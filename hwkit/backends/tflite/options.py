"""What a user may choose when building for TFLite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from hwkit.describe import Frozen
from hwkit.options import parsed

Precision = Literal["f32", "f16", "dynamic", "int8"]
Cut = Literal["auto", "stepped", "unrolled"]
Count = Annotated[int, Field(ge=1)]


class Options(Frozen):
    """How to compile for TFLite.

    precision    f32; f16: weights stored as float16, computed in float32; dynamic: int8 weights, float32
                 activations quantised while running; int8: integers throughout, ranges from calibration
    ode          stepped: an ODE block's single step is a file of its own, run N times; unrolled: one file
                 with all steps; auto: stepped where the model has steps
    calibration  training images that set the integer ranges
    golden       test images kept in the artifact with their outputs
    images       test images to score on; None for all
    """

    precision: Precision = "int8"
    ode: Cut = "auto"
    calibration: Count = 128
    golden: Count = 32
    images: Count | None = None


def parse(given: Mapping[str, str]) -> Options:
    """Options from key=value pairs; images=all for every image. Raises BadInput."""
    return parsed(given, Options, "tflite")
