"""The repeated steps of a neural ODE as one FINNLoop: the layers of one step, run N times.

A step begins where the state forks (to f and to the addition) and ends where the next step's fork begins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finn.transformation.fpgadataflow.loop_rolling import LoopExtraction, LoopRolling
from finn.transformation.fpgadataflow.set_loop_boundary import SetLoopBoundary
from finn.util.basic import make_build_dir
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from ._telling import Refused

SCOPE = ("", "steps.0")
HINT = "use ode=unrolled"


def _starts(model: ModelWrapper) -> list[int]:
    """Indices of the nodes where the state forks, in order."""
    return [i for i, n in enumerate(model.graph.node) if n.op_type.startswith("DuplicateStreams")]


def roll(model: ModelWrapper) -> tuple[ModelWrapper, int]:
    """The model with its steps in one FINNLoop, and their number. Raises Refused where nothing can be rolled."""
    starts = _starts(model)
    if len(starts) < 2:
        raise Refused(f"there is no step that repeats: {len(starts)} residual additions", HINT)
    nodes = list(model.graph.node)
    kinds = [n.op_type for n in nodes]
    length = starts[1] - starts[0]
    body = kinds[starts[0]:starts[1]]
    other = next((i for i in starts if kinds[i:i + length] != body), None)
    if other is not None:
        raise Refused(f"the residual blocks differ: {', '.join(body)} and then "
                      f"{', '.join(kinds[other:other + length])}", HINT)
    marks = {"pkg.torch.onnx.name_scopes": repr(list(SCOPE)), "pkg.torch.onnx.class_hierarchy": "['Net', 'Step']"}
    model = model.transform(SetLoopBoundary(marks, (nodes[starts[0]], nodes[starts[1] - 1])))
    template = Path(make_build_dir("loop_body_")) / "step.onnx"
    extraction = LoopExtraction([list(SCOPE)], template)
    model = model.transform(extraction)
    model = model.transform(LoopRolling(extraction.loop_body_template))
    loops = model.get_nodes_by_op_type("FINNLoop")
    repeats = [getCustomOp(n).get_nodeattr("iteration") for n in loops]
    if repeats != [len(starts)]:
        raise Refused(f"FINN rolled {repeats or 'nothing'} where {len(starts)} steps repeat", HINT)
    return model, len(starts)


def bodies(model: ModelWrapper) -> dict[str, tuple[Any, int]]:
    """FINNLoop's name -> (the model of one step, how often it runs)."""
    found = {}
    for node in model.get_nodes_by_op_type("FINNLoop"):
        loop = getCustomOp(node)
        found[node.name] = (loop.get_nodeattr("body"), loop.get_nodeattr("iteration"))
    return found
