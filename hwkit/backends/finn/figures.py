"""FINN's estimates as measurements, each with an interval that says what is not known."""

from __future__ import annotations

from hwkit.artifact import ResourceRow
from hwkit.backends.finn.driven import Driven
from hwkit.describe import Figure
from hwkit.measurement import Measurement, Resource

COUNTED: tuple[Resource, ...] = ("LUT", "DSP", "BRAM_18K", "URAM")
HIGH = 2.0
TOOL = "FINN's analytic models of its layers"


def latency_cycles(driven: Driven) -> int:
    """Cycles from an inference's first input to its last output with no overlap between layers.

    FINN's own figure; of a rolled network it gives none: the loop and the layers outside it are added up.
    """
    if driven.performance.critical_path_cycles is not None:
        return driven.performance.critical_path_cycles
    return sum(layer.cycles for layer in driven.layers if not layer.loop)


def resources(driven: Driven) -> list[ResourceRow]:
    """Layer by layer; None where FINN has no model."""
    rows = []
    for layer in driven.layers:
        for resource in COUNTED:
            silent = resource not in layer.used or (resource == "LUT" and not layer.modelled)
            rows.append(ResourceRow(part=layer.name, resource=resource, kind="estimated", source=TOOL,
                                    used=None if silent else layer.used[resource]))
        rows.append(ResourceRow(part=layer.name, resource="FF", used=None, kind="estimated",
                                source="FINN estimates no flip-flops"))
    return rows


def figures(driven: Driven, clock: Figure) -> list[Measurement]:
    """Resources, cycles and times of the whole design, and how far its outputs are from the network's."""
    silent = sum(not layer.modelled for layer in driven.layers)
    found = [_resource(driven, resource, silent) for resource in COUNTED]
    latency, interval = latency_cycles(driven), driven.max_cycles
    assumed = f"{clock.value / 1e6:g} MHz, {clock.kind}: {clock.source}"
    found.append(Measurement(
        quantity="cycles", unit="cycles", kind="estimated", samples=(latency,), low=interval, high=latency,
        source=f"{TOOL}; high: every layer waits for the whole of the one before, low: the slowest layer alone"))
    found.append(Measurement(
        quantity="kernel_latency", unit="s", kind="estimated", samples=(latency / clock.value,),
        low=interval / clock.value, high=latency / clock.value, source=f"those cycles at {assumed}"))
    found.append(Measurement(
        quantity="throughput", unit="1/s", kind="estimated", samples=(clock.value / interval,),
        low=clock.value / latency, high=clock.value / interval,
        source=f"one inference every {interval:,} cycles, for {driven.bottleneck}, at {assumed}; low: inferences "
               "one after the other, as FIFO depths were not simulated"))
    check = driven.checks.hardware
    where = f"FINN's Python execution of its hardware layers against qonnx's executor, {check.inputs} inputs"
    found.append(Measurement(quantity="max_error", unit="1", kind="simulated", samples=(check.largest,),
                             n=check.inputs, source=f"{where}; in units of the outputs"))
    found.append(Measurement(quantity="agreement", unit="1", kind="simulated", n=check.inputs,
                             samples=(check.agree / check.inputs,), source=f"same largest output; {where}"))
    return found


def _resource(driven: Driven, resource: Resource, silent: int) -> Measurement:
    value = driven.used.get(resource, 0.0)
    source = f"{TOOL}, which state no error: up to {HIGH:g} times as much is allowed for, assumed"
    if resource == "LUT" and silent:
        source += f"; {silent} of {len(driven.layers)} layers have no model and are not in it"
    return Measurement(quantity=resource, unit="1", kind="estimated", samples=(value,), low=value,
                       high=HIGH * value, source=source)
