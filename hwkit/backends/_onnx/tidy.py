"""An exporter's graph made plain: constants computed, padding inside the convolutions, short names, no metadata.

Names count: an unrolled ODE network repeats them once a step, and they are most of what a node takes. A node is
called <stage>/<operator><number>, its number the same as in the artifact's list of operators; in an unrolled ODE
block <stage>@<step>/<operator><number>.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

IR_VERSION = 8      # the newest that the onnxruntime of every JetPack reads
COMPUTED = 4096     # elements; a larger constant stays an operator, and so its weights stay shared
_BARE = ("Identity", "Dropout")
_KEPT = ("QuantizeLinear", "DequantizeLinear")      # computing one would store integers as floats


def tidied(model: ModelProto, stage: str, first: int = 0) -> ModelProto:
    """The same function, its nodes numbered from `first`; tensors are called <stage>.<number>.

    Every value has a shape; constants are initializers, each equal one once.
    """
    graph = _Graph(model)
    graph.compute_constants()
    graph.pass_through()
    graph.pads_into_convolutions()
    graph.drop_unread()
    graph.share_equal()
    graph.rename(stage, first)
    return graph.model()


# How converters name what they add, and how it is called here.
_ENDINGS = (("_QuantizeLinear_Input", ".f"), ("_QuantizeLinear_Output", ".q"), ("_DequantizeLinear_Output", ".r"),
            ("_QuantizeLinear", "/Q"), ("_DequantizeLinear", "/DQ"), ("_quantized", ".q"), ("_zero_point", ".z"),
            ("_scale", ".s"))


def shortened(model: ModelProto, stage: str) -> ModelProto:
    """The same function with short names for what a converter added to a stage, and each equal constant once."""
    graph = _Graph(model)
    graph.share_equal()
    graph.drop_unread()
    graph.shorten(stage)
    graph.sort()
    return graph.model()


class _Graph:
    def __init__(self, model: ModelProto) -> None:
        self.opsets = [(o.domain, o.version) for o in model.opset_import]
        self.inputs, self.outputs = list(model.graph.input), list(model.graph.output)
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.constants: dict[str, NDArray[np.generic]] = {
            t.name: numpy_helper.to_array(t) for t in model.graph.initializer}

    def compute_constants(self) -> None:
        """Nodes that read constants only become what they give."""
        kept = []
        for node in self.nodes:
            given = [self.constants.get(name) for name in node.input if name]
            if any(value is None for value in given) or any(True for _ in _bodies(node)) or node.op_type in _KEPT:
                kept.append(node)
                continue
            values = self._evaluated(node)
            if sum(value.size for value in values) > COMPUTED and node.op_type != "Constant":
                kept.append(node)
                continue
            self.constants.update(zip(node.output, values, strict=True))
        self.nodes = kept

    def _evaluated(self, node: NodeProto) -> list[NDArray[np.generic]]:
        graph = helper.make_graph(
            [node], "one", [], [helper.make_empty_tensor_value_info(name) for name in node.output],
            [numpy_helper.from_array(np.asarray(self.constants[name]), name) for name in node.input if name])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*o) for o in self.opsets])
        return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, {})]

    def pass_through(self) -> None:
        """Operators that change nothing go; a graph's output keeps the node that gives it."""
        given = {o.name for o in self.outputs}
        other: dict[str, str] = {}
        kept = []
        for node in self.nodes:
            if node.op_type in _BARE and node.output[0] not in given:
                other[node.output[0]] = node.input[0]
            else:
                kept.append(node)
        self.nodes = kept
        for name in other:                      # where a chain of them ends
            while other[name] in other:
                other[name] = other[other[name]]
        for node in self.nodes:
            rename(node, other)

    def pads_into_convolutions(self) -> None:
        """Zeros put around an image by a node of their own become the convolution's padding."""
        readers = self._readers()
        for node in list(self.nodes):
            pads = self._zeros_around(node)
            users = [user for user in self.nodes if node.output[0] in user.input]
            if pads is None or not users or not all(u.op_type == "Conv" for u in users):
                continue
            if readers[node.output[0]] != len(users):        # a graph's output reads it too
                continue
            for user in users:
                own = next((list(a.ints) for a in user.attribute if a.name == "pads"), [0] * 4)
                attributes = [a for a in user.attribute if a.name not in ("pads", "auto_pad")]
                del user.attribute[:]
                user.attribute.extend([*attributes, helper.make_attribute(
                    "pads", [a + b for a, b in zip(own, pads, strict=True)])])
                user.input[0] = node.input[0]
            self.nodes.remove(node)

    def _zeros_around(self, node: NodeProto) -> list[int] | None:
        """[top, left, bottom, right] of a Pad of zeros on the last two of four dimensions."""
        if node.op_type != "Pad" or len(node.input) < 2 or node.input[1] not in self.constants:
            return None
        mode = next((a.s for a in node.attribute if a.name == "mode"), b"constant")
        value = self.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        pads = [int(n) for n in self.constants[node.input[1]].ravel()]
        if mode != b"constant" or value is None or np.any(value != 0) or len(pads) != 8 or len(node.input) > 3:
            return None
        if any((pads[0], pads[1], pads[4], pads[5])) or min(pads) < 0:
            return None
        return [pads[2], pads[3], pads[6], pads[7]]

    def _readers(self) -> Counter[str]:
        read = [name for node in self.nodes for name in _all_inputs(node)]
        return Counter(read + [o.name for o in self.outputs])

    def drop_unread(self) -> None:
        while True:
            readers = self._readers()
            kept = [node for node in self.nodes if any(readers[name] for name in node.output)]
            if len(kept) == len(self.nodes):
                break
            self.nodes = kept
        self.constants = {name: value for name, value in self.constants.items() if readers[name]}

    def share_equal(self) -> None:
        """Equal constants are one: an exporter writes a Clip's limits once a Clip."""
        first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        other = {}
        for name, value in self.constants.items():
            one = first.setdefault((value.dtype.str, value.shape, value.tobytes()), name)
            if one != name:
                other[name] = one
        for node in self.nodes:
            rename(node, other)
        for name in other:
            del self.constants[name]

    def rename(self, stage: str, first: int) -> None:
        """Inputs and outputs of the graph keep their names."""
        kept = {v.name for v in (*self.inputs, *self.outputs)}
        new = {name: f"{stage}.w{k}" for k, name in enumerate(self.constants)}
        for node in self.nodes:
            for name in _given(node):
                if name and name not in kept:
                    new.setdefault(name, f"{stage}.{len(new)}")
        for number, node in enumerate(self.nodes, first):
            node.name = f"{stage}/{node.op_type}{number}"
            node.doc_string = ""
            rename(node, new)
        self.constants = {new[name]: value for name, value in self.constants.items()}

    def shorten(self, stage: str) -> None:
        ends = {v.name for v in (*self.inputs, *self.outputs)}

        def short(name: str) -> str:
            for ending, other in _ENDINGS:
                stem = name.removesuffix(ending)
                if stem != name:                 # every stage has an "x": its scale must not be another's
                    return (f"{stage}.{stem}" if stem in ends else stem) + other
            return name

        for node in self.nodes:
            node.name = short(node.name)
            rename(node, {name: short(name) for name in (*_all_inputs(node), *_given(node))})
        self.constants = {short(name): value for name, value in self.constants.items()}

    def sort(self) -> None:
        """Every node behind those whose values it reads, otherwise in the order they have."""
        known = {"", *self.constants, *(v.name for v in self.inputs)}
        waiting, self.nodes = self.nodes, []
        while waiting:
            ready = [node for node in waiting if known >= read(node)]
            if not ready:
                raise ValueError(f"{waiting[0].name} reads a value that nothing gives")
            first = ready[0]
            self.nodes.append(first)
            known.update(first.output)
            waiting.remove(first)

    def model(self) -> ModelProto:
        graph = helper.make_graph(self.nodes, "network", self.inputs, self.outputs,
                                  [numpy_helper.from_array(np.asarray(v), n) for n, v in self.constants.items()])
        for value in (*graph.input, *graph.output):
            value.doc_string = ""
        made = helper.make_model(graph, producer_name="hwkit", ir_version=IR_VERSION,
                                 opset_imports=[helper.make_opsetid(*o) for o in self.opsets])
        return shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)


