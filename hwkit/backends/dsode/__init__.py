"""The on-chip engine: a whole neural-ODE network of depthwise-separable convolutions in an FPGA's own memories.

One subject a file, in the order data passes through:

    options, outline, forecast     what one may choose; what is known before building
    engine, schedule, program      a design's parameters; its cycles; what its tables hold
    memories, resources, folding   where buffers lie; what a design takes; which design is chosen
    build                          the job, in a child process: calls everything below
    emit, hls, lab                 RTL, HLS C++, and what is taken to the lab
    vendor                         the vendor's tools, where they are installed
    verify, costs                  five forms compared bit for bit; time, energy and bytes
    characterise                   makes the points that `resources` is fitted to
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from hwkit.artifact import BuildPlan, Built, Estimate, Problem, read_built
from hwkit.backends.dsode import forecast, vendor
from hwkit.backends.dsode.options import Options, parse
from hwkit.jobs import command
from hwkit.model import Model
from hwkit.target import Target

QUANTIZE, QUANTIZED = "quantize.json", "quantized.json"
SPEC, RESULT = "spec.json", "result.json"
NETWORK = "network.npz"
TIMEOUT_S = 6 * 3600.0


def options(given: Mapping[str, str], target: Target) -> Options:
    """Frozen options from key=value pairs; see dsode.options. Raises BadInput."""
    del target
    return parse(given)


def check(model: Model, target: Target, options: Options) -> list[Problem]:
    """What stands in the way, from the sizes of the network's layers alone."""
    return forecast.problems(model, target, options)


def estimate(model: Model, target: Target, options: Options) -> Estimate:
    """Cycles, times, energy and resources before anything is built."""
    return forecast.estimate(model, target, options)


def plan(model: Model, target: Target, options: Options) -> BuildPlan:
    """Quantise (or take the integers that are there), then build and verify."""
    model = model.placed(Path.cwd())
    about = model.model_dump(mode="json")
    quantize = {"model": about, "seed": options.seed, "file": NETWORK, "recipe": {"epochs": options.epochs}}
    spec = {"model": about, "target": target.model_dump(mode="json"), "options": options.model_dump(mode="json")}
    return BuildPlan(
        files={QUANTIZE: json.dumps(quantize, indent=2, sort_keys=True),
               SPEC: json.dumps(spec, indent=2, sort_keys=True)},
        commands=(command("hwkit.nn.qat_job:job", QUANTIZE, QUANTIZED, timeout_s=TIMEOUT_S,
                          what=f"quantising {model.name}"),
                  command("hwkit.backends.dsode.build:job", SPEC, RESULT, timeout_s=TIMEOUT_S,
                          what=f"building {model.name} for the chip"),
                  *(vendor.commands() if options.vendor == "auto" else ())))


def collect(build_dir: Path) -> Built:
    """What the job and the vendor's tools wrote. Raises BadInput when nothing has run there."""
    return vendor.collected(read_built(build_dir / RESULT, "build of the on-chip engine"), build_dir)
