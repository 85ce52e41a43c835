"""A neural-ODE network of depthwise-separable convolutions in integers.

Every scale is a power of two, so a layer is: accumulate, add a bias, shift right, saturate. The bias holds the
rounding constant and the zero point, the shift may differ a channel, and no multiplier is needed beside the
convolutions' own. Feature maps are (C, H, W); one image at a time or with leading axes (..., C, H, W).

    state       INT8, the z of the ODE block; one Euler step adds f to it and saturates
    inner       UINT4 between depthwise and pointwise: a signed 4-bit value plus 8
    middle      unsigned, after the first convolution of f and its ReLU; `middle_high` is its largest value
    weights     INT4
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hwkit.errors import BadInput
from hwkit.integer.arithmetic import Ints, saturated, shifted

INNER_ZERO = 8                   # what the inner value 0 is stored as
INNER_HIGH = 15
STATE_LOW, STATE_HIGH = -128, 127


@dataclass(frozen=True)
class Separable:
    """A 3x3 depthwise convolution (padding 1), requantised to UINT4, and a pointwise one, shifted.

    depthwise        (I, 3, 3) in [-8, 7]
    depthwise_bias   (I,) added to the nine products; holds 8 << shift (the zero point) and the rounding half
    depthwise_shift  (I,) >= 0
    pointwise        (O, I) in [-8, 7]
    pointwise_bias   (K, O): one row, or one a solver step where f depends on time; holds -8 times the sum of the
                     weights (the zero point again) and the rounding half
    pointwise_shift  (O,) >= 0
    stride           1, or 2: every second row and column, from the first
    """

    depthwise: Ints
    depthwise_bias: Ints
    depthwise_shift: Ints
    pointwise: Ints
    pointwise_bias: Ints
    pointwise_shift: Ints
    stride: int = 1

    @property
    def inputs(self) -> int:
        return int(self.pointwise.shape[1])

    @property
    def outputs(self) -> int:
        return int(self.pointwise.shape[0])

    def inner(self, x: Ints) -> Ints:
        """(..., I, H, W) -> (..., I, ceil(H / stride), ceil(W / stride)) in 0..15."""
        height, width = x.shape[-2:]
        padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)])
        total = self.depthwise_bias[:, None, None] + sum(
            padded[..., ky:ky + height, kx:kx + width][..., ::self.stride, ::self.stride]
            * self.depthwise[:, ky, kx, None, None]
            for ky in range(3) for kx in range(3))
        return saturated(shifted(total, self.depthwise_shift[:, None, None]), 0, INNER_HIGH)

    def __call__(self, x: Ints, step: int = 0) -> Ints:
        """(..., I, H, W) -> (..., O, H', W') before any saturation."""
        inner = self.inner(x)
        flat = inner.reshape(*inner.shape[:-2], -1)
        total = np.matmul(self.pointwise, flat).reshape(*inner.shape[:-3], self.outputs, *inner.shape[-2:])
        bias = self.pointwise_bias[step % len(self.pointwise_bias)]
        return shifted(total + bias[:, None, None], self.pointwise_shift[:, None, None])


@dataclass(frozen=True)
class OdeBlock:
    """`steps` Euler steps over one shared f of one or two convolutions; h is inside f's last bias and shift."""

    convolutions: tuple[Separable, ...]
    steps: int

    def __call__(self, z: Ints, middle_high: int, watch: Callable[[Ints], None] | None = None) -> Ints:
        for step in range(self.steps):
            value = z
            for conv in self.convolutions[:-1]:
                value = saturated(conv(value, step), 0, middle_high)
                if watch:
                    watch(value)
            z = saturated(z + self.convolutions[-1](value, step), STATE_LOW, STATE_HIGH)
            if watch:
                watch(z)
        return z


@dataclass(frozen=True)
class Transition:
    """A strided convolution and its ReLU between two ODE blocks; gives a state, 0..127."""

    convolution: Separable
    steps = 1

    @property
    def convolutions(self) -> tuple[Separable, ...]:
        """As an ODE block has them."""
        return (self.convolution,)

    def __call__(self, z: Ints, middle_high: int, watch: Callable[[Ints], None] | None = None) -> Ints:
        value = saturated(self.convolution(z), 0, STATE_HIGH)
        if watch:
            watch(value)
        return value


@dataclass(frozen=True)
class Stem:
    """The layer before the chip: 3x3 convolution, bias, shift, ReLU; on the board's CPU.

    weights      (O, I, 3, 3) INT8;  bias (O,);  shift (O,);  stride 1 or 2
    input_scale  an image value v enters as round-half-even(v / input_scale), saturated to INT8
    """

    weights: Ints
    bias: Ints
    shift: Ints
    stride: int
    input_scale: float

    def quantized(self, images: Any) -> Ints:
        """(n, I, H, W) float32 -> the same in INT8."""
        steps = np.rint(np.asarray(images, np.float64) / self.input_scale)
        return np.clip(steps, -128, 127).astype(np.int64)     # clipped as floats: a huge value is no integer

    def __call__(self, x: Ints) -> Ints:
        """(..., I, H, W) INT8 -> (..., O, H', W') in 0..127, a state."""
        height, width = x.shape[-2:]
        padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)])
        total: Any = self.bias[:, None, None]
        for ky in range(3):
            for kx in range(3):
                seen = padded[..., ky:ky + height, kx:kx + width][..., ::self.stride, ::self.stride]
                total = total + np.einsum("oi,...ihw->...ohw", self.weights[:, :, ky, kx], seen)
        return saturated(shifted(total, self.shift[:, None, None]), 0, STATE_HIGH)


