"""What a user may choose when compiling with FINN."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from hwkit.describe import Frozen
from hwkit.errors import BadInput

EXAMPLES = {"precision": "as-given", "fps": "1000", "ode": "rolled", "thresholds": "standalone", "golden": "8"}


class Options(Frozen):
    """How FINN is to lay a network out.

    precision    as-given: a QONNX file says its own
    fps          inferences a second to be reached at the target's clock with as little as possible; None for as
                 many as its resources allow
    ode          unrolled: hardware for every step of a neural ODE; rolled: hardware for one step, run N times,
                 with the state in external memory in between
    thresholds   merged: into the layer in front, in HLS; standalone: a layer of their own, so that matrix
                 products can be RTL on DSP slices
    golden       inputs that FINN's own execution is checked on, kept in the artifact with their outputs
    """

    precision: Literal["as-given"] = "as-given"
    fps: Annotated[float, Field(gt=0)] | None = None
    ode: Literal["unrolled", "rolled"] = "unrolled"
    thresholds: Literal["merged", "standalone"] = "merged"
    golden: Annotated[int, Field(ge=1)] = 8


def parse(given: Mapping[str, str]) -> Options:
    """Options from key=value pairs. Raises BadInput for an unknown key or a value that does not fit."""
    known = list(Options.model_fields)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise BadInput(f"the finn backend has no option {key!r}{meant}", f"options: {', '.join(known)}")
    values = {key: None if key == "fps" and value == "max" else value for key, value in given.items()}
    try:
        return Options.model_validate(values)
    except ValidationError as e:
        error = e.errors()[0]
        key = str(error["loc"][0])
        raise BadInput(f"option {key}={given[key]}: {error['msg'][0].lower()}{error['msg'][1:]}",
                       f"e.g. {key}={EXAMPLES[key]}") from None
