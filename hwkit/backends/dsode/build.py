"""The build job: a Model in; a verified design, its reports and the lab's files out.

Runs in a child process, in the build folder: it imports torch, and starts compilers and simulators.
"""

from __future__ import annotations

import importlib.metadata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwkit.artifact import Built, Finding, Operator, StageFile
from hwkit.backends.dsode import NETWORK, costs, emit, folding, lab, program, resources, schedule, verify
from hwkit.backends.dsode.options import Options
from hwkit.eda import levels, yosys
from hwkit.eda.verilator import Bench, Simulated
from hwkit.eda.verilator import version as verilator_version
from hwkit.errors import BadInput
from hwkit.files import write_json
from hwkit.integer import separable
from hwkit.integer.separable import IntegerNetwork, convolutions
from hwkit.jobs import Say
from hwkit.measurement import RESOURCES, Measurement, Unit, synthesised
from hwkit.model import Model
from hwkit.nn.dyadic import DyadicNetwork
from hwkit.nn.from_integer import from_integer
from hwkit.nn.qat import Teacher, input_ties, outputs
from hwkit.nn.qonnx import export_qonnx, run_qonnx
from hwkit.nn.separable import extract
from hwkit.samples import GIVE_DATA, Samples, samples
from hwkit.target import Target

QONNX = "network.qonnx.onnx"
PACKAGES = ("torch", "brevitas", "qonnx", "numpy")
QUICK_S = 180.0                  # a synthesis that takes longer is left out unless it is asked for
ALONE = 2                        # images that the QONNX file itself runs, one at a time


@dataclass(frozen=True)
class _Synthesis:
    """What synthesis told, or why there was none."""

    done: yosys.Synthesis | None
    levels: levels.Levels | None
    why_not: str = ""


def job(spec: dict[str, Any], say: Say) -> dict[str, Any]:
    """{"model": Model, "target": Target, "options": Options} -> Built; files go under the current folder.

    The integer network is in NETWORK already: hwkit.nn.qat_job made it, or it was shipped.
    """
    model, options = Model.model_validate(spec["model"]), Options.model_validate(spec["options"])
    target = Target.model_validate(spec["target"])
    torch.set_num_threads(1)
    folder = Path()
    network = separable.load(folder / NETWORK)
    inputs = _inputs(model, options)
    say("folding")
    assert target.fpga is not None
    folded = folding.fold(network, target.fpga, options)
    bits = emit.stream_bits(folded.engine, target.fpga.stream_bits)
    bench = emit.write_design(network, folded.engine, bits, folder / "engine")
    write_json(folder / "engine" / "design.json", folded.engine.model_dump(mode="json"))
    lab.emit(network, folded.engine, bits, target.fpga.part, target.fpga.clock_hz.value, folder / "engine")
    with ThreadPoolExecutor(1) as pool:              # beside the verification: it is a process of its own
        synthesising = pool.submit(_synthesise, folded, options, folder)
        findings, figures, simulated = _verified(network, model, folded, bench, inputs, options, folder, say)
        if not synthesising.done():
            say("synthesis")
        synthesis = synthesising.result()
    figures += _costs(network, folded, target, synthesis, simulated)
    findings += _design_findings(network, folded, synthesis, simulated)
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*")
                   if p.is_file() and p.parts[0] in ("engine", "golden", QONNX, NETWORK))
    versions = {name: importlib.metadata.version(name) for name in PACKAGES} | {"verilator": verilator_version()}
    if synthesis.done:
        versions["pyosys"] = yosys.version()
    built = Built(
        files=tuple(files), stages=(StageFile(name="engine", file="engine/design.json"),),
        operators=tuple(_operators(network, folded)), findings=tuple(findings), figures=tuple(figures),
        memory=folded.placement.rows(), operator_unit="cycles", operator_kind="simulated", tool_versions=versions,
        details={"bench": bench.model_dump(mode="json"), "engine": folded.engine.model_dump(mode="json"),
                 "input_shape": list(network.state_shape), "output_scale": network.head.output_scale})
    return built.model_dump(mode="json")


def _inputs(model: Model, options: Options) -> Samples:
    found = samples(model.input_shape, 1, model.dataset, model.data).first(options.images)
    if found.random:
        raise BadInput(f"verifying {model.name} needs real images, and it names no data set", GIVE_DATA)
    return found


def _synthesise(folded: folding.Folded, options: Options, folder: Path) -> _Synthesis:
    if options.synthesise == "no":
        return _Synthesis(None, None, "synthesise=no")
    expected_s = resources.synthesis_s(folded.engine, folded.placement)
    if options.synthesise == "auto" and expected_s > QUICK_S:
        return _Synthesis(None, None, f"it would take about {expected_s / 60:.0f} minutes; --set synthesise=yes")
    done = emit.synthesise(folded.engine, folder / "engine", folder / "synthesis", lambda text: None)
    assert done.netlist_json is not None
    return _Synthesis(done, levels.longest(done.netlist_json, emit.TOP))


