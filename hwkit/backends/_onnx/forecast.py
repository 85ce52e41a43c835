"""What can be said about ONNX files before they are written."""

from __future__ import annotations

from hwkit.artifact import Problem
from hwkit.backends._memory import too_large
from hwkit.backends._onnx.options import Options
from hwkit.measurement import Measurement
from hwkit.model import Model
from hwkit.samples import GIVE_DATA
from hwkit.target import Target

# Bytes stored over the float32 bytes of all parameters. Folding takes three of a BatchNorm's four vectors away;
# int8 adds a scale a channel, and keeps biases and whatever is left in float.
_SHARE = {"f32": (0.92, 1.01), "f16": (0.46, 0.53), "int8": (0.23, 0.6)}
_FILE_BYTES = (1_000, 60_000)
_STEP_BYTES = (300, 6_000)      # of each further step of an unrolled ODE block
OPSETS = (13, 17)               # the oldest and the newest that are written


def opset(options: Options, newest: int | None) -> int:
    """The opset of the files: what was asked for, else the newest that is written and read."""
    return options.opset or min(OPSETS[1], newest or OPSETS[1])


def takes_given(model: Model, options: Options) -> bool:
    """Whether the user's own ONNX file is deployed, rather than one written anew."""
    if model.onnx is None or options.source == "torch":
        return False
    anew = options.precision == "int8" or options.batch > 1
    return options.source == "given" or model.format == "onnx" or not anew


def problems(model: Model, target: Target, options: Options, backend: str) -> list[Problem]:
    """Everything that stands in the way, most basic first."""
    found = []
    if model.format not in ("pt2", "onnx"):
        found.append(Problem(message=f"the {backend} backend takes a network or an .onnx, not {model.format}"))
    if options.source == "torch" and model.format == "onnx":
        found.append(Problem(message=f"{model.name} cannot be written anew ({model.not_torch}): leave out source"))
    if options.precision not in target.precisions:
        why = " (its GPU has no int8 instructions)" if options.precision == "int8" else ""
        found.append(Problem(message=f"target {target.name} takes {', '.join(target.precisions)}, not "
                                     f"{options.precision}{why}: choose --precision {target.precisions[-1]}"))
    if options.precision == "int8" and model.dataset is None and model.data is None:
        found.append(Problem(message=f"int8 needs real inputs to choose its ranges: {GIVE_DATA}, or choose "
                                     "--precision f16"))
    if options.ode in ("stepped", "loop") and not model.stages:
        found.append(Problem(message=f"{model.name} has no ODE steps to run one by one: leave out ode"))
    if options.opset is not None and not OPSETS[0] <= options.opset <= OPSETS[1]:
        found.append(Problem(message=f"opset {options.opset} is not written: choose {OPSETS[0]} to {OPSETS[1]}"))
    if options.batch > 1 and (model.format == "onnx" or options.source == "given"):
        found.append(Problem(message=f"{model.name} is deployed as the file it is, for one input at a time: leave "
                                     "out batch"))
    return [*found, *too_large(model.name, flash(model, options), target)]


def flash(model: Model, options: Options) -> Measurement | None:
    """Size of the deployed files, from the number of parameters."""
    if model.parameter_bytes is None:
        return None
    steps = sum(stage.repeat - 1 for stage in model.stages) if options.ode in ("auto", "unrolled") else 0
    low, high = (share * model.parameter_bytes + file + steps * step for share, file, step in
                 zip(_SHARE[options.precision], _FILE_BYTES, _STEP_BYTES, strict=True))
    return Measurement(quantity="flash", unit="bytes", kind="estimated", samples=((low + high) / 2,), low=low,
                       high=high, source=f"{model.parameter_bytes} bytes of float32 parameters at "
                                         f"{options.precision}")
