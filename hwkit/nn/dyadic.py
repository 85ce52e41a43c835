"""The network of hwkit.integer.separable as a torch module of Brevitas quantisers, to train and to export.

Every activation between stem and head is counted in its own LSB: its scale is 1, it holds integers. A weight is an
integer times 2^-shift of its output channel, a bias an integer times the same, half an LSB included, and an
activation rounds down. All values are integers times a power of two that float32 holds exactly, so the
module computes what the integers do, without a tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import brevitas.nn as qnn
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hwkit.errors import BadInput
from hwkit.integer.arithmetic import Ints, limits
from hwkit.integer.separable import (
    INNER_ZERO,
    STATE_HIGH,
    Head,
    IntegerNetwork,
    OdeBlock,
    Separable,
    Stem,
    Transition,
)
from hwkit.nn import _quantizers as quantizers
from hwkit.nn.separable import FloatConv, FloatHead, FloatStem

MAX_SHIFT = 10             # of a convolution on the chip
MAX_SHIFT_SPREAD = 7       # between the channels of one layer
DEPTHWISE_BIAS_BITS = 15   # before the zero point's 8 << shift is added; with it, 16
POINTWISE_BIAS_BITS = 19   # before the zero point's -8 * sum is added; with it, 20
CPU_BITS = 8               # weights of stem and head
CPU_BIAS_BITS = 32
STATE_UNIT = 8.0           # LSBs of a 7-bit value that are one LSB of a 4-bit one
EXACT = 2**24              # float32 holds every integer up to here


@dataclass(frozen=True)
class Precision:
    """Widths that may be chosen; the state is INT8 and the inner value INT4.

    weight_bits   of the convolutions on the chip, 1 (-1 and 1) to 4 (-7 to 7)
    middle_bits   of the unsigned value between f's two convolutions, 2 to 7
    """

    weight_bits: int = 4
    middle_bits: int = 7

    def __post_init__(self) -> None:
        if not 1 <= self.weight_bits <= 4:
            raise BadInput(f"weights of {self.weight_bits} bits: the on-chip engine holds 1 to 4", "weight_bits=4")
        if not 2 <= self.middle_bits <= 7:
            raise BadInput(f"{self.middle_bits} bits between f's convolutions: the on-chip engine takes 2 to 7",
                           "middle_bits=7")


class Shifted(nn.Module):
    """A convolution or linear layer whose weight and bias are integers times 2^-shift of the output channel.

    `quantized()` gives both as they are deployed; the caller applies them, as often as it likes.
    """

    def __init__(self, layer: type[nn.Module], shape: Sequence[int], scale: torch.Tensor, weight: torch.Tensor,
                 weight_bits: int, bias: torch.Tensor, bias_scale: torch.Tensor, bias_bits: int,
                 bias_unit: float) -> None:
        super().__init__()
        self.scale: torch.Tensor
        self.bias_scale: torch.Tensor
        made: Any = layer(*shape, bias=True, weight_quant=quantizers.weight(scale.float(), weight_bits),
                          bias_quant=quantizers.bias(bias_scale.float(), bias_bits))
        with torch.no_grad():
            made.weight.copy_(weight.reshape(made.weight.shape))
            made.bias.copy_(bias)
        self.layer: Any = made
        self.weight_high, self.bias_unit = max(1, 2 ** (weight_bits - 1) - 1), bias_unit
        self.register_buffer("scale", scale.float(), persistent=False)
        self.register_buffer("bias_scale", bias_scale.float(), persistent=False)

    def quantized(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layer.weight_quant(self.layer.weight).value, self.layer.bias_quant(self.layer.bias).value

    def integers(self) -> tuple[Ints, Ints]:
        """Weight and bias divided by their scales. Raises ValueError where that is no integer."""
        with torch.no_grad():
            weight, bias = self.quantized()
            return _integers(weight / self.scale), _integers(bias / self.bias_scale)

    def shift(self) -> Ints:
        """(O,), of the bias and of the accumulator."""
        return _integers(-torch.log2(self.bias_scale.double())).reshape(-1)

    def learned(self) -> tuple[tuple[nn.Parameter, torch.Tensor, torch.Tensor | None], ...]:
        """(parameter, what is a step of one in it, its largest value) of what training changes.

        One is an LSB of an INT4 weight or value; of wider ones it is the same part of their range.
        """
        return ((self.layer.weight, self.scale * max(1.0, self.weight_high / 7), self.scale * self.weight_high),
                (self.layer.bias, torch.full_like(self.bias_scale, self.bias_unit), None))


class Rounded(nn.Module):
    """Round down and saturate: a Brevitas quantiser, and one fused operation of the same values in training.

    Brevitas builds its clamp of five passes over the tensor, which is half of a training step on a CPU.
    """

    def __init__(self, bits: int, signed: bool) -> None:
        super().__init__()
        layer = qnn.QuantIdentity if signed else qnn.QuantReLU
        self.quantizer = layer(act_quant=quantizers.activation(bits, signed))
        self.low, self.high = limits(bits, signed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fast = self.training and x.requires_grad
        if not fast:
            exact: torch.Tensor = self.quantizer(x)
            return exact
        out: torch.Tensor = _FloorClamp.apply(x, self.low, self.high)   # type: ignore[no-untyped-call]
        return out


class _FloorClamp(torch.autograd.Function):
    """floor and clamp; the gradient passes where nothing saturated."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, low: int, high: int) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.range = float(low), float(high + 1)
        return x.floor().clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad, x, *ctx.range), None, None


