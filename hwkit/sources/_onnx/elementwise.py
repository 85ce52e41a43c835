"""Operators that work value by value."""

from __future__ import annotations

import functools
import operator as python
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F

from hwkit.sources._onnx.operator import Node, operator

T = torch.Tensor
Number = T | float

UNARY: dict[str, Callable[[T], T]] = {
    "Relu": F.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Exp": torch.exp, "Log": torch.log,
    "Sqrt": torch.sqrt, "Reciprocal": torch.reciprocal, "Abs": torch.abs, "Neg": torch.neg, "Sign": torch.sign,
    "Floor": torch.floor, "Ceil": torch.ceil, "Round": torch.round, "Erf": torch.erf, "Sin": torch.sin,
    "Cos": torch.cos, "Not": torch.logical_not, "HardSwish": F.hardswish, "Softplus": F.softplus,
    "Softsign": F.softsign, "Mish": F.mish, "IsNaN": torch.isnan,
}
BINARY: dict[str, Callable[[Any, Any], T]] = {
    "Add": python.add, "Sub": python.sub, "Mul": python.mul, "Pow": python.pow, "Equal": python.eq,
    "Greater": python.gt, "GreaterOrEqual": python.ge, "Less": python.lt, "LessOrEqual": python.le,
    "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
}


def _unary(function: Callable[[T], T], _: Node, x: T) -> T:
    return function(x)


def _binary(function: Callable[[Any, Any], T], _: Node, a: Number, b: Number) -> T:
    return function(a, b)


for _name, _function in UNARY.items():
    operator(_name)(functools.partial(_unary, _function))
for _name, _pair in BINARY.items():
    operator(_name, scalars=_pair.__module__ == "_operator")(functools.partial(_binary, _pair))


@operator("Identity")
def identity(_: Node, x: T) -> T:
    return x


@operator("Dropout")
def dropout(node: Node, x: T, ratio: T | None = None, training: T | None = None) -> T | tuple[T, T]:
    """In inference it does nothing; its mask keeps everything."""
    return x if node.outputs == 1 else (x, torch.ones_like(x, dtype=torch.bool))


@operator("Div", scalars=True)
def div(_: Node, a: Number, b: Number) -> T:
    """Integers are divided towards zero."""
    tensor = a if isinstance(a, T) else b
    assert isinstance(tensor, T)
    if tensor.is_floating_point():
        return a / b   # type: ignore[return-value]
    return torch.div(torch.as_tensor(a), torch.as_tensor(b), rounding_mode="trunc")


@operator("Mod")
def mod(node: Node, a: T, b: T) -> T:
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


@operator("Min")
def minimum(_: Node, *operands: T) -> T:
    return functools.reduce(torch.minimum, operands)


@operator("Max")
def maximum(_: Node, *operands: T) -> T:
    return functools.reduce(torch.maximum, operands)


@operator("Sum")
def total(_: Node, *operands: T) -> T:
    return functools.reduce(torch.add, operands)


@operator("Mean")
def mean(_: Node, *operands: T) -> T:
    return functools.reduce(torch.add, operands) / len(operands)


@operator("Where")
def where(_: Node, condition: T, a: T, b: T) -> T:
    return torch.where(condition, a, b)


@operator("Clip", values=(1, 2))
def clip(node: Node, x: T, low: float | None = None, high: float | None = None) -> T:
    low = node.get("min", None) if low is None else low
    high = node.get("max", None) if high is None else high
    if low is None and high is None:
        return x
    if low == 0 and high == 6:
        return F.relu6(x)   # a single fused activation on most devices
    return torch.clamp(x, low, high)


@operator("LeakyRelu")
def leaky_relu(node: Node, x: T) -> T:
    return F.leaky_relu(x, node.get("alpha", 0.01))


@operator("PRelu")
def prelu(_: Node, x: T, slope: T) -> T:
    """F.prelu wants one slope a channel; ONNX broadcasts any shape."""
    channels = x.shape[1] if x.dim() > 1 else 1
    if slope.numel() in (1, channels) and slope.dim() == x.dim() - 1 and slope.shape[0] == slope.numel():
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


@operator("Elu")
def elu(node: Node, x: T) -> T:
    return F.elu(x, node.get("alpha", 1.0))


@operator("Selu")
def selu(node: Node, x: T) -> T:
    alpha = node.get("alpha", 1.67326319217681884765625)
    gamma = node.get("gamma", 1.05070102214813232421875)
    scaled: T = gamma * F.elu(x, alpha)
    return scaled


@operator("Celu")
def celu(node: Node, x: T) -> T:
    return F.celu(x, node.get("alpha", 1.0))


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, x: T) -> T:
    return F.threshold(x, node.get("alpha", 1.0), 0.0)


@operator("HardSigmoid")
def hard_sigmoid(node: Node, x: T) -> T:
    """As ReLU6, which devices have; a clamp to [0, 1] falls off XNNPACK."""
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(x)
    return F.relu6(6 * alpha * x + 6 * beta) / 6


@operator("Gelu")
def gelu(node: Node, x: T) -> T:
    return F.gelu(x, approximate=node.get("approximate", "none"))


@operator("Swish")
def swish(node: Node, x: T) -> T:
    alpha = node.get("alpha", 1.0)
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


def datatype(node: Node, code: int) -> torch.dtype:
    """The torch datatype of an onnx.TensorProto.DataType. Raises BadModel."""
    try:
        return torch.from_numpy(np.zeros(0, onnx.helper.tensor_dtype_to_np_dtype(code))).dtype
    except (KeyError, TypeError):
        raise node.unsupported(f"datatype {code}") from None


@operator("Cast")
def cast(node: Node, x: T) -> T:
    return x.to(datatype(node, node.get("to")))


@operator("CastLike")
def cast_like(_: Node, x: T, like: T) -> T:
    return x.to(like.dtype)