def _verified(network: IntegerNetwork, model: Model, folded: folding.Folded, bench: Bench, inputs: Samples,
              options: Options, folder: Path, say: Say) -> tuple[list[Finding], list[Measurement], Simulated]:
    """The five forms on the same images; accuracy on all of them; golden data."""
    images = inputs.images
    few = min(options.verify, len(images))
    told = verify.reference(network, images, max(few, options.golden), say)
    module = from_integer(network)
    say(f"torch: {len(images)} images")
    findings = [verify.torch_agrees(_outputs(module, images), told.logits, network.head.output_scale)]
    findings.append(_qonnx(module, model, images[:few], told.logits[:few], folder, say))
    states, results = told.states[:few], told.results[:few]
    findings.append(verify.hls_agrees(folder / "engine" / "lab" / "hls", states, results, say))
    rtl, simulated, given = verify.rtl_agrees(bench, folder / "engine", folded.engine, states, results,
                                              folder / "simulation", say)
    findings.append(rtl)
    figures = _accuracy(model, images, inputs, told.logits)
    if inputs.labels is not None:
        answers = network.head(given).argmax(1)
        right, wanted = (int(np.sum(a == inputs.labels[:few])) for a in (answers, told.logits[:few].argmax(1)))
        findings.append(Finding(name="accuracy of the RTL", ok=right == wanted,
                                text=f"{right} of {few} right, the integer reference {wanted}"))
    ties = input_ties(torch.from_numpy(images), network.stem.input_scale)
    findings += [
        verify.verdict(findings[:4]),
        Finding(name="rounding ties", ok=None, text=(
            f"{ties:,} of {images.size:,} image values lie between two INT8 steps and go to the even one; on the "
            "chip every rounding is downwards, so there are none")),
        Finding(name="inputs", ok=None, text=inputs.source if model.data else
                f"data set {model.dataset}: {len(images)} test images")]
    _golden(folder, folded, told, images, inputs, options.golden)
    return findings, figures, simulated


