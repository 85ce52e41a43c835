"""What a user may choose when building for TFLite."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from hwkit.describe import Frozen
from hwkit.errors import BadInput

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
    """Options from key=value pairs. Raises BadInput for an unknown key or a value that does not fit."""
    known = list(Options.model_fields)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise BadInput(f"the tflite backend has no option {key!r}{meant}", f"options: {', '.join(known)}")
    values = {key: None if key == "images" and value == "all" else value for key, value in given.items()}
    try:
        return Options.model_validate(values)
    except ValidationError as e:
        error = e.errors()[0]
        key = str(error["loc"][0])
        raise BadInput(f"option {key}={given[key]}: {error['msg'][0].lower()}{error['msg'][1:]}",
                       f"e.g. {key}={Options.model_fields[key].default or 100}") from None
