"""TFLite (LiteRT): compile a network for a CPU that runs the TFLite interpreter with XNNPACK.

One subject a file, in the order data passes through:

    options, forecast              what one may choose; what is known before building
    convert                        the job, in a child process: calls everything below
    litert                         from torch to float32 .tflite
    rewrite, stem, slim            fewer instructions and fewer bytes for the same values
    integer                        int8: calibration, one scale for neighbouring stages
    taken                          a .tflite that is deployed as it is
    deployed                       files, golden data, findings and figures, from
        chain                      run the stages (compared with torch by ../_agreement)
        sharing, operators, lifetimes  duplicated weights; delegate, costs; working memory
        slices                     one file an operator
    flat, edit                     the flatbuffer as objects
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from hwkit.artifact import BuildPlan, Built, Estimate, Problem, read_built
from hwkit.backends.tflite import forecast
from hwkit.backends.tflite.options import Options, parse
from hwkit.jobs import command
from hwkit.model import Model
from hwkit.target import Target

SPEC, RESULT = "spec.json", "result.json"
TIMEOUT_S = 3600.0


def options(given: Mapping[str, str], target: Target) -> Options:
    """Frozen options from key=value pairs; see tflite.options. Raises BadInput."""
    del target
    return parse(given)


def check(model: Model, target: Target, options: Options) -> list[Problem]:
    """What stands in the way, without opening the model."""
    return forecast.problems(model, target, options)


def estimate(model: Model, target: Target, options: Options) -> Estimate:
    """Sizes before building; a latency only where there is something to base it on."""
    return forecast.estimate(model, target, options)


def plan(model: Model, target: Target, options: Options) -> BuildPlan:
    """One job that converts, checks and describes.

    The files run on any target; whether its cores have int8 dot products decides how the first layer is laid out.
    """
    spec = {"model": model.placed(Path.cwd()).model_dump(mode="json"), "options": options.model_dump(mode="json"),
            "dot_products": target.cpu is not None and bool({"asimddp", "avx_vnni"} & set(target.cpu.features))}
    return BuildPlan(
        files={SPEC: json.dumps(spec, indent=2, sort_keys=True)},
        commands=(command("hwkit.backends.tflite.convert:job", SPEC, RESULT,
                          what=f"converting {model.name} to TFLite", timeout_s=TIMEOUT_S),))


def collect(build_dir: Path) -> Built:
    """What the job wrote. Raises BadInput when it has not run there."""
    return read_built(build_dir / RESULT, "TFLite build")