def read(node: NodeProto) -> set[str]:
    """What a node and the bodies of loops and branches in it read from around it."""
    return set(_all_inputs(node)) - {name for body in _bodies(node) for name in _given_in(body)}


def rename(node: NodeProto, new: Mapping[str, str]) -> None:
    """Other names for values, in bodies too: in ONNX a body's own names are none of those around it."""
    for names in (node.input, node.output):
        for k, name in enumerate(names):
            names[k] = new.get(name, name)
    for body in _bodies(node):
        for value in (*body.input, *body.output, *body.value_info, *body.initializer):
            value.name = new.get(value.name, value.name)
        for inner in body.node:
            rename(inner, new)


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        yield from (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)


def _all_inputs(node: NodeProto) -> Iterator[str]:
    """What a node reads, and its bodies and what they give: of values around it and of their own."""
    yield from (name for name in node.input if name)
    for body in _bodies(node):
        yield from (value.name for value in body.output)
        for inner in body.node:
            yield from _all_inputs(inner)


def _given(node: NodeProto) -> Iterator[str]:
    """Values that come into being with a node, in its bodies too."""
    yield from node.output
    for body in _bodies(node):
        yield from _given_in(body)


def _given_in(body: GraphProto) -> Iterator[str]:
    yield from (value.name for value in (*body.input, *body.initializer))
    for inner in body.node:
        yield from _given(inner)
