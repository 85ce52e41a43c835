"""What can be said about a TFLite build before it is made."""

from __future__ import annotations

from hwkit.artifact import Estimate, Problem
from hwkit.backends._memory import too_large
from hwkit.backends.tflite.options import Options
from hwkit.measurement import Measurement
from hwkit.model import Model
from hwkit.target import Target

FORMATS = ("pt2", "tflite")

# Bytes stored over the float32 bytes of all parameters. Folding takes three of a BatchNorm's four vectors away;
# int8 adds a scale, a zero point and a bias a channel.
_SHARE = {"f32": (0.92, 1.0), "f16": (0.46, 0.52), "dynamic": (0.23, 0.45), "int8": (0.23, 0.45)}
# Graph and options: of a stage's file, of a whole network's, and of each further step of an unrolled ODE block.
_STAGE_BYTES = (700, 20_000)
_WHOLE_BYTES = (1_000, 60_000)
_STEP_BYTES = (500, 6_000)


def problems(model: Model, target: Target, options: Options) -> list[Problem]:
    """Everything that stands in the way, most basic first."""
    found = []
    if model.format not in FORMATS:
        found.append(Problem(message=f"the tflite backend takes {' or '.join(FORMATS)}, "
                                     f"not {model.format_and_why}"))
    if "tflite" not in target.backends:
        found.append(Problem(message=f"target {target.name} has backends {', '.join(target.backends)}, "
                                     "not tflite"))
    if model.format == "tflite":
        found.append(Problem(message=f"{model.name} is deployed as it is: precision and ode are its own",
                             fatal=False))
    elif options.precision not in target.precisions:
        found.append(Problem(message=f"target {target.name} takes {', '.join(target.precisions)}, "
                                     f"not {options.precision}"))
    if options.precision == "int8" and model.format == "pt2" and model.dataset is None and model.data is None:
        found.append(Problem(message="int8 needs real inputs to choose its ranges: give --dataset NAME or --data "
                                     "FILE.npz, or choose precision=f32"))
    found += _ode_problems(model, options)
    return [*found, *too_large(model.name, _flash(model, options), target)]


def _ode_problems(model: Model, options: Options) -> list[Problem]:
    found = []
    if options.ode == "stepped" and not model.stages:
        found.append(Problem(message=f"{model.name} has no ODE steps to run one by one: choose ode=unrolled"))
    for stage in model.stages:
        if stage.times is not None and len(stage.times) != stage.repeat:
            found.append(Problem(message=f"stage {stage.name} runs {stage.repeat} times but has "
                                         f"{len(stage.times)} times"))
    return found


def estimate(model: Model, target: Target, options: Options) -> Estimate:
    """Flash from the number of parameters. Nothing here knows the operators, hence no latency and no arena."""
    flash = _flash(model, options)
    refused = ["latency: it follows from the instruction count, which a run on an emulated board gives",
               "arena: it follows from the graph, which the build gives"]
    if flash is None:
        refused.insert(0, "flash: the number of parameters is not known")
    return Estimate(figures=(flash,) if flash else (), refused=tuple(refused))


def _flash(model: Model, options: Options) -> Measurement | None:
    if model.format == "tflite":
        size = model.path.stat().st_size
        return Measurement(quantity="flash", unit="bytes", kind="estimated", samples=(float(size),),
                           low=float(size), high=float(size), source="the file itself")
    if model.parameter_bytes is None:
        return None
    files = len(model.stages) if model.stages and options.ode != "unrolled" else 1
    steps = sum(stage.repeat - 1 for stage in model.stages)
    low, high = (share * model.parameter_bytes + (files * stage if files > 1 else whole + steps * step)
                 for share, stage, whole, step in zip(_SHARE[options.precision], _STAGE_BYTES, _WHOLE_BYTES,
                                                      _STEP_BYTES, strict=True))
    return Measurement(quantity="flash", unit="bytes", kind="estimated", samples=((low + high) / 2,),
                       low=low, high=high, source=f"{model.parameter_bytes} bytes of float32 parameters "
                       f"in {files} file{'s' if files != 1 else ''} at {options.precision}")
