"""Depthwise-separable convolution: a 3x3 filter a channel, then a 1x1 mix of the channels."""

from __future__ import annotations

import torch
from torch import nn


class DepthwiseSeparableConv2d(nn.Module):
    """Stands in for a 3x3 convolution with padding 1.

    (batch, in_channels, H, W) -> (batch, out_channels, ceil(H / stride), ceil(W / stride)).

    9·I + I·O weights instead of 9·I·O, a ratio of 1/O + 1/9 (Howard et al., arXiv 1704.04861). There is
    no normalisation or activation between the two: in a shared neural-ODE block it costs accuracy.
    The only bias is the pointwise one (O more parameters), since it absorbs any depthwise bias.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, 3, stride=stride, padding=1, groups=in_channels, bias=False
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.pointwise(self.depthwise(x))
        return out