def _qonnx(module: DyadicNetwork, model: Model, images: NDArray[np.float32], wanted: NDArray[np.int64],
           folder: Path, say: Say) -> Finding:
    """Write the QONNX file; run it on the first images, and the same network for a whole batch on all of them.

    The executor takes as long for a batch as for one image.
    """
    export_qonnx(module, model.input_shape, folder / QONNX)
    many = folder / "simulation" / QONNX
    many.parent.mkdir(exist_ok=True)
    export_qonnx(module, model.input_shape, many, batch=len(images))

    def run(some: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([run_qonnx(folder / QONNX, some[:ALONE]), run_qonnx(many, some)[ALONE:]])

    return verify.qonnx_agrees(run, images, wanted, module.head.output_scale, say)


def _outputs(network: Teacher, images: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = outputs(network, torch.from_numpy(images)).numpy()
    return found


def _accuracy(model: Model, images: NDArray[np.float32], inputs: Samples, logits: NDArray[np.int64],
              ) -> list[Measurement]:
    """agreement, and with labels both accuracies."""
    trained = _outputs(extract(model.stages, model.name, model.input_shape), images).argmax(1)
    answers, n = logits.argmax(1), len(images)

    def measured(quantity: str, share: float, source: str) -> Measurement:
        return Measurement(quantity=quantity, unit="1", kind="measured", samples=(share,), n=n, source=source,
                           conditions={"inputs": inputs.source})

    found = [measured("agreement", float(np.mean(answers == trained)),
                      f"the integer reference's answer against the trained float network's, {n} inputs")]
    if inputs.labels is not None:
        found += [measured("accuracy_float", float(np.mean(trained == inputs.labels)),
                           f"the trained float network on the build machine, {n} labelled inputs"),
                  measured("accuracy", float(np.mean(answers == inputs.labels)),
                           f"the integer reference on the build machine, the same {n} labelled inputs; the RTL "
                           "repeats the first of them bit for bit, see Checks")]
    return found


def _golden(folder: Path, folded: folding.Folded, told: verify.Reference, images: NDArray[np.float32],
            inputs: Samples, count: int) -> None:
    """Images, states as they cross the bus, and the answers."""
    place = folder / "golden"
    place.mkdir(exist_ok=True)
    last = len(folded.engine.shapes) - 1
    arrays: dict[str, NDArray[Any]] = {
        "inputs": images[:count].astype(np.float32), "outputs": told.logits[:count],
        "states": program.pack_state(told.states[:count], folded.engine, 0),
        "results": program.pack_state(told.results[:count], folded.engine, last)}
    if inputs.labels is not None:
        arrays["labels"] = inputs.labels[:count]
    for name, array in arrays.items():
        np.save(place / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)


def _costs(network: IntegerNetwork, folded: folding.Folded, target: Target, synthesis: _Synthesis,
           simulated: Simulated) -> list[Measurement]:
    assert target.fpga is not None
    engine = folded.engine
    cycles, total = max(simulated.run_cycles), max(simulated.total_cycles)
    told = f"the RTL simulated by Verilator over {len(simulated.run_cycles)} images"
    found = [_simulated("cycles", "cycles", cycles, f"{told}, from its start to its last write"),
             _simulated("lane_utilisation", "1", schedule.busy(network, engine, cycles),
                        f"{schedule.macs(network, engine):,} multiply-accumulates of the network, "
                        f"{engine.pointwise_lanes:,} pointwise and {engine.depthwise_lanes:,} depthwise lanes, "
                        "all cycles of the run")]
    found += costs.times(network, engine, target, cycles, told, total)
    counts = _counts(folded, synthesis)
    luts = next(m for m in counts if m.quantity == "LUT")
    energy = costs.energy(network, engine, folded.placement, target.fpga, cycles,
                          (luts.low or luts.value, luts.high or luts.value))
    found += [m for m in (energy, costs.idle(target.fpga)) if m is not None] + counts
    if synthesis.levels is not None:
        worst = synthesis.levels.worst
        found.append(Measurement(
            quantity="logic_levels", unit="1", kind="estimated", samples=(float(worst.luts),),
            low=float(worst.luts), high=float(worst.luts),
            source=f"LUTs on the longest path between registers of the synthesised netlist, with {worst.chains} "
                   "carry chains; it stands in for a clock, which only placing and routing would give"))
    return found + costs.placed_bytes(folded.placement)


def _simulated(quantity: str, unit: Unit, value: float, source: str) -> Measurement:
    return Measurement(quantity=quantity, unit=unit, kind="simulated", samples=(float(value),), source=source)


def _counts(folded: folding.Folded, synthesis: _Synthesis) -> list[Measurement]:
    """LUT, FF, DSP, BRAM_18K and URAM: synthesised, or foretold."""
    if synthesis.done is not None:
        counts = synthesis.done.resources.counts()
        return [synthesised(name, counts[name.lower()], synthesis.done.tool) for name in RESOURCES]
    return resources.figures(folded.engine, folded.placement, f"not synthesised: {synthesis.why_not}")


def _design_findings(network: IntegerNetwork, folded: folding.Folded, synthesis: _Synthesis, simulated: Simulated,
                     ) -> list[Finding]:
    engine = folded.engine
    foretold = schedule.cycles(network, engine)
    same = set(simulated.run_cycles) == {foretold}
    found = [
        Finding(name="quantised", ok=None, text=network.history[-1] if network.history else "before it came here"),
        Finding(name="cycles as scheduled", ok=same,
                text=f"{foretold:,} foretold, {' and '.join(f'{c:,}' for c in sorted(set(simulated.run_cycles)))} "
                     "simulated"),
        Finding(name="folding", ok=None,
                text=f"PE {engine.pe}, SIMD {engine.simd}: {engine.pointwise_lanes:,} pointwise and "
                     f"{engine.depthwise_lanes:,} depthwise products a cycle in {engine.dsps:,} DSP48E2"
                     + (f" and {engine.lut_blocks * engine.simd * 4:,} in LUTs" if engine.lut_blocks else "")
                     + f"; {folded.bottleneck}"),
        Finding(name="on chip", ok=folded.placement.off_chip_bytes == 0,
                text=f"{folded.placement.on_chip_bytes:,.0f} bytes in {len(folded.placement.placed)} buffers, "
                     f"{folded.placement.off_chip_bytes:.0f} off chip; weights once for all solver steps"),
        Finding(name="vendor tools", ok=None, text="not run: what is in engine/lab was made from templates and "
                "simulated with open tools only")]
    if synthesis.done is None:
        found.append(Finding(name="synthesis", ok=None, text=(
            f"left out: {synthesis.why_not}; LUT and FF are foretold")))
    if synthesis.levels is not None:
        worst = synthesis.levels.worst
        found.append(Finding(name="logic levels", ok=None,
                             text=f"{worst.luts} LUTs and {worst.chains} carry chain"
                                  f"{'s' if worst.chains != 1 else ''} at most between registers: {worst.text()}"))
    return found


def _operators(network: IntegerNetwork, folded: folding.Folded) -> list[Operator]:
    """One row a convolution: its passes are alike; the cycles are those until the next pass may start."""
    passes = schedule.passes(network, folded.engine)
    found = []
    for index, (name, conv) in enumerate(convolutions(network)):
        own = [p for p in passes if p.convolution == index]
        at = folded.engine.shapes[own[0].shape]
        height, width = (-(-n // conv.stride) for n in (at.height, at.width))
        found.append(Operator(
            index=index, name="depthwise-separable, strided" if conv.stride > 1 else "depthwise-separable",
            stage=name, repeat=len(own), output_shape=(conv.outputs, height, width), datatype="INT4",
            delegate="engine", macs=height * width * conv.inputs * (9 + conv.outputs),
            weight_bytes=-(-(conv.depthwise.size + conv.pointwise.size) // 2),
            cost=sum(at.slots + p.gap for p in own) / len(own)))
    return found
