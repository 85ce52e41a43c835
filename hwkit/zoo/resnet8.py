"""ResNet-8: the image classification network of the MLPerf Tiny benchmark.

Banbury et al., "MLPerf Tiny Benchmark", arXiv 2106.07597; reference model in mlcommons/tiny. As there,
three residual stages of one block each; here the first BatchNorm follows its convolution everywhere.
77,946 parameters at 3x32x32 and 10 classes; 1x28x28 by default, for the data set it is shipped with.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from hwkit.zoo._layers import classifier, conv_bn_relu

INPUT_SHAPE = (1, 28, 28)
DATASET = "fashion-mnist"


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a short cut, which is a 1x1 convolution where shapes change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first = conv_bn_relu(in_channels, out_channels, stride)
        self.conv = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.relu(self.norm(self.conv(self.first(x))) + self.shortcut(x))
        return out


def build(
    *,
    input_shape: tuple[int, int, int] = INPUT_SHAPE,
    classes: int = 10,
    channels: tuple[int, int, int] = (16, 32, 64),
) -> nn.Sequential:
    """(batch, *input_shape) -> (batch, classes). channels: width of the three stages."""
    c1, c2, c3 = channels
    return nn.Sequential(
        OrderedDict(
            stem=conv_bn_relu(input_shape[0], c1),
            block1=ResidualBlock(c1, c1, 1),
            block2=ResidualBlock(c1, c2, 2),
            block3=ResidualBlock(c2, c3, 2),
            head=classifier(c3, classes),
        )
    )
