"""An exported program as a chain of known operators, for readers that match patterns of layers."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx

from hwkit.errors import BadModel
from hwkit.nn.program import Program

_aten = torch.ops.aten
Kind = Literal["conv3x3", "depthwise", "pointwise", "relu", "pool", "flatten", "linear", "add"]

ELSEWHERE = "change the network, or deploy to a target that takes any network"
_RELU = (_aten.relu.default, _aten.relu_.default)
_FLATTEN = (_aten.flatten.using_ints, _aten.view.default, _aten.reshape.default, _aten.squeeze.dims,
            _aten.squeeze.dim, _aten.squeeze.default)
_NOTHING = (_aten.dropout.default, _aten.clone.default, _aten.contiguous.default, _aten.alias.default,
            _aten.detach.default)
_CONV2D_DEFAULTS: list[Any] = [[1, 1], [0, 0], [1, 1], 1]   # stride, padding, dilation, groups
_ADD = (_aten.add.Tensor, _aten.add_.Tensor)


@dataclass(frozen=True, eq=False)
class Op:
    """One operator; weight and bias (zeros where there is none) are float64, empty where it has no weights."""

    kind: Kind
    stage: str
    node: fx.Node
    weight: torch.Tensor
    bias: torch.Tensor
    stride: int = 1

    def refused(self, why: str, hint: str) -> BadModel:
        """The error that says what is wrong with this operator."""
        return _refused(self.stage, self.node, why, hint)

    def expect(self, kind: str, where: str) -> None:
        """Raise BadModel unless this operator is of `kind`."""
        if self.kind != kind:
            raise self.refused(f"is a {self.kind} {where}; only a {kind} can stand there",
                               ELSEWHERE)


@dataclass(frozen=True, eq=False)
class Chain:
    """Operators from the input to the output; `residual` is the last addition of the input, if there is one."""

    ops: tuple[Op, ...]
    residual: Op | None


def chain(program: Program) -> Chain:
    """The one chain a folded program of one input is. Raises BadModel naming the node that breaks it."""
    graph = program.module.graph
    source = next(node for node in graph.nodes if node.op == "placeholder")
    node = next(node for node in graph.nodes if node.op == "output").args[0]
    node = node[0] if isinstance(node, tuple | list) else node
    residual = None
    if node.target in _ADD:
        residual = _op(program, node, "add")
        node = _branch(program.name, node, source)
    nodes: list[fx.Node] = []
    while node is not source:
        nodes.append(node)
        node = node.args[0] if node.args else None
        if not isinstance(node, fx.Node) or node.op == "get_attr":
            raise BadModel(f"stage {program.name} does not lead from its input to its output", "export it again")
    kinds = [(node, _kind(program, node)) for node in reversed(nodes)]   # the first unknown one is named
    return Chain(tuple(_op(program, node, kind) for node, kind in kinds if kind is not None), residual)


def _branch(stage: str, node: fx.Node, source: fx.Node) -> fx.Node:
    """The other argument of source + other."""
    others = [arg for arg in node.args[:2] if arg is not source]
    if len(others) != 1 or not isinstance(others[0], fx.Node) or node.kwargs.get("alpha", 1) != 1:
        raise _refused(stage, node, "adds something other than the stage's input and f of it",
                       "an ODE step is z + h * f(z)")
    return others[0]


def _kind(program: Program, node: fx.Node) -> Kind | None:
    """What an operator is here; None where it changes no value."""
    target = node.target
    if target in _NOTHING:
        return None
    if target in _RELU:
        return "relu"
    if target in _FLATTEN and len(_shape(node)) == 2:
        return "flatten"
    if target is _aten.linear.default:
        return "linear"
    if _pools_all(node):
        return "pool"
    if target is _aten.conv2d.default:
        return _convolution(program, node)
    raise _refused(program.name, node, "is an operator that the on-chip engine does not have",
                   ELSEWHERE)


def _pools_all(node: fx.Node) -> bool:
    """A mean over the whole image."""
    if node.target is _aten.mean.dim:
        dims = node.args[1]
        return isinstance(dims, list | tuple) and sorted(int(str(d)) % 4 for d in dims) == [2, 3]
    whole = node.target in (_aten.adaptive_avg_pool2d.default, _aten.avg_pool2d.default)
    return whole and _shape(node)[2:] == (1, 1) and len(node.args) < 4   # fewer: no padding


def _convolution(program: Program, node: fx.Node) -> Kind:
    given: list[Any] = list(node.args)
    stride, padding, dilation, groups = [*given[3:], *_CONV2D_DEFAULTS[max(len(given) - 3, 0):]]
    weight = _tensor(program, node.args[1])
    outputs, per_group, *kernel = weight.shape
    problem = ""
    if list(dilation) != [1, 1] or stride[0] != stride[1] or stride[0] not in (1, 2):
        problem = f"has stride {list(stride)} and dilation {list(dilation)}; the strides are 1 and 2, undilated"
    elif kernel == [1, 1] and groups == 1 and list(padding) == [0, 0] and stride[0] == 1:
        return "pointwise"
    elif kernel == [3, 3] and list(padding) == [1, 1]:
        if groups == 1:
            return "conv3x3"
        if per_group == 1 and groups == outputs:
            return "depthwise"
        problem = f"has {groups} groups for {outputs} channels; the choices are 1 and one a channel"
    else:
        problem = (f"has a {kernel[0]}x{kernel[1]} kernel with padding {list(padding)}; the choices are 3x3 with "
                   "1, and 1x1 with 0 at stride 1")
    raise _refused(program.name, node, problem, ELSEWHERE)


def _op(program: Program, node: fx.Node, kind: Kind) -> Op:
    if kind not in ("conv3x3", "depthwise", "pointwise", "linear"):
        return Op(kind, program.name, node, torch.zeros(0), torch.zeros(0))
    weight = _tensor(program, node.args[1])
    given = node.args[2] if len(node.args) > 2 else None
    bias = torch.zeros(len(weight), dtype=torch.float64) if given is None else _tensor(program, given)
    stride = int(node.args[3][0]) if kind != "linear" and len(node.args) > 3 else 1   # type: ignore[arg-type,index]
    return Op(kind, program.name, node, weight, bias, stride)


def _tensor(program: Program, node: object) -> torch.Tensor:
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        name = node.name if isinstance(node, fx.Node) else str(node)
        raise BadModel(f"stage {program.name}: the weight {name} is computed, not stored",
                       "store it as a parameter")
    found = operator.attrgetter(str(node.target))(program.module)
    assert isinstance(found, torch.Tensor)
    return found.detach().double()


def _shape(node: fx.Node) -> tuple[int, ...]:
    value = node.meta["val"]
    return tuple(int(n) for n in value.shape)


def _refused(stage: str, node: fx.Node, why: str, hint: str) -> BadModel:
    return BadModel(f"stage {stage}: {node.name} ({node.target}) {why}", hint)
