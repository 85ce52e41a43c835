"""An ONNX graph as a torch module that torch.export can follow.

The graph is run once on a sample while the module is built. What does not depend on the input (weights
that are transposed or cast, shapes, since those are fixed) is computed then and kept; the rest becomes the
steps of `forward`. A weight that several nodes use, as every step of an unrolled ODE does, stays one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from torch import nn

# Imported for what they enter in the table of operators.
from hwkit.errors import BadModel
from hwkit.sources._child import reading
from hwkit.sources._onnx import elementwise, layers, reductions, shapes  # noqa: F401
from hwkit.sources._onnx.fuse import with_gelu
from hwkit.sources._onnx.operator import OPERATORS, Node, Operator

DOMAINS = ("", "ai.onnx")
QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
             "ConvInteger", "MatMulInteger")
# Their result depends on the shape of the operand alone.
OF_SHAPE = ("Shape", "Size")


@dataclass(frozen=True)
class Ref:
    """An operand of a step: the value of that name, or (weight) the module's tensor of that name."""

    name: str
    weight: bool = False


@dataclass(frozen=True)
class Step:
    """outputs = function(node, *operands); operands that are not Refs are passed as they are."""

    function: Callable[..., Any]
    node: Node
    operands: tuple[Any, ...]
    outputs: tuple[str, ...]


class OnnxNetwork(nn.Module):
    """A graph's steps and weights; takes and gives one tensor.

    original   name of a weight in this module -> its name in the graph
    """

    def __init__(self, graph_input: str, graph_output: str) -> None:
        super().__init__()
        self.graph_input = graph_input
        self.graph_output = graph_output
        self.steps: list[Step] = []
        self.original: dict[str, str] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {self.graph_input: x}
        for step in self.steps:
            operands = [self._operand(values, operand) for operand in step.operands]
            values.update(zip(step.outputs, results(step.function(step.node, *operands)), strict=False))
        return values[self.graph_output]

    def _operand(self, values: dict[str, torch.Tensor], operand: Any) -> Any:
        if not isinstance(operand, Ref):
            return operand
        return getattr(self, operand.name) if operand.weight else values[operand.name]


def results(result: Any) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def build(graph: onnx.GraphProto, opset: int, sample: torch.Tensor, what: str) -> OnnxNetwork:
    """The module of a graph with one input and one output. Raises BadModel naming the node that cannot be."""
    return _Builder(graph, opset, sample, what).network


