"""What a user may choose when building ONNX files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from hwkit.describe import Frozen
from hwkit.options import parsed
from hwkit.target import Target

Precision = Literal["f32", "f16", "int8"]
Cut = Literal["auto", "unrolled", "stepped", "loop"]
Source = Literal["auto", "given", "torch"]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Options(Frozen):
    """How to write ONNX files, and what to check them with.

    precision     f32; f16: float16 inside; int8: QuantizeLinear and DequantizeLinear around convolutions and
                  products, ranges from calibration. Default: the last that the target has
    ode           unrolled: one file with all steps; stepped: an ODE block's step is a file of its own, run N
                  times; loop: one file with a Loop; auto: unrolled, and stepped beside it to be timed
    source        of a model that was an ONNX file: given, that file itself; torch, written anew; auto: given, but
                  where that can be anew for int8, since BatchNorm is folded before ranges are chosen, and batches
    opset         of files written anew; default: the newest up to 17 that the target's TensorRT reads
    batch         inputs at once
    largest_drop  share of the right answers that int8 may cost on images kept for this choice; while it costs
                  more, the layer that is worst alone goes back to float16. 1: never
    selection     training images for that choice
    calibration   training images that set the integer ranges
    golden        test images kept in the artifact with their outputs
    images        test images to score on; None for all
    beside        also the files of the next wider precision, to be timed beside (did it get faster?)
    """

    precision: Precision
    ode: Cut = "auto"
    source: Source = "auto"
    opset: int | None = Field(default=None, ge=7)
    batch: Count = 1
    largest_drop: Share = 0.01
    selection: Count = 1024
    calibration: Count = 128
    golden: Count = 32
    images: Count | None = None
    beside: bool = True


def parse(given: Mapping[str, str], target: Target, backend: str) -> Options:
    """Options from key=value pairs. Raises BadInput."""
    last = target.precisions[-1]
    default = last if last in ("f32", "f16", "int8") else "f32"
    return parsed({"precision": default, **given}, Options, backend)
