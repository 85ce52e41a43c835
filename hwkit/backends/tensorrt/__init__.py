"""TensorRT: ONNX files as its parser takes them, and a plan with which the board builds and times its engines.

An engine belongs to one GPU and one version, so that none is built here. The files are written and checked by
hwkit.backends._onnx; `build`, a job here, adds what is TensorRT's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from hwkit.artifact import BuildPlan, Built, Estimate, Problem, read_built
from hwkit.backends._onnx import forecast
from hwkit.backends._onnx.options import Options, parse
from hwkit.gpu import rtx
from hwkit.gpu.tensorrt import Parser, reads
from hwkit.jobs import command
from hwkit.model import Model
from hwkit.target import Target

NAME = "tensorrt"
NEWEST = "11.0"         # taken where the target does not say which version its board has
INT8_WEIGHTS = 10       # the first major version that takes weights stored as int8
SPEC, RESULT = "spec.json", "result.json"
TIMEOUT_S = 3600.0


def options(given: Mapping[str, str], target: Target) -> Options:
    """Frozen options from key=value pairs; see hwkit.backends._onnx.options. Raises BadInput."""
    return parse(given, target, NAME)


def version(target: Target) -> str:
    """Of the TensorRT that the target's software brings."""
    return target.gpu.jetpack.tensorrt if target.gpu and target.gpu.jetpack else NEWEST


def check(model: Model, target: Target, options: Options) -> list[Problem]:
    """What stands in the way; of a file that is deployed as it is, also what the parser would not read."""
    found = forecast.problems(model, target, options, NAME)
    parser = reads(version(target))
    opset = forecast.opset(options, parser.opset)
    if not forecast.takes_given(model, options):
        if opset > parser.opset:
            found.append(Problem(message=f"TensorRT {parser.version} reads ONNX up to opset {parser.opset}, not "
                                         f"{opset}: choose opset={parser.opset}", decide=True))
        return found
    found += [Problem(message=f"{model.name}: {text}", decide=True) for text in _refused(model, parser)]
    return found


def _refused(model: Model, parser: Parser) -> list[str]:
    import onnx

    assert model.onnx is not None
    again = ", or choose --backend onnxruntime"
    if model.format != "onnx":
        again = f", let --set source=torch write it anew{again}"
    return [f"{text}{again}" for text in parser.refusals(onnx.load(model.onnx, load_external_data=False))]


def estimate(model: Model, target: Target, options: Options) -> Estimate:
    """Sizes before building."""
    flash = forecast.flash(model, options)
    return Estimate(figures=(flash,) if flash else (),
                    refused=("latency: it is bounded from the graph, which the build gives",))


def plan(model: Model, target: Target, options: Options) -> BuildPlan:
    """One job: write, check, describe, and plan what the board does."""
    chosen = version(target)
    spec = {"model": model.placed(Path.cwd()).model_dump(mode="json"), "options": options.model_dump(mode="json"),
            "opset": forecast.opset(options, reads(chosen).opset), "tensorrt": chosen,
            "placement": "gpu" if int(chosen.split(".")[0]) >= INT8_WEIGHTS else "gpu, float weights",
            "target": target.model_dump(mode="json"), "rtx": rtx.installed()}
    return BuildPlan(
        files={SPEC: json.dumps(spec, indent=2, sort_keys=True)},
        commands=(command("hwkit.backends.tensorrt.build:job", SPEC, RESULT, timeout_s=TIMEOUT_S,
                          what=f"writing {model.name} for TensorRT {chosen}"),))


def collect(build_dir: Path) -> Built:
    """What the job wrote. Raises BadInput when it has not run there."""
    return read_built(build_dir / RESULT, "TensorRT build")