class DyadicConv(nn.Module):
    """hwkit.integer.separable.Separable: depthwise, INT4 between, pointwise. No quantiser at its end."""

    def __init__(self, conv: FloatConv, depthwise_shift: torch.Tensor, pointwise_shift: torch.Tensor,
                 weight_bits: int) -> None:
        super().__init__()
        outputs, inputs = conv.pointwise.shape
        self.stride = conv.stride
        by_depthwise, by_pointwise = 2.0 ** -depthwise_shift.double(), 2.0 ** -pointwise_shift.double()
        self.depthwise = Shifted(
            _Depthwise, (inputs,), by_depthwise[:, None, None, None], conv.depthwise, weight_bits,
            conv.depthwise_bias + half(depthwise_shift), by_depthwise, DEPTHWISE_BIAS_BITS, 1.0)
        self.pointwise = Shifted(
            qnn.QuantConv2d, (inputs, outputs, 1), by_pointwise[:, None, None, None], conv.pointwise, weight_bits,
            conv.pointwise_bias + half(pointwise_shift), by_pointwise, POINTWISE_BIAS_BITS, STATE_UNIT)
        self.inner = Rounded(4, signed=True)

    def weights(self) -> tuple[torch.Tensor, ...]:
        """The quantised tensors, to be passed to forward: once a forward of the network, for all solver steps."""
        return (*self.depthwise.quantized(), *self.pointwise.quantized())

    def forward(self, x: torch.Tensor, weights: tuple[torch.Tensor, ...]) -> torch.Tensor:
        depthwise, depthwise_bias, pointwise, pointwise_bias = weights
        inner = self.inner(F.conv2d(x, depthwise, depthwise_bias, self.stride, 1, groups=depthwise.shape[0]))
        return F.conv2d(inner, pointwise, pointwise_bias)

    def to_integer(self) -> Separable:
        depthwise, depthwise_bias = self.depthwise.integers()
        pointwise, pointwise_bias = self.pointwise.integers()
        pointwise = pointwise[:, :, 0, 0]
        shift = self.depthwise.shift()
        return Separable(depthwise=depthwise[:, 0], depthwise_bias=depthwise_bias + (INNER_ZERO << shift),
                         depthwise_shift=shift, pointwise=pointwise,
                         pointwise_bias=(pointwise_bias - INNER_ZERO * pointwise.sum(1))[None],
                         pointwise_shift=self.pointwise.shift(), stride=self.stride)


class _Depthwise(qnn.QuantConv2d):  # type: ignore[misc]
    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=channels, **options)


