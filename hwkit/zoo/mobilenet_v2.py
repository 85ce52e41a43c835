"""MobileNetV2: inverted residuals with linear bottlenecks.

Sandler et al., arXiv 1801.04381, table 2; 3,504,872 parameters at width 1 and 1000 classes. No weights are
shipped: it comes with random ones, for latency and conversion, never for accuracy.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

INPUT_SHAPE = (3, 224, 224)
DATASET = None

# expansion, output channels, repeats, stride of the first: table 2 of the paper
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def input_shape(resolution: int = 224, **_: object) -> tuple[int, int, int]:
    """One image's shape for the options of `build`."""
    return 3, resolution, resolution


def _scaled(channels: int, width: float) -> int:
    """channels·width rounded to a multiple of 8, never more than 10 % down, as in the reference code."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


def _conv_bn(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True
) -> list[nn.Module]:
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return [*layers, nn.ReLU6()] if relu else layers


class InvertedResidual(nn.Module):
    """Expand 1x1, filter 3x3 a channel, project 1x1 without activation; added to its input where it fits."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = _conv_bn(in_channels, hidden, 1) if expansion != 1 else []
        self.layers = nn.Sequential(
            *expand,
            *_conv_bn(hidden, hidden, 3, stride, groups=hidden),
            *_conv_bn(hidden, out_channels, 1, relu=False),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return x + out if self.residual else out


def build(*, classes: int = 1000, width: float = 1.0, resolution: int = 224) -> nn.Sequential:
    """(batch, 3, resolution, resolution) -> (batch, classes).

    width       factor on every channel count (0.35 to 1.4 in the paper)
    resolution  of the input in pixels; no weight depends on it
    """
    channels = _scaled(32, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(*_conv_bn(3, channels, 3, stride=2)))
    for expansion, out, repeats, stride in _STAGES:
        for k in range(repeats):
            block = InvertedResidual(channels, _scaled(out, width), stride if k == 0 else 1, expansion)
            channels = _scaled(out, width)
            layers[f"block{len(layers)}"] = block
    last = _scaled(1280, max(1.0, width))
    layers["last"] = nn.Sequential(*_conv_bn(channels, last, 1))
    layers["head"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes))
    return nn.Sequential(layers)
