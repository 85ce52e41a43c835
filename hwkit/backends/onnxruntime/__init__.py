"""ONNX Runtime: one ONNX file, or one a stage, for its CPU, CUDA and TensorRT execution providers.

The files are written by hwkit.backends._onnx; which provider executes them is the board's matter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from hwkit.artifact import BuildPlan, Built, Estimate, Problem, read_built
from hwkit.backends._onnx import forecast
from hwkit.backends._onnx.options import Options, parse
from hwkit.jobs import command
from hwkit.model import Model
from hwkit.target import Target

NAME = "onnxruntime"
SPEC, RESULT = "spec.json", "result.json"
TIMEOUT_S = 3600.0


def options(given: Mapping[str, str], target: Target) -> Options:
    """Frozen options from key=value pairs; see hwkit.backends._onnx.options. Raises BadInput."""
    return parse(given, target, NAME)


def check(model: Model, target: Target, options: Options) -> list[Problem]:
    """What stands in the way, without opening the model."""
    return forecast.problems(model, target, options, NAME)


def estimate(model: Model, target: Target, options: Options) -> Estimate:
    """Sizes before building."""
    flash = forecast.flash(model, options)
    return Estimate(figures=(flash,) if flash else (), refused=("latency: a run gives it",))


def plan(model: Model, target: Target, options: Options) -> BuildPlan:
    """One job that writes, checks and describes."""
    spec = {"model": model.placed(Path.cwd()).model_dump(mode="json"), "options": options.model_dump(mode="json"),
            "opset": forecast.opset(options, None), "placement": "gpu" if target.gpu else "cpu",
            "target": target.model_dump(mode="json")}
    return BuildPlan(
        files={SPEC: json.dumps(spec, indent=2, sort_keys=True)},
        commands=(command("hwkit.backends._onnx.convert:job", SPEC, RESULT, timeout_s=TIMEOUT_S,
                          what=f"writing {model.name} as ONNX"),))


def collect(build_dir: Path) -> Built:
    """What the job wrote. Raises BadInput when it has not run there."""
    return read_built(build_dir / RESULT, "ONNX build")