class DyadicOde(nn.Module):
    """`steps` times z = saturated(z + f(z)), one set of weights."""

    def __init__(self, convolutions: Sequence[DyadicConv], steps: int, middle_bits: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.steps = steps
        self.middle = Rounded(middle_bits, signed=False)
        self.state = Rounded(8, signed=True)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        weights = [conv.weights() for conv in self.convolutions]   # type: ignore[operator]
        *first, last = zip(self.convolutions, weights, strict=True)
        for _ in range(self.steps):
            value = z
            for conv, own in first:
                value = self.middle(conv(value, own))
            z = self.state(z + last[0](value, last[1]))
        return z


class DyadicTransition(nn.Module):
    """A strided convolution and its ReLU."""

    def __init__(self, convolution: DyadicConv) -> None:
        super().__init__()
        self.convolution = convolution
        self.state = Rounded(7, signed=False)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.state(self.convolution(z, self.convolution.weights()))
        return out


class DyadicStem(nn.Module):
    """Image to INT8, 3x3 convolution, ReLU."""

    def __init__(self, stem: FloatStem, shift: torch.Tensor, input_scale: float) -> None:
        super().__init__()
        outputs, inputs = stem.weights.shape[:2]
        self.stride, self.input_scale = stem.stride, input_scale
        scale = 2.0 ** -shift.double()
        self.image = qnn.QuantIdentity(act_quant=quantizers.image(input_scale))
        self.conv = Shifted(qnn.QuantConv2d, (inputs, outputs, 3), scale[:, None, None, None] / input_scale,
                            stem.weights, CPU_BITS, stem.bias + half(shift), scale, CPU_BIAS_BITS, STATE_UNIT)
        self.state = Rounded(7, signed=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        weight, bias = self.conv.quantized()
        out: torch.Tensor = self.state(F.conv2d(self.image(images), weight, bias, self.stride, 1))
        return out

    def to_integer(self) -> Stem:
        weights, bias = self.conv.integers()
        return Stem(weights=weights, bias=bias, shift=self.conv.shift(), stride=self.stride,
                    input_scale=self.input_scale)


class DyadicHead(nn.Module):
    """Sum over the image, linear layer. `output_scale` is the value of one LSB of its sums."""

    def __init__(self, head: FloatHead, output_scale: float, pixels: int) -> None:
        super().__init__()
        classes, channels = head.weights.shape
        self.output_scale, self.pixels = output_scale, pixels
        self.linear = Shifted(qnn.QuantLinear, (channels, classes), torch.full((classes, 1), output_scale),
                              head.weights / pixels, CPU_BITS, head.bias,
                              torch.full((classes,), output_scale), CPU_BIAS_BITS, 1.0)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return F.linear(z.sum((2, 3)), *self.linear.quantized())

    def to_integer(self) -> Head:
        """Raises BadInput where float32 could not hold a sum exactly."""
        weights, bias = self.linear.integers()
        largest = int((np.abs(weights).sum(1) * (STATE_HIGH + 1) * self.pixels + np.abs(bias)).max())
        if largest > EXACT:
            raise BadInput(f"the head's sums reach {largest}, more than float32 holds exactly",
                           "use fewer channels or smaller images")
        return Head(weights=weights, bias=bias, output_scale=self.output_scale)


class DyadicNetwork(nn.Module):
    """(n, *input_shape) float32 images -> (n, classes): the integer network's outputs, exactly."""

    def __init__(self, name: str, input_shape: tuple[int, int, int], precision: Precision, stem: DyadicStem,
                 core: Sequence[DyadicOde | DyadicTransition], head: DyadicHead,
                 history: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.name, self.input_shape, self.precision, self.history = name, input_shape, precision, history
        self.stem, self.core, self.head = stem, nn.ModuleList(core), head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        z = self.stem(images)
        for part in self.core:
            z = part(z)
        out: torch.Tensor = self.head(z)
        return out

    def shifted(self) -> list[Shifted]:
        """Every layer with weights, stem and head included."""
        return [module for module in self.modules() if isinstance(module, Shifted)]


def to_integer(module: DyadicNetwork) -> IntegerNetwork:
    """The integers a module computes with. Raises BadInput where they are outside what the engine holds."""
    core: list[OdeBlock | Transition] = []
    for part in module.core:
        if isinstance(part, DyadicOde):
            convs = tuple(conv.to_integer() for conv in part.convolutions)   # type: ignore[operator]
            core.append(OdeBlock(convs, part.steps))
        else:
            assert isinstance(part, DyadicTransition)
            core.append(Transition(part.convolution.to_integer()))
    return IntegerNetwork(name=module.name, input_shape=module.input_shape, stem=module.stem.to_integer(),
                          core=tuple(core), head=module.head.to_integer(),
                          middle_high=2**module.precision.middle_bits - 1, history=module.history)


def half(shift: torch.Tensor) -> torch.Tensor:
    """The rounding constant in LSBs of the result; none where nothing is shifted out."""
    return torch.where(shift > 0, 0.5, 0.0).double()


def _integers(values: torch.Tensor) -> Ints:
    found = values.detach().double().numpy()
    whole: Ints = np.rint(found).astype(np.int64)
    if not np.array_equal(whole, found):
        raise ValueError("a quantised value is not a multiple of its scale")
    return whole
