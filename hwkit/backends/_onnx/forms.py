"""The forms of a network with ODE blocks, put together from the graphs of its stages.

    stepped    a file a stage; a block's step is one that repeats
    unrolled   one file in which a block's step stands once a step, and its weights once
    loop       one file in which a block is a Loop around its step

All are the same operators on the same weights, int8 scales included, so that they compute the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from hwkit.backends._onnx.export import INPUTS, OUTPUT
from hwkit.backends._onnx.tidy import IR_VERSION, read, rename


@dataclass(frozen=True)
class Piece:
    """One stage: its graph, how often it runs in a row, and t of each run where it takes the time."""

    name: str
    model: ModelProto
    repeat: int = 1
    times: tuple[float, ...] | None = None

    def with_model(self, model: ModelProto) -> Piece:
        return replace(self, model=model)


def unrolled(pieces: Sequence[Piece]) -> ModelProto:
    """One graph. What reads constants only (weights made real numbers again) stands once for all steps."""
    whole = _Whole(pieces)
    for piece in pieces:
        constants = _constant_values(piece.model)
        once = [n for n in piece.model.graph.node if read(n) <= constants]
        each = [n for n in piece.model.graph.node if not read(n) <= constants]
        whole.nodes += once
        made = {name for node in each for name in node.output}
        for k in range(piece.repeat):
            step = f"@{k}" if piece.repeat > 1 else ""
            new = {name: f"{name}{step}" for name in made}
            new[INPUTS[0]] = whole.value
            if piece.times is not None:
                new[INPUTS[1]] = whole.constant(f"{piece.name}.t{k}", np.array([piece.times[k]], np.float32))
            whole.value = new[OUTPUT] = f"{piece.name}{step}.y"
            whole.nodes += [_renamed(node, new, piece.name, step) for node in each]
    return whole.model()


def looped(pieces: Sequence[Piece]) -> ModelProto:
    """One graph in which every repeated stage is the body of a Loop."""
    whole = _Whole(pieces)
    for piece in pieces:
        body_values = {name for node in piece.model.graph.node for name in node.output}
        given = whole.value
        whole.value = f"{piece.name}.out"
        if piece.repeat == 1 and piece.times is None:
            new = {INPUTS[0]: given, OUTPUT: whole.value}
            whole.nodes += [_renamed(node, new, piece.name, "") for node in piece.model.graph.node]
            continue
        whole.nodes.append(_loop(piece, whole, given, body_values))
    return whole.model()


def _loop(piece: Piece, whole: _Whole, given: str, made: set[str]) -> NodeProto:
    def name(text: str) -> str:
        return f"{piece.name}.{text}"

    count = whole.constant(name("N"), np.array(piece.repeat, np.int64))
    going = whole.constant("true", np.array(True))
    new = {INPUTS[0]: name("z"), OUTPUT: name("z'")}
    nodes = []
    if piece.times is not None:
        times = whole.constant(name("times"), np.array(piece.times, np.float32)[:, None])
        new[INPUTS[1]] = name("t")
        nodes.append(helper.make_node("Gather", [times, name("k")], [name("t")], axis=0))
    nodes += [_renamed(node, new, piece.name, "") for node in piece.model.graph.node]
    assert OUTPUT in made
    nodes.append(helper.make_node("Identity", [name("on")], [name("on'")]))
    shape = [d.dim_value for d in piece.model.graph.input[0].type.tensor_type.shape.dim]
    kind = piece.model.graph.input[0].type.tensor_type.elem_type
    body = helper.make_graph(
        nodes, piece.name,
        [helper.make_tensor_value_info(name("k"), TensorProto.INT64, []),
         helper.make_tensor_value_info(name("on"), TensorProto.BOOL, []),
         helper.make_tensor_value_info(name("z"), kind, shape)],
        [helper.make_tensor_value_info(name("on'"), TensorProto.BOOL, []),
         helper.make_tensor_value_info(name("z'"), kind, shape)])
    return helper.make_node("Loop", [count, going, given], [whole.value], name=f"{piece.name}/Loop", body=body)


class _Whole:
    """A graph that grows from the input to the output; `value` is what was computed last."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        first, last = pieces[0].model, pieces[-1].model
        self.base = first
        self.input, self.output = first.graph.input[0], last.graph.output[0]
        self.nodes: list[NodeProto] = []
        self.constants = {t.name: t for piece in pieces for t in piece.model.graph.initializer}
        self.value = self.input.name

    def constant(self, name: str, value: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
        self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def model(self) -> ModelProto:
        """The last value is the graph's output."""
        for node in self.nodes:
            rename(node, {self.value: self.output.name})
        needed = {name for node in self.nodes for name in read(node)}
        graph = helper.make_graph(self.nodes, "network", [self.input], [self.output],
                                  [t for t in self.constants.values() if t.name in needed])
        made = helper.make_model(graph, producer_name="hwkit", ir_version=IR_VERSION,
                                 opset_imports=list(self.base.opset_import))
        return shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)


def _constant_values(model: ModelProto) -> set[str]:
    """Names of constants, of what nodes make of constants alone, and "" of an input left out."""
    known = {"", *(t.name for t in model.graph.initializer)}
    for node in model.graph.node:
        if read(node) <= known:
            known |= set(node.output)
    return known


def _renamed(node: NodeProto, new: dict[str, str], stage: str, step: str) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.name = stage + step + node.name.removeprefix(stage)
    rename(copy, new)
    return copy
