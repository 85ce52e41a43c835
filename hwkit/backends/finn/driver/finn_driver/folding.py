"""PE and SIMD of every layer: as fast as the resources allow, or as fast as wished, and always legal."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from finn.analysis.fpgadataflow.dataflow_performance import dataflow_performance
from finn.transformation.fpgadataflow.annotate_cycles import AnnotateCycles
from finn.transformation.fpgadataflow.set_folding import SetFolding
from finn.transformation.qonnx.give_unique_node_names_recursive import GiveUniqueNodeNamesRecursive
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from ._telling import Refused, say
from .layers import layers, totals
from .rolling import bodies

SLOWEST = 2**62
WIDEST_WEIGHTS_BITS = 1024     # of the stream into one PE; FINN's default, 36, is meant for small parts
TRIES = 14
LOOP_OVERHEAD_CYCLES = 40      # FINNLoop's own, a step


@dataclass(frozen=True)
class Folded:
    """A folded model and its estimates.

    cycles       of the slowest layer (a whole FINNLoop is one): a new inference starts every so many
    bottleneck   that layer's name
    """

    model: ModelWrapper
    cycles: int
    bottleneck: str
    rows: list[dict[str, Any]]
    used: dict[str, float]


def _setting(target_cycles: int) -> SetFolding:
    return SetFolding(target_cycles, mvau_wwidth_max=WIDEST_WEIGHTS_BITS, two_pass_relaxation=True)


def folded(model: ModelWrapper, target_cycles: int, part: str) -> Folded:
    """The model with every layer just fast enough for `target_cycles`, or as fast as it can be."""
    new = copy.deepcopy(model)
    for node in new.get_nodes_by_op_type("FINNLoop"):      # all its steps together have as long as any other layer
        loop = getCustomOp(node)
        steps = loop.get_nodeattr("iteration")
        body = loop.get_nodeattr("body").transform(_setting(max(1, target_cycles // steps - LOOP_OVERHEAD_CYCLES)))
        loop.set_nodeattr("body", body.graph)
    new = new.transform(_setting(target_cycles)).transform(GiveUniqueNodeNamesRecursive())
    new = new.transform(AnnotateCycles(), apply_to_subgraphs=True).transform(AnnotateCycles())
    speed = new.analysis(dataflow_performance)
    rows = layers(new, part)
    return Folded(new, int(speed["max_cycles"]), str(speed["max_cycles_node_name"]), rows, totals(rows))


def over(found: Folded, limits: dict[str, int]) -> str | None:
    """The resource that is exceeded most, or None when all fit."""
    share = {r: found.used[r] / max(limits[r], 1e-9) for r in limits if found.used[r] > limits[r]}
    return max(share, key=lambda r: share[r]) if share else None


def _largest(found: Folded, resource: str) -> str:
    row = max(found.rows, key=lambda r: r["used"].get(resource, 0))
    return f"{row['name']} takes {row['used'].get(resource, 0):,.0f}"


def _too_large(found: Folded, resource: str, limits: dict[str, int], what: str) -> str:
    return (f"{what} needs {found.used[resource]:,.0f} {resource} of the {limits[resource]:,} allowed, "
            f"{found.used[resource] / max(limits[resource], 1) - 1:.0%} too many; {_largest(found, resource)}")


def choose(model: ModelWrapper, part: str, limits: dict[str, int], target_cycles: int | None) -> Folded:
    """The folding for `target_cycles`, or the fastest one within `limits` when that is None.

    Raises Refused when the slowest one does not fit, or when the wished speed cannot be had.
    """
    slowest = folded(model, SLOWEST, part)
    if (worst := over(slowest, limits)) is not None:
        raise Refused(_too_large(slowest, worst, limits, "the network at its smallest folding"),
                      "use fewer channels or bits, ode=rolled for a neural ODE, or a larger part")
    if target_cycles is not None:
        for hurry in (1, 2, 4, 8):       # a FINNLoop's first step takes longer than the target shares out to it
            wished = folded(model, max(1, target_cycles // hurry), part)
            if wished.cycles <= target_cycles and over(wished, limits) is None:
                return wished
    fastest = _fastest(model, part, limits, slowest)
    if target_cycles is None or fastest.cycles <= target_cycles:
        return fastest
    raise Refused(f"one inference every {target_cycles:,} cycles cannot be had: the fastest folding that fits "
                  f"takes {fastest.cycles:,}, for {fastest.bottleneck}", "leave fps out to get that one")


def _fastest(model: ModelWrapper, part: str, limits: dict[str, int], slowest: Folded) -> Folded:
    """Bisection over the target, which FINN's resources fall with; the best that fits is kept, not the last."""
    best = slowest
    low, high = 0.0, float(np.log2(slowest.cycles))      # everything at or above `high` fits
    for attempt in range(TRIES):
        say(f"folding: {attempt + 1} of {TRIES}")
        middle = 0.0 if attempt == 0 else (low + high) / 2
        found = folded(model, max(1, round(2**middle)), part)
        if over(found, limits) is None:
            if found.cycles < best.cycles:
                best = found
            high = min(middle, float(np.log2(found.cycles)))
            if attempt == 0 or high <= low:
                break
        else:
            low = middle
        if high - low < 0.01:
            break
    return best


def illegal(model: ModelWrapper) -> list[str]:
    """Layers whose PE or SIMD does not divide what it is spread over; [] is the only good answer."""
    wrong = []
    spread = {"PE": ("MH", "Channels", "NumChannels"), "SIMD": ("MW", "IFMChannels", "NumChannels")}
    graphs = [model, *(body for body, _ in bodies(model).values())]
    for node in (n for graph in graphs for n in graph.graph.node):
        layer = getCustomOp(node)
        known = layer.get_nodeattr_types() if node.domain.startswith("finn") else {}
        for factor in [f for f in spread if f in known]:
            whole = next((layer.get_nodeattr(a) for a in spread[factor] if a in known), None)
            if node.op_type.startswith("VVAU") and factor == "SIMD":
                whole = int(np.prod(layer.get_nodeattr("Kernel")))
            value = layer.get_nodeattr(factor)
            if whole is not None and (value < 1 or whole % value):
                wrong.append(f"{node.name}: {factor} {value} does not divide {whole}")
    return wrong
