"""What a user may choose when compiling with FINN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from hwkit.describe import Frozen
from hwkit.options import parsed


class Options(Frozen):
    """How FINN is to lay a network out.

    precision    of a network that is not quantised yet: w4a4 is weights of 4 bits and activations of 4, w1a2 to
                 w8a8; a QONNX file says its own
    epochs       of training it so, on the float network's answers; 0: its scales are chosen, nothing is trained
    fps          inferences a second to be reached at the target's clock with as little as possible; None for as
                 many as its resources allow
    ode          unrolled: hardware for every step of a neural ODE; rolled: hardware for one step, run N times,
                 with the state in external memory in between
    thresholds   merged: into the layer in front, in HLS; standalone: a layer of their own, so that matrix
                 products can be RTL on DSP slices
    golden       inputs that FINN's own execution is checked on, kept in the artifact with their outputs
    """

    precision: Annotated[str, Field(pattern=r"^w[1-8]a[2-8]$")] = "w4a4"
    epochs: Annotated[int, Field(ge=0)] = 2
    fps: Annotated[float, Field(gt=0)] | None = None
    ode: Literal["unrolled", "rolled"] = "unrolled"
    thresholds: Literal["merged", "standalone"] = "merged"
    golden: Annotated[int, Field(ge=1)] = 8


def parse(given: Mapping[str, str]) -> Options:
    """Options from key=value pairs. Raises BadInput for an unknown key or a value that does not fit."""
    return parsed(given, Options, "finn")
