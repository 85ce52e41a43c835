"""Brevitas layers with constant scales, and how those scales are chosen.

A weight's scale is one power of two for the whole tensor. What the channels differ by goes into a BatchNorm behind
the layer (weight and bias alone), which hardware compilers make part of the next quantiser's thresholds: every
output channel then has a scale of its own at no cost. An activation's scale is a float of 8 significant bits, so
that its product with a code is exact in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.core.quant import QuantType
from brevitas.core.zero_point import ZeroZeroPoint
from brevitas.inject.enum import RestrictValueType, ScalingImplType, ScalingPerOutputType
from brevitas.quant.base import IntQuant, NarrowIntQuant, UintQuant
from brevitas.quant.solver import ActQuantSolver, WeightQuantSolver
from torch import nn

CLIPS = [1.0 - 0.04 * k for k in range(18)]   # fractions of the largest value that a scale is tried for
SIGNIFICANT_BITS = 8


def short(scale: float) -> float:
    """The nearest number of 8 significant bits; at least the smallest that float32 can divide by."""
    mantissa, exponent = math.frexp(max(scale, 2.0 ** -60))
    return math.ldexp(round(mantissa * (1 << SIGNIFICANT_BITS)), exponent - SIGNIFICANT_BITS)


def activation_scale(members: Sequence[tuple[torch.Tensor, int, int]]) -> float:
    """The scale with the least squared error over all members of a group.

    members  values, smallest and largest code
    """
    widest = max(float(values.abs().max()) / max(-low, high) for values, low, high in members) or 1.0

    def error(scale: float) -> float:
        return sum(float((torch.clamp(torch.round(values / scale), low, high) * scale - values).square().mean())
                   for values, low, high in members)

    return min((short(widest * clip) for clip in CLIPS), key=error)


def activation(scale: float, bits: int, relu: bool) -> nn.Module:
    """A quantiser that rounds to the nearest, half to even; with its ReLU, then unsigned."""
    levels = 2.0 ** bits - 1 if relu else 2.0 ** (bits - 1)
    quantiser = _made((UintQuant if relu else IntQuant, ActQuantSolver), bit_width=bits,
                      scaling_init=scale * levels)
    made: nn.Module = (qnn.QuantReLU if relu else qnn.QuantIdentity)(act_quant=quantiser, bit_width=bits)
    return made


def layer(float_layer: nn.Module, bits: int, by_channel: bool) -> nn.Sequential:
    """Conv2d or Linear with its weight on `bits` bits; by_channel: with the BatchNorm that scales the channels.

    The weight stays trainable, and what is rounded off stays in it.
    """
    assert isinstance(float_layer, nn.Conv2d | nn.Linear)
    weight = float_layer.weight.detach()
    step = _steps(weight.flatten(1) if by_channel else weight.reshape(1, -1), bits)
    scale = 1.0 if bits == 1 else 2.0 ** (1 - bits)
    if not by_channel:
        scale = short(float(step))
    factor = step / scale if by_channel else torch.ones(1)
    keeps_bias = not by_channel and float_layer.bias is not None
    made = _layer(float_layer, scale, bits, keeps_bias)
    state = made.state_dict()
    state["weight"].copy_(weight / factor.reshape(-1, *(1,) * (weight.dim() - 1)))
    if not by_channel:
        if float_layer.bias is not None:
            state["bias"].copy_(float_layer.bias.detach())
        return nn.Sequential(made)
    kind = nn.BatchNorm2d if isinstance(float_layer, nn.Conv2d) else nn.BatchNorm1d
    norm = kind(len(weight), eps=0.0)
    norm.weight.data.copy_(factor)
    if float_layer.bias is not None:
        norm.bias.data.copy_(float_layer.bias.detach())
    return nn.Sequential(made, norm.eval())


def _layer(like: nn.Conv2d | nn.Linear, scale: float, bits: int, bias: bool) -> nn.Module:
    made: nn.Module
    if isinstance(like, nn.Linear):
        made = qnn.QuantLinear(like.in_features, like.out_features, bias=bias, weight_quant=_weight(scale, bits))
    else:
        made = qnn.QuantConv2d(like.in_channels, like.out_channels, like.kernel_size, stride=like.stride,
                               padding=like.padding, dilation=like.dilation, groups=like.groups, bias=bias,
                               weight_quant=_weight(scale, bits))
    return made


def _steps(rows: torch.Tensor, bits: int) -> torch.Tensor:
    """(rows,) the distance between two codes with the least squared error, for each row."""
    if bits == 1:
        return torch.clamp(rows.abs().mean(1), min=2.0 ** -60)
    high = 2 ** (bits - 1) - 1
    largest = torch.clamp(rows.abs().amax(1), min=2.0 ** -60)
    tried = torch.stack([largest * clip / high for clip in CLIPS])
    errors = torch.stack([(torch.clamp(torch.round(rows / s[:, None]), -high, high) * s[:, None] - rows)
                          .square().sum(1) for s in tried])
    found: torch.Tensor = tried.gather(0, errors.argmin(0)[None])[0]
    return found


def _weight(scale: float, bits: int) -> Any:
    if bits == 1:
        return _made((WeightQuantSolver,), quant_type=QuantType.BINARY, bit_width=1, narrow_range=True,
                     signed=True, scaling_init=scale)
    return _made((NarrowIntQuant, WeightQuantSolver), bit_width=bits, scaling_init=scale * (2.0 ** (bits - 1) - 1))


def _made(bases: tuple[type, ...], **values: Any) -> Any:
    return type("ConstantQuantizer", bases, {
        "scaling_impl_type": ScalingImplType.CONST, "restrict_scaling_type": RestrictValueType.FP,
        "scaling_per_output_type": ScalingPerOutputType.TENSOR, "zero_point_impl": ZeroZeroPoint, **values})
