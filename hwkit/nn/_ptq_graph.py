"""A float network as layers and the places where its values have to be quantised.

Takes an exported graph (torch.export, BatchNorm folded) and gives a graph of modules that computes the same:
Conv2d, Linear, pooling, and a Point wherever hardware needs a quantiser. Points whose values meet in an addition
or a concatenation form a group, which gets one scale, so that the meeting is one of integers; so do those behind a
layer that is used again, as by the steps of an ODE block. A Point behind a ReLU is unsigned; no signed Point ever
reads what an unsigned one gave.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from hwkit.errors import BadModel

_aten = torch.ops.aten
_RELU = (_aten.relu.default, _aten.relu_.default)
_RELU6 = (_aten.hardtanh.default, _aten.hardtanh_.default, _aten.relu6.default)
_ADD = (_aten.add.Tensor, _aten.add_.Tensor)
_SCALE = (_aten.mul.Tensor, _aten.div.Tensor, _aten.mul.Scalar, _aten.div.Scalar)
_MOVED = (_aten.flatten.using_ints, _aten.view.default, _aten.reshape.default, _aten.squeeze.dims,
          _aten.unsqueeze.default)
_SAME = (_aten.dropout.default, _aten.clone.default, _aten.contiguous.default, _aten.alias.default,
         _aten.detach.default)
HINT = "quantise it in Brevitas and give the module, or replace the operator"


class Point(nn.Module):
    """Where values become integers. top: of a ReLU6.

    relu    whether the ReLU is part of it; it is then unsigned
    group   number of the group, final once the graph is built
    """

    def __init__(self, relu: bool, top: float | None = None) -> None:
        super().__init__()
        self.relu = relu
        self.top = top
        self.group = 0
        self.seen: list[torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.relu:
            x = torch.clamp(x, 0, self.top)
        if self.seen is not None:
            self.seen.append(x.detach())
        return x


@dataclass(frozen=True)
class Held:
    """What is known of a value in the new graph. point: the quantiser that it comes from, None: a float."""

    node: fx.Node
    point: str | None = None


def planned(module: fx.GraphModule, name: str) -> fx.GraphModule:
    """The network as layers and Points. Raises BadModel naming an operator that is not among those known here."""
    return _Plan(module, name).build()


class _Plan:
    def __init__(self, module: fx.GraphModule, name: str) -> None:
        self.old = module
        self.name = name
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.held: dict[fx.Node, Held] = {}
        self.signed: dict[fx.Node, Held] = {}         # float value -> its signed Point
        self.layers: dict[tuple[Any, ...], str] = {}   # a layer that several nodes share, as ODE steps do
        self.parent: dict[str, str] = {}
        self.behind: dict[tuple[object, bool], str] = {}   # layer, with ReLU -> the first Point behind it

    def build(self) -> fx.GraphModule:
        for node in self.old.graph.nodes:
            match node.op:
                case "placeholder":
                    self.held[node] = Held(self.graph.placeholder(node.name))
                case "call_function":
                    found = self._called(node)
                    if found is not None:
                        self.held[node] = found
                case "output":
                    result = node.args[0][0] if isinstance(node.args[0], tuple | list) else node.args[0]
                    self.graph.output(self.held[result].node)
        made = fx.GraphModule(self.root, self.graph)
        made.graph.eliminate_dead_code()
        made.delete_all_unused_submodules()
        made.recompile()
        roots = sorted({self._group(point) for point in self.parent})
        for point in self.parent:
            if hasattr(made, point):
                made.get_submodule(point).group = roots.index(self._group(point))  # type: ignore[assignment]
        return made

    def _called(self, node: fx.Node) -> Held | None:
        target = node.target
        if target in (_aten.conv2d.default, _aten.convolution.default, _aten.linear.default):
            return self._layer(node)
        if target in _RELU:
            return self._relu(node, None)
        if target in _RELU6:
            low, high = (*node.args[1:], 0.0, 6.0)[:2] if len(node.args) > 1 else (0.0, 6.0)
            if target is not _aten.relu6.default and low != 0:
                raise self._unknown(node)
            return self._relu(node, float(str(high)))
        if target in _ADD and all(a in self.held for a in node.args[:2]) and not node.kwargs:
            return self._met(node, [self._quantised(a) for a in node.args[:2]], torch.add)
        if target is _aten.cat.default:
            parts: Any = node.args[0]
            values = [self._quantised(a) for a in parts]
            met = self._met(node, values, torch.cat)
            signed = [v.point for v in values if not self._point(v).relu]
            return Held(met.node, (signed or [values[0].point])[0])
        if target in _SAME:
            return self.held[self._first(node)]
        if target is _aten.batch_norm.default:
            return self._batch_norm(node)
        if target in _SCALE and not isinstance(node.args[1], fx.Node):
            x = self.held[self._first(node)]
            return Held(self.graph.call_function(getattr(operator, "mul" if "mul" in str(target) else "truediv"),
                                                 (x.node, node.args[1])))
        if target in _MOVED:
            x = self.held[self._first(node)]
            return Held(self._moved(node, x.node), x.point)
        pool = _pool(node)
        if pool is not None:
            return self._pooled(node, pool)
        raise self._unknown(node)

    def _first(self, node: fx.Node) -> fx.Node:
        first = node.args[0]
        if not isinstance(first, fx.Node) or first not in self.held:
            raise self._unknown(node)
        return first

    def _unknown(self, node: fx.Node) -> BadModel:
        return BadModel(f"{self.name}: {node.name} ({node.target}) is not among what can be quantised here", HINT)

    def _module(self, kind: str, module: nn.Module, x: fx.Node) -> fx.Node:
        """Call a new module on x."""
        name = f"{kind}{sum(n.startswith(kind) for n, _ in self.root.named_children())}"
        self.root.add_module(name, module)
        return self.graph.call_module(name, (x,))

    def _put(self, point: Point, x: fx.Node) -> Held:
        """A Point that reads x. Behind a layer that is used again, it is of the group that it was before."""
        node = self._module("point", point, x)
        name = str(node.target)
        self.parent[name] = name
        if x.op == "call_module":
            self.parent[name] = self._group(self.behind.setdefault((x.target, point.relu), name))
        return Held(node, name)

    def _point(self, held: Held) -> Point:
        found = self.root.get_submodule(str(held.point))
        assert isinstance(found, Point)
        return found

    def _group(self, point: str) -> str:
        while self.parent[point] != point:
            point = self.parent[point]
        return point

    def _quantised(self, source: Any) -> Held:
        """The value in integers: what it is, or what its signed Point makes of it."""
        held = self.held[source]
        if held.point is not None:
            return held
        if held.node not in self.signed:
            self.signed[held.node] = self._put(Point(relu=False), held.node)
        return self.signed[held.node]

    def _relu(self, node: fx.Node, top: float | None) -> Held:
        held = self.held[self._first(node)]
        if held.point is not None and self._point(held).relu:
            return held
        return self._put(Point(relu=True, top=top), held.node)

    def _met(self, node: fx.Node, values: list[Held], function: Any) -> Held:
        """An addition or concatenation: everything that meets is of one group."""
        for value in values[1:]:
            self.parent[self._group(str(value.point))] = self._group(str(values[0].point))
        nodes = [value.node for value in values]
        arguments = (nodes, *node.args[1:]) if function is torch.cat else tuple(nodes)
        return Held(self.graph.call_function(function, arguments))

    def _layer(self, node: fx.Node) -> Held:
        source, weight, bias = (*node.args, None)[:3]
        if any(isinstance(a, fx.Node) and a.op != "get_attr" for a in (weight, bias)):
            raise self._unknown(node)
        x = self._quantised(source).node
        key = (node.target, str(weight), str(bias), str(node.args[3:]))
        if key not in self.layers:
            made = self._made(node, self._tensor(weight), None if bias is None else self._tensor(bias))
            called = self._module("layer", made, x)
            self.layers[key] = str(called.target)
            return Held(called)
        return Held(self.graph.call_module(self.layers[key], (x,)))

    def _made(self, node: fx.Node, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
        made: nn.Module
        if node.target is _aten.linear.default:
            made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
        else:
            stride, padding, dilation, *rest = _conv_arguments(node)
            if weight.dim() != 4 or (rest and rest[0] is True) or isinstance(padding, str):
                raise self._unknown(node)
            group = rest[-1] if rest else 1
            made = nn.Conv2d(weight.shape[1] * group, weight.shape[0], weight.shape[2:], stride, padding,  # type: ignore[arg-type]
                             dilation, group, bias is not None)
        parameters = made.state_dict()
        parameters["weight"].copy_(weight)
        if bias is not None:
            parameters["bias"].copy_(bias)
        return made

    def _batch_norm(self, node: fx.Node) -> Held:
        gamma, beta, mean, variance = (None if a is None else self._tensor(a) for a in node.args[1:5])
        if mean is None or variance is None:
            raise self._unknown(node)
        kind = nn.BatchNorm2d if node.meta["val"].dim() == 4 else nn.BatchNorm1d
        norm = kind(len(mean), eps=float(str(node.args[7])))
        for name, value in (("weight", gamma), ("bias", beta), ("running_mean", mean), ("running_var", variance)):
            if value is not None:
                norm.state_dict()[name].copy_(value)
        return Held(self._module("norm", norm.eval(), self.held[self._first(node)].node))

    def _tensor(self, node: Any) -> torch.Tensor:
        found = operator.attrgetter(str(node.target))(self.old)
        assert isinstance(found, torch.Tensor)
        return found.detach()

    def _moved(self, node: fx.Node, x: fx.Node) -> fx.Node:
        shape = tuple(int(n) for n in node.meta["val"].shape)
        if len(shape) == 2:
            return self.graph.call_function(torch.flatten, (x, 1))
        return self.graph.call_function(torch.reshape, (x, (-1, *shape[1:])))

    def _pooled(self, node: fx.Node, pool: nn.Module) -> Held:
        source = self._first(node)
        held = self.held[source]
        if held.point is None:   # the ReLU behind a MaxPool may as well stand before it
            behind = all(user.target in _RELU for user in node.users) and isinstance(pool, nn.MaxPool2d)
            held = self._put(Point(relu=True), held.node) if behind else self._quantised(source)
        return Held(self._module("pool", pool, held.node), held.point)


def _conv_arguments(node: fx.Node) -> list[Any]:
    """stride, padding, dilation, then (transposed, output padding,) groups."""
    if node.target is _aten.convolution.default:
        return list(node.args[3:])
    return [*node.args[3:], *([1, 1], [0, 0], [1, 1], 1)[len(node.args[3:]):]]


def _pool(node: fx.Node) -> nn.Module | None:
    """The pooling that a node is, None where it is none."""
    arguments: list[Any] = list(node.args[1:])
    given: dict[str, Any]
    match node.target:
        case _aten.max_pool2d.default:
            given = dict(zip(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), arguments,
                             strict=False))
            return nn.MaxPool2d(**{**given, "stride": given.get("stride") or None})
        case _aten.avg_pool2d.default:
            given = dict(zip(("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
                              "divisor_override"), arguments, strict=False))
            return nn.AvgPool2d(**{**given, "stride": given.get("stride") or None})
        case _aten.adaptive_avg_pool2d.default if list(arguments[0]) == [1, 1]:
            return nn.AdaptiveAvgPool2d(1)
        case _aten.mean.dim if sorted(a % 4 for a in arguments[0]) == [2, 3]:
            return nn.AdaptiveAvgPool2d(1) if len(arguments) > 1 and arguments[1] else nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    return None


def points(module: nn.Module) -> Iterator[tuple[str, Point]]:
    return ((name, m) for name, m in module.named_modules() if isinstance(m, Point))
