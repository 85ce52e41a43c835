"""Fold BatchNorm, and multiplication by a constant, into the convolution before it.

Works on an exported graph (torch.export), where a weight shared by the unrolled steps of a neural ODE is
one tensor used by many convolutions: it is folded once, and the folded tensor is shared again. The
quantisation flows of PyTorch and the TFLite converter fold one convolution at a time, which scales a
shared weight once a step, or stores it once a step.

`z + h * norm(conv(x))`, the end of an Euler step, becomes `z + conv'(x)`: h goes into conv' too.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import fx, nn

_aten = torch.ops.aten

# operator -> (position of weight, position of bias, dimension of the weight that holds output channels)
_LINEAR = {
    _aten.conv1d.default: (1, 2, 0),
    _aten.conv2d.default: (1, 2, 0),
    _aten.conv3d.default: (1, 2, 0),
    _aten.convolution.default: (1, 2, 0),
    _aten.linear.default: (1, 2, 0),
}
_NORM = (_aten.batch_norm.default, _aten._native_batch_norm_legit_no_training.default)
_SCALE = (_aten.mul.Tensor, _aten.mul.Scalar, _aten.div.Tensor, _aten.div.Scalar)


@dataclass(frozen=True)
class Folded:
    """What `fold` did: how many operators went away, and how many distinct tensors replaced them."""

    batch_norms: int
    scales: int
    weights: int


def fold(module: fx.GraphModule) -> Folded:
    """Fold in place, in float64, rounded once to the weight's own datatype.

    A BatchNorm or a constant factor is folded where it follows a convolution or linear layer that
    nothing else reads; any other is left alone. What the module computes changes by rounding only.
    """
    constants = _Constants(module)
    norms = scales = 0
    for node in list(module.graph.nodes):
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or not _foldable(source):
            continue
        if node.target in _NORM and _evaluates(node):
            norms += constants.fold_norm(source, node)
        elif node.target in _SCALE:
            scales += constants.fold_scale(source, node)
    module.graph.eliminate_dead_code()
    constants.drop_unused()
    module.graph.lint()
    module.delete_all_unused_submodules()
    module.recompile()
    return Folded(norms, scales, len(constants.made))


def _foldable(source: fx.Node) -> bool:
    """A linear operator, not transposed, whose result has one reader."""
    transposed = source.target is _aten.convolution.default and source.args[6]
    return source.target in _LINEAR and len(source.users) == 1 and not transposed


def _evaluates(norm: fx.Node) -> bool:
    """Uses running statistics, and normalises the dimension that the layer before it made."""
    training = norm.target is _aten.batch_norm.default and norm.args[5] is not False
    source = norm.args[0]
    assert isinstance(source, fx.Node)
    return not training and (source.target is not _aten.linear.default or source.meta["val"].dim() == 2)


class _Constants:
    """The tensors of a graph module, with the folded ones made so far."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.made: dict[tuple[object, ...], tuple[str, str]] = {}

    def fold_norm(self, source: fx.Node, norm: fx.Node) -> bool:
        gamma, beta, mean, variance = norm.args[1:5]
        epsilon = norm.args[7] if norm.target is _aten.batch_norm.default else norm.args[6]
        if any(not _is_constant(node) for node in (mean, variance)):
            return False
        if any(node is not None and not _is_constant(node) for node in (gamma, beta)):
            return False
        key = ("norm", *(_target(node) for node in (gamma, beta, mean, variance)), epsilon)
        shift = -self._double(mean, 0.0)
        assert isinstance(epsilon, float)
        scale = self._double(gamma, 1.0) / torch.sqrt(self._double(variance, 1.0) + epsilon)
        return self._replace(source, norm, key, scale, shift * scale + self._double(beta, 0.0))

    def fold_scale(self, source: fx.Node, product: fx.Node) -> bool:
        other = product.args[1]
        if _is_constant(other) and self._tensor(other).numel() == 1:
            other = self._tensor(other).item()
        if not isinstance(other, int | float):
            return False
        divides = product.target in (_aten.div.Tensor, _aten.div.Scalar)
        factor = 1.0 / other if divides else float(other)
        return self._replace(source, product, ("scale", factor),
                             torch.tensor(factor, dtype=torch.float64), torch.zeros((), dtype=torch.float64))

    def _replace(self, source: fx.Node, node: fx.Node, key: tuple[object, ...],
                 scale: torch.Tensor, shift: torch.Tensor) -> bool:
        """Make `source` compute scale * source + shift, a channel at a time, and `node`'s readers read it."""
        at_weight, at_bias, dimension = _LINEAR[source.target]  # type: ignore[index]
        arguments = list(source.args) + [None] * (at_bias + 1 - len(source.args))
        weight, bias = arguments[at_weight], arguments[at_bias]
        if not _is_constant(weight) or not (bias is None or _is_constant(bias)):
            return False
        key = (_target(weight), _target(bias), *key)
        if key not in self.made:
            self.made[key] = self._make(self._tensor(weight), bias, scale, shift, dimension)
        with self.module.graph.inserting_before(source):
            arguments[at_weight], arguments[at_bias] = map(self.module.graph.get_attr, self.made[key])
        source.args = tuple(arguments)
        _bypass(node, source)
        return True

    def _make(self, weight: torch.Tensor, bias: object, scale: torch.Tensor, shift: torch.Tensor,
              dimension: int) -> tuple[str, str]:
        by_channel = scale.expand(weight.shape[dimension]).reshape(
            [-1 if d == dimension else 1 for d in range(weight.dim())])
        folded = (weight.double() * by_channel).to(weight.dtype)
        offset = self._double(bias, 0.0) * scale + shift
        offset = offset.expand(weight.shape[dimension]).contiguous().to(weight.dtype)
        names = f"folded_{len(self.made)}_weight", f"folded_{len(self.made)}_bias"
        for name, tensor in zip(names, (folded, offset), strict=True):
            self.module.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
        return names

    def drop_unused(self) -> None:
        """Parameters and buffers that nothing reads any more leave the module."""
        used = {str(node.target) for node in self.module.graph.nodes if node.op == "get_attr"}
        tensors = [*self.module.named_parameters(), *self.module.named_buffers()]
        for name in {name for name, _ in tensors} - used:
            owner, _, leaf = name.rpartition(".")
            delattr(self.module.get_submodule(owner), leaf)
        self.made = {key: names for key, names in self.made.items() if names[0] in used}

    def _tensor(self, node: object) -> torch.Tensor:
        assert isinstance(node, fx.Node)
        found = operator.attrgetter(str(node.target))(self.module)
        assert isinstance(found, torch.Tensor)
        return found.detach()

    def _double(self, node: object, default: float) -> torch.Tensor:
        return torch.tensor(default, dtype=torch.float64) if node is None else self._tensor(node).double()


def _is_constant(node: object) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr"


def _target(node: object) -> str | None:
    return str(node.target) if isinstance(node, fx.Node) else None


def _bypass(node: fx.Node, source: fx.Node) -> None:
    """Readers of `node` read `source` instead; a decomposed BatchNorm gives a tuple, read through getitem."""
    if node.target is _aten._native_batch_norm_legit_no_training.default:
        for user in list(node.users):
            if user.target is operator.getitem and user.args[1] == 0:
                user.replace_all_uses_with(source)
                user.graph.erase_node(user)
    else:
        node.replace_all_uses_with(source)
    if not node.users:
        node.graph.erase_node(node)
