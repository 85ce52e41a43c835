"""What is known of a design before it is built: whether it fits, its cycles, its resources, its times."""

from __future__ import annotations

from hwkit.artifact import Estimate, Problem
from hwkit.backends.dsode import costs, folding, resources, schedule
from hwkit.backends.dsode.options import Options
from hwkit.backends.dsode.outline import outline
from hwkit.errors import BadInput
from hwkit.measurement import Measurement
from hwkit.model import Model
from hwkit.target import Target


def problems(model: Model, target: Target, options: Options) -> list[Problem]:
    """What stands in the way; layers, channels, folding and size are all judged here, before any tool starts."""
    if options.precision not in target.precisions:
        return [Problem(message=f"{target.name} takes {', '.join(target.precisions)}, not {options.precision}")]
    if target.fpga is None:
        return [Problem(message=f"{target.name} has no programmable logic")]
    if model.format != "pt2":
        return [Problem(message=f"the on-chip engine is made from a network with its ODE blocks, not from "
                                f"{model.format_and_why}")]
    if any(stage.times is not None for stage in model.stages):
        timed = next(stage.name for stage in model.stages if stage.times is not None)
        return [Problem(message=f"stage {timed} takes the time as an input; the on-chip engine runs f(z), and "
                                "f(z, t) only as biases that change from step to step")]
    try:
        folding.fold(outline(model), target.fpga, options)
    except BadInput as e:
        return [Problem(message=f"{e.message} ({e.hint})" if e.hint else e.message)]
    found = []
    if model.quantized is None:
        found.append(Problem(fatal=False, message=f"{model.name} has no quantised weights: the build trains them, "
                             f"{options.epochs} epochs"))
    return found


def estimate(model: Model, target: Target, options: Options) -> Estimate:
    """Cycles are exact; resources come from the fit, times from the assumed clock."""
    if model.format != "pt2" or target.fpga is None:
        return Estimate(refused=("everything: the on-chip engine cannot be made of it",))
    try:
        network = outline(model)
        folded = folding.fold(network, target.fpga, options)
    except BadInput as e:
        return Estimate(refused=(f"everything: {e.message}",))
    engine, cycles = folded.engine, folded.cycles
    counts = resources.figures(engine, folded.placement, "")
    luts = counts[0]
    told = f"the schedule of {len(schedule.passes(network, engine))} passes, which the RTL keeps to the cycle"
    figures: list[Measurement | None] = [
        Measurement(quantity="cycles", unit="cycles", kind="estimated", samples=(float(cycles),),
                    low=float(cycles), high=float(cycles), source=told),
        *costs.times(network, engine, target, cycles, "foretold"),
        costs.energy(network, engine, folded.placement, target.fpga, cycles,
                     (luts.low or luts.value, luts.high or luts.value)),
        *counts, *(m.model_copy(update={"kind": "estimated", "low": m.value, "high": m.value})
                   for m in costs.placed_bytes(folded.placement))]
    return Estimate(figures=tuple(m for m in figures if m is not None), refused=(f"faster: {folded.bottleneck}",))
