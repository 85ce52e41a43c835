"""What each hardware layer costs by FINN's estimates, and what they leave out."""

from __future__ import annotations

from typing import Any

from finn.analysis.fpgadataflow.exp_cycles_per_layer import exp_cycles_per_layer
from finn.analysis.fpgadataflow.op_and_param_counts import op_and_param_counts
from finn.util.fpgadataflow import is_hls_node, is_rtl_node
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from .rolling import bodies

RESOURCES = ("LUT", "DSP", "BRAM_18K", "URAM")     # FINN estimates no FF
FOLDING = ("PE", "SIMD", "parallel_window", "mem_mode", "ram_style", "resType")


def _attributes(node: Any) -> dict[str, Any]:
    layer = getCustomOp(node)
    known = layer.get_nodeattr_types()
    return {name: layer.get_nodeattr(name) for name in FOLDING if name in known}


def _weight_bits(counts: dict[str, float]) -> int:
    """Bits of parameters: keys are "param_weight_4b", "param_threshold_10b" ..., values how many."""
    return int(sum(n * int(key.rsplit("_", 1)[1].rstrip("b")) for key, n in counts.items()
                   if key.startswith("param_")))


def _layers(model: ModelWrapper, part: str, loop: str, repeat: int) -> list[dict[str, Any]]:
    cycles = model.analysis(exp_cycles_per_layer)
    counts = model.analysis(op_and_param_counts)
    rows = []
    for node in model.graph.node:
        if not (is_hls_node(node) or is_rtl_node(node)):
            continue
        layer = getCustomOp(node)
        used = {k: float(v) for k, v in layer.node_res_estimation(part).items() if k in RESOURCES}
        own = counts.get(node.name, {})
        rows.append({
            "name": node.name, "kind": node.op_type, "loop": loop, "repeat": repeat,
            "cycles": int(cycles[node.name]), "used": used, "folding": _attributes(node),
            "weight_bits": _weight_bits(own),
            "macs": int(sum(n for key, n in own.items() if key.startswith("op_mac"))),
            "output_shape": [int(d) for d in layer.get_normal_output_shape()],
            "datatype": layer.get_output_datatype().name,
            # nothing in hardware is free of look-up tables: FINN has no formula for this layer
            "modelled": used.get("LUT", 0) > 0})
    return rows


def layers(model: ModelWrapper, part: str) -> list[dict[str, Any]]:
    """One entry a hardware layer, in order; those inside a FINNLoop follow and say how often they run.

    A FINNLoop's own entry has the cycles of all its steps, and resources for its control alone: none modelled.
    """
    found = _layers(model, part, "", 1)
    for name, (body, repeat) in bodies(model).items():
        found += _layers(body, part, name, repeat)
    return found


def totals(rows: list[dict[str, Any]]) -> dict[str, float]:
    """What the modelled parts of all layers take."""
    return {r: sum(row["used"].get(r, 0.0) for row in rows) for r in RESOURCES}