class _Builder:
    """Walks the graph once; every value is either in `constants` or in `varying`."""

    def __init__(self, graph: onnx.GraphProto, opset: int, sample: torch.Tensor, what: str) -> None:
        self.what = what
        self.opset = opset
        self.constants: dict[str, torch.Tensor] = {}
        self.folded: dict[tuple[object, ...], tuple[torch.Tensor, ...]] = {}   # by operator and operands' identity
        self.weights: dict[int, str] = {}                                      # id of a constant -> name here
        for initializer in graph.initializer:
            with reading(f"{what}: initializer {initializer.name}"):
                array = onnx.numpy_helper.to_array(initializer)
                self.constants[initializer.name] = torch.from_numpy(array.copy())
        (entry,) = [i.name for i in graph.input if i.name not in self.constants]
        self.network = OnnxNetwork(entry, graph.output[0].name)
        self.varying = {entry: sample}
        nodes = _needed(list(graph.node), graph.output[0].name)
        given = {node.output[0]: shapes.constant(self._node(node)) for node in nodes if node.op_type == "Constant"}
        for proto in _needed(with_gelu(nodes, {**self.constants, **given}), graph.output[0].name):
            self._add(proto)
        if self.network.graph_output not in self.varying:
            raise BadModel(f"{what}: its output does not depend on its input", "export the whole network")

    def _add(self, proto: onnx.NodeProto) -> None:
        node = self._node(proto)
        operator = OPERATORS[node.op]
        names = tuple(proto.input)
        with reading(f"{self.what}: node {node.name} ({node.op})", "export the network again"), torch.no_grad():
            if all(n == "" or n in self.constants for n in names) or node.op in OF_SHAPE:
                found = self._fold(node, proto, operator)
                self.constants.update(zip(proto.output, found, strict=False))
                return
            step = self._step(node, proto, operator)
            self.network.steps.append(step)
            operands = [self._value(operand) for operand in step.operands]
            self.varying.update(zip(step.outputs, results(step.function(step.node, *operands)), strict=False))

    def _node(self, proto: onnx.NodeProto) -> Node:
        name = proto.name or (proto.output[0] if proto.output else "without a name")
        if proto.domain in DOMAINS and proto.op_type in QUANTISED:
            raise BadModel(f"{self.what} is quantised already (node {name}, {proto.op_type})",
                           "give the float network: integers are chosen here, from real inputs")
        if proto.domain not in DOMAINS or proto.op_type not in OPERATORS:
            domain = f"{proto.domain}." if proto.domain not in DOMAINS else ""
            raise BadModel(f"{self.what}: node {name}: the operator {domain}{proto.op_type} is not supported",
                           "export the network without it, or deploy it from torch")
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
        return Node(proto.op_type, name, attributes, sum(1 for o in proto.output if o), self.opset)

    def _fold(self, node: Node, proto: onnx.NodeProto, operator: Operator) -> tuple[torch.Tensor, ...]:
        """A constant's value; the same computation on the same tensors gives the same tensor."""
        tensors = [None if n == "" else self.constants[n] if n in self.constants else self.varying[n]
                   for n in proto.input]
        attributes = sorted(proto.attribute, key=lambda a: a.name)
        key = (node.op, node.outputs, *(a.SerializeToString() for a in attributes),
               *(None if t is None else tuple(t.shape) if node.op in OF_SHAPE else id(t) for t in tensors))
        if key not in self.folded:
            operands = [_number(t) if k in operator.values else t for k, t in enumerate(tensors)]
            self.folded[key] = results(operator.function(node, *operands))
        return self.folded[key]

    def _step(self, node: Node, proto: onnx.NodeProto, operator: Operator) -> Step:
        function = operator.function
        operands = [self._operand(node, operator, k, n) for k, n in enumerate(proto.input)]
        weight = self.constants.get(proto.input[1]) if len(proto.input) > 1 else None
        if node.op == "MatMul" and weight is not None and weight.dim() == 2:
            function, operands[1] = _linear, self._transposed(weight, proto.input[1])
        if node.op == "Gemm" and weight is not None and not node.get("transB", 0):
            operands[1] = self._transposed(weight, proto.input[1])
            node = Node(node.op, node.name, {**node.attributes, "transB": 1}, node.outputs, node.opset)
        return Step(function, node, tuple(operands), tuple(proto.output))

    def _operand(self, node: Node, operator: Operator, k: int, name: str) -> Any:
        if name == "":
            return None
        if name not in self.constants:
            if k in operator.values:
                raise node.unsupported(f"operand {k} ({name}) that depends on the network's input")
            return Ref(name)
        constant = self.constants[name]
        if k in operator.values or (operator.scalars and constant.dim() == 0):
            return _number(constant)
        return self._weight(constant, name)

    def _transposed(self, weight: torch.Tensor, name: str) -> Ref:
        """The weight as torch's linear has it, (out, in); one tensor however many nodes use it."""
        key = ("transposed", id(weight))
        if key not in self.folded:
            self.folded[key] = (weight.t().contiguous(),)
        return self._weight(self.folded[key][0], name)

    def _weight(self, tensor: torch.Tensor, name: str) -> Ref:
        if id(tensor) not in self.weights:
            mine = re.sub(r"\W", "_", f"w_{name}", flags=re.ASCII)
            while hasattr(self.network, mine):
                mine += "_"
            self.weights[id(tensor)] = mine
            self.network.original[mine] = name
            if tensor.is_floating_point():
                self.network.register_parameter(mine, nn.Parameter(tensor, requires_grad=False))
            else:
                self.network.register_buffer(mine, tensor)
        return Ref(self.weights[id(tensor)], weight=True)

    def _value(self, operand: Any) -> Any:
        if not isinstance(operand, Ref):
            return operand
        return getattr(self.network, operand.name) if operand.weight else self.varying[operand.name]


def _linear(_: Node, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.linear(x, weight)


def _number(tensor: torch.Tensor | None) -> Any:
    """A constant as a Python number or a list of them."""
    if tensor is None:
        return None
    return tensor.item() if tensor.dim() == 0 else tensor.tolist()


def _needed(nodes: list[onnx.NodeProto], output: str) -> list[onnx.NodeProto]:
    """The nodes that the output depends on, in the graph's order."""
    wanted, kept = {output}, []
    for proto in reversed(nodes):
        if any(output in wanted for output in proto.output):
            kept.append(proto)
            wanted |= set(proto.input)
    return kept[::-1]
