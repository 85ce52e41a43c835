"""FINN: a dataflow accelerator, one hardware layer a network layer, with no vendor tool.

Estimates and generated code (HLS C++, Verilog) of a QONNX file. FINN lives in an environment of its own
(`hwkit toolchain install finn`) and is driven from outside. One subject a file, in the order data passes through:

    options, refusals   what one may choose; what cannot be built, before any tool starts
    reference           a job here: inputs, wanted outputs, rounding ties
    driver/             runs inside FINN's environment; JSON in, JSON out
    gather              a job here: what FINN wrote, as hwkit.artifact.Built, with
        figures         estimates with intervals
        findings        what was checked, and what FINN does not say
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwkit.artifact import BuildPlan, Built, Command, Estimate, Problem, read_built
from hwkit.backends.finn.options import Options, parse
from hwkit.data import cache_root
from hwkit.errors import BadInput
from hwkit.jobs import command
from hwkit.measurement import RESOURCES
from hwkit.model import Model
from hwkit.samples import GIVE_DATA
from hwkit.target import Fpga, Target
from hwkit.toolchains import finn

SPEC, REFERENCE, DRIVEN, RESULT = "spec.json", "reference.json", "finn.json", "result.json"
DRIVER = Path(__file__).resolve().parent / "driver"
QUANTISE, QUANTISED, QONNX = "quantise.json", "quantised.json", "quantised.qonnx.onnx"
CALIBRATION, TRAINING = 128, 8192      # images
JOB_S = 1800.0
QUANTISE_S = 6 * 3600.0
FINN_S = 3600.0
MEMORY_BYTES = 24 * 2**30     # address space, of which FINN's libraries take several GiB without using them
ESTIMATED = ("LUT", "DSP", "BRAM_18K", "URAM")


def options(given: Mapping[str, str], target: Target) -> Options:
    """Frozen options from key=value pairs; see finn.options. Raises BadInput."""
    del target
    return parse(given)


def check(model: Model, target: Target, options: Options) -> list[Problem]:
    """What stands in the way, from the file alone; that FINN is not installed is said too, and not fatal."""
    from hwkit.backends.finn.refusals import refusals

    if target.fpga is None:
        return [Problem(message=f"{target.name} has no programmable logic")]
    missing = [] if finn.installed() else [Problem(message=f"FINN is not installed: {finn.HINT}", fatal=False)]
    if model.format == "qonnx":
        return [*refusals(model.path), *missing]
    if model.format != "pt2":
        return [Problem(message=f"FINN takes a network or a QONNX file; {model.name} is {model.format_and_why}")]
    if model.dataset is None and model.data is None:
        return [Problem(message=f"{model.name} is not quantised, and without real images no range can be chosen "
                                f"({GIVE_DATA})")]
    return missing


def estimate(model: Model, target: Target, options: Options) -> Estimate:
    """Nothing: FINN's estimates come from its layers, which only a build makes."""
    del model, target, options
    return Estimate(refused=tuple(f"{q}: FINN estimates it while building" for q in (*ESTIMATED, "cycles")))


def plan(model: Model, target: Target, options: Options) -> BuildPlan:
    """Wanted outputs, FINN, and what it says. Raises ToolMissing, BadInput."""
    fpga = _fpga(target)
    python = finn.python()
    log = cache_root() / "logs" / f"finn-{model.name}.log"
    model = model.placed(Path.cwd())
    quantise: tuple[Command, ...] = ()
    files: dict[str, str] = {}
    if model.format == "pt2":
        files[QUANTISE] = json.dumps(_quantise(model, options), indent=2, sort_keys=True)
        quantise = (command("hwkit.nn.ptq:job", QUANTISE, QUANTISED, timeout_s=QUANTISE_S,
                            what=f"quantising {model.name}"),)
        model = model.model_copy(update={"path": Path(QONNX), "format": "qonnx", "stages": ()})
    spec = {
        "model": model.model_dump(mode="json"), "options": options.model_dump(mode="json"),
        "clock": fpga.clock_hz.model_dump(mode="json"),
        "finn": {"model": str(model.path), "part": fpga.part, "clock_hz": fpga.clock_hz.value,
                 "limits": {r: fpga.limit(r) for r in RESOURCES if r in ESTIMATED}, "target_fps": options.fps,
                 "rolled": options.ode == "rolled", "standalone_thresholds": options.thresholds == "standalone",
                 "golden": "golden.npz", "log": str(log)}}
    driver = ("env", "PYTHONHASHSEED=0", f"PYTHONPATH={DRIVER}", "OMP_NUM_THREADS=1", str(python), "-P", "-m",
              "finn_driver", SPEC, DRIVEN)
    return BuildPlan(
        files={**files, SPEC: json.dumps(spec, indent=2, sort_keys=True)},
        commands=(
            *quantise, command("hwkit.backends.finn.reference:job", SPEC, REFERENCE, timeout_s=JOB_S,
                    what=f"executing {model.name}"),
            Command(what=f"compiling {model.name} with FINN", argv=driver, timeout_s=FINN_S,
                    memory_bytes=MEMORY_BYTES),
            command("hwkit.backends.finn.gather:job", SPEC, RESULT, timeout_s=JOB_S,
                    what=f"reading what FINN made of {model.name}")))


def _quantise(model: Model, options: Options) -> dict[str, Any]:
    """The job that makes a QONNX file of a float network."""
    weights, activations = map(int, options.precision[1:].split("a"))
    return {"path": str(model.path), "name": model.name, "input_shape": list(model.input_shape),
            "dataset": model.dataset, "data": str(model.data) if model.data else None, "weight_bits": weights,
            "activation_bits": activations, "epochs": options.epochs, "calibration": CALIBRATION,
            "images": TRAINING, "seed": 0, "out": QONNX}


def _fpga(target: Target) -> Fpga:
    if target.fpga is None:
        raise BadInput(f"{target.name} has no programmable logic", "hwkit list targets")
    return target.fpga


def collect(build_dir: Path) -> Built:
    """What FINN made. Raises BadInput when it has not run there."""
    return read_built(build_dir / RESULT, "FINN build")