@dataclass(frozen=True)
class Head:
    """The layers after the chip: sum over the image, then a linear layer; on the board's CPU.

    weights (classes, C) INT8, bias (classes,); the sums times `output_scale` are the network's outputs.
    """

    weights: Ints
    bias: Ints
    output_scale: float

    def __call__(self, z: Ints) -> Ints:
        """(..., C, H, W) INT8 -> (..., classes)."""
        sums: Ints = z.sum(axis=(-2, -1)) @ self.weights.T + self.bias
        return sums


@dataclass(frozen=True)
class IntegerNetwork:
    """stem -> (ODE blocks and transitions) -> head. Everything between stem and head runs on the chip.

    input_shape  (channels, height, width) of an image
    middle_high  see the head of this file; 2^bits - 1
    """

    name: str
    input_shape: tuple[int, int, int]
    stem: Stem
    core: tuple[OdeBlock | Transition, ...]
    head: Head
    middle_high: int = 127
    history: tuple[str, ...] = field(default=())

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what enters the chip."""
        _, height, width = self.input_shape
        stride = self.stem.stride
        return len(self.stem.weights), -(-height // stride), -(-width // stride)

    def on_chip(self, z: Ints, watch: Callable[[Ints], None] | None = None) -> Ints:
        """The core: a state (..., C, H, W) in, the last state out. `watch` sees each pass's result."""
        for part in self.core:
            z = part(z, self.middle_high, watch)
        return z

    def logits(self, images: Any) -> Ints:
        """(n, C, H, W) float32 images -> (n, classes) integers; times head.output_scale they are the outputs."""
        return self.head(self.on_chip(self.stem(self.stem.quantized(images))))


def validate(network: IntegerNetwork) -> None:
    """Raise BadInput, naming the layer, where a value is outside what the engine holds or shapes do not fit."""
    channels = network.state_shape[0]
    for name, conv in convolutions(network):
        if conv.inputs != channels:
            raise BadInput(f"{name} takes {conv.inputs} channels, the layer before it gives {channels}")
        for what, weights in (("depthwise", conv.depthwise), ("pointwise", conv.pointwise)):
            if weights.min() < -8 or weights.max() > 7:
                raise BadInput(f"{name}: {what} weights go from {weights.min()} to {weights.max()}, INT4 holds "
                               "-8..7", "quantise with weight_bits=4 or less")
        channels = conv.outputs
    if network.head.weights.shape[1] != channels:
        raise BadInput(f"the head takes {network.head.weights.shape[1]} channels, the core gives {channels}")


def convolutions(network: IntegerNetwork) -> Iterator[tuple[str, Separable]]:
    """Every separable convolution with its name: "ode1.conv1", "down1", ..."""
    blocks = downs = 0
    for part in network.core:
        if isinstance(part, OdeBlock):
            blocks += 1
            yield from ((f"ode{blocks}.conv{k}", conv) for k, conv in enumerate(part.convolutions, 1))
        else:
            downs += 1
            yield f"down{downs}", part.convolution


_SEPARABLE = ("depthwise", "depthwise_bias", "depthwise_shift", "pointwise", "pointwise_bias", "pointwise_shift")


def save(network: IntegerNetwork, path: Path) -> None:
    """One .npz: the arrays, and a JSON text that says how they belong together."""
    arrays = {f"stem.{k}": getattr(network.stem, k) for k in ("weights", "bias", "shift")}
    arrays |= {f"head.{k}": getattr(network.head, k) for k in ("weights", "bias")}
    core: list[dict[str, Any]] = []
    for part in network.core:
        convs = part.convolutions
        for k, conv in enumerate(convs):
            arrays |= {f"{len(core)}.{k}.{name}": getattr(conv, name) for name in _SEPARABLE}
        core.append({"convolutions": len(convs), "stride": convs[0].stride,
                     "steps": part.steps if isinstance(part, OdeBlock) else 0})
    about = {"name": network.name, "input_shape": network.input_shape, "core": core,
             "stem": {"stride": network.stem.stride, "input_scale": network.stem.input_scale},
             "head": {"output_scale": network.head.output_scale},
             "middle_high": network.middle_high, "history": network.history}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as f:
        np.savez_compressed(f, about=np.array(json.dumps(about, sort_keys=True)), **arrays)


def load(path: Path) -> IntegerNetwork:
    """What `save` wrote. Raises BadInput."""
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {k: found[k].astype(np.int64) for k in found.files if k != "about"}
            about = json.loads(str(found["about"]))
    except (OSError, ValueError, KeyError) as e:
        raise BadInput(f"{path} is not an integer network: {e}", "build it again") from None
    core: list[OdeBlock | Transition] = []
    for number, part in enumerate(about["core"]):
        convs = tuple(Separable(**{name: arrays[f"{number}.{k}.{name}"] for name in _SEPARABLE},
                                stride=part["stride"]) for k in range(part["convolutions"]))
        core.append(OdeBlock(convs, part["steps"]) if part["steps"] else Transition(convs[0]))
    channels, height, width = about["input_shape"]
    return IntegerNetwork(
        name=about["name"], input_shape=(channels, height, width),
        stem=Stem(**{k: arrays[f"stem.{k}"] for k in ("weights", "bias", "shift")}, **about["stem"]),
        core=tuple(core), head=Head(arrays["head.weights"], arrays["head.bias"], **about["head"]),
        middle_high=about["middle_high"], history=tuple(about["history"]))
