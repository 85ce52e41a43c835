"""Small networks with seeded weights that the tests of this folder share."""

from __future__ import annotations

import functools

import torch

from hwkit import zoo
from hwkit.nn.dyadic import DyadicNetwork, Precision
from hwkit.nn.equalize import equalized, quantized
from hwkit.nn.separable import (
    FloatConv,
    FloatHead,
    FloatOde,
    FloatSeparable,
    FloatStem,
    FloatTransition,
    from_module,
)

torch.set_num_threads(1)   # tensors this small are slower on two

SHAPE = (1, 8, 8)


def images(count: int, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


@functools.cache
def network(seed: int = 0) -> FloatSeparable:
    """An untrained dsodenet of 8, 16 and 32 channels, two steps."""
    built = zoo.network("dsodenet", seed=seed, input_shape=SHAPE, channels=(8, 16, 32), steps=2, stem_stride=1)
    return from_module(built.module, "small", SHAPE)


def one_convolution(seed: int = 0, channels: int = 6, classes: int = 3) -> FloatSeparable:
    """Three input channels, a stem of stride 2, an f of one convolution, a transition of stride 1."""
    random = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    def conv(inputs: int, outputs: int, size: float) -> FloatConv:
        return FloatConv(drawn(inputs, 3, 3) / 3, 0.1 * drawn(inputs), size * drawn(outputs, inputs) / inputs**0.5,
                         0.1 * drawn(outputs))

    return FloatSeparable(
        "one", (3, 7, 9), FloatStem(drawn(channels, 3, 3, 3) / 5, 0.1 * drawn(channels), 2),
        (FloatOde((conv(channels, channels, 0.2),), 3), FloatTransition(conv(channels, 2 * channels, 1.0)),
         FloatOde((conv(2 * channels, 2 * channels, 1.0), conv(2 * channels, 2 * channels, 0.2)), 1)),
        FloatHead(drawn(classes, 2 * channels), drawn(classes)))


def dyadic(float_network: FloatSeparable, precision: Precision | None = None) -> DyadicNetwork:
    """Quantised after training, on noise."""
    precision = precision or Precision()
    x = images(32, 1, float_network.input_shape)
    return quantized(equalized(float_network, x, precision), x, precision).eval()
