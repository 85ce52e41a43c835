"""The torch module of an integer network: what `to_integer` gave, taken back."""

from __future__ import annotations

import torch

from hwkit.errors import BadInput
from hwkit.integer.arithmetic import Ints
from hwkit.integer.separable import INNER_ZERO, IntegerNetwork, OdeBlock, Separable, convolutions
from hwkit.nn.dyadic import (
    DyadicConv,
    DyadicHead,
    DyadicNetwork,
    DyadicOde,
    DyadicStem,
    DyadicTransition,
    Precision,
    half,
)
from hwkit.nn.separable import FloatConv, FloatHead, FloatStem


def from_integer(network: IntegerNetwork) -> DyadicNetwork:
    """A module that computes exactly what `network` does, in eval mode; to_integer gives `network` back.

    Raises BadInput for what no dyadic module holds: a weight of -8, biases that change from step to step.
    """
    largest = 1
    for name, conv in convolutions(network):
        if len(conv.pointwise_bias) != 1:
            raise BadInput(f"{name} has a bias for each solver step", "train the network without a time channel")
        largest = max(largest, int(abs(conv.depthwise).max()), int(abs(conv.pointwise).max()))
    if largest > 7:
        raise BadInput(f"{network.name} has weights up to {largest} in magnitude; symmetric INT4 ends at 7",
                       "quantise the network again")
    precision = Precision(largest.bit_length() + 1, int(network.middle_high).bit_length())
    core: list[DyadicOde | DyadicTransition] = []
    for part in network.core:
        if isinstance(part, OdeBlock):
            convs = [_conv(conv, precision.weight_bits) for conv in part.convolutions]
            core.append(DyadicOde(convs, part.steps, precision.middle_bits))
        else:
            core.append(DyadicTransition(_conv(part.convolution, precision.weight_bits)))
    stem, head = network.stem, network.head
    shift = torch.from_numpy(stem.shift)
    scale = _scale(stem.shift)
    pixels = _last_pixels(network)
    return DyadicNetwork(
        network.name, network.input_shape, precision,
        DyadicStem(FloatStem(_real(stem.weights) * scale[:, None, None, None] / stem.input_scale,
                             _real(stem.bias) * scale - half(shift), stem.stride), shift, stem.input_scale),
        core,
        DyadicHead(FloatHead(_real(head.weights) * head.output_scale * pixels,
                             _real(head.bias) * head.output_scale), head.output_scale, pixels),
        network.history).eval()


def _conv(conv: Separable, weight_bits: int) -> DyadicConv:
    by_depthwise, by_pointwise = _scale(conv.depthwise_shift), _scale(conv.pointwise_shift)
    depthwise_shift, pointwise_shift = (torch.from_numpy(s) for s in (conv.depthwise_shift, conv.pointwise_shift))
    depthwise_bias = _real(conv.depthwise_bias - (INNER_ZERO << conv.depthwise_shift))
    pointwise_bias = _real(conv.pointwise_bias[0] + INNER_ZERO * conv.pointwise.sum(1))
    return DyadicConv(
        FloatConv(_real(conv.depthwise) * by_depthwise[:, None, None],
                  depthwise_bias * by_depthwise - half(depthwise_shift),
                  _real(conv.pointwise) * by_pointwise[:, None],
                  pointwise_bias * by_pointwise - half(pointwise_shift), conv.stride),
        depthwise_shift, pointwise_shift, weight_bits)


def _real(values: Ints) -> torch.Tensor:
    return torch.from_numpy(values).double()


def _scale(shift: Ints) -> torch.Tensor:
    return 2.0 ** -_real(shift)


def _last_pixels(network: IntegerNetwork) -> int:
    _, height, width = network.state_shape
    for part in network.core:
        if not isinstance(part, OdeBlock):
            stride = part.convolution.stride
            height, width = -(-height // stride), -(-width // stride)
    return height * width
