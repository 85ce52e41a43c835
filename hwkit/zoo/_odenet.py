"""The three-stage neural-ODE network that odenet and dsodenet are two settings of.

stem - ode1 - down1 - ode2 - down2 - ode3 - head, an nn.Sequential with these names. The stem and the
down-sampling stages are conv-BN-ReLU; the function in an ODE block is conv-BN-ReLU-conv-BN.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, get_args

import torch
from torch import nn

from hwkit.errors import BadInput
from hwkit.nn.ode import ODEBlock, Solver, concat_time
from hwkit.zoo._layers import classifier, conv3x3, conv_bn_relu

Separable = Literal["everywhere", "blocks", "none"]


class Derivative(nn.Module):
    """f of an ODE block: conv-BN-ReLU-conv-BN, (batch, C, H, W) -> the same shape."""

    def __init__(self, channels: int, separable: bool) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels, separable=separable)
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = conv3x3(channels, channels, separable=separable)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(z)))))
        return out


class TimedDerivative(nn.Module):
    """Derivative whose two convolutions each see the time as one more channel."""

    def __init__(self, channels: int, separable: bool) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels + 1, channels, separable=separable)
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = conv3x3(channels + 1, channels, separable=separable)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.norm1(self.conv1(concat_time(z, t))))
        out: torch.Tensor = self.norm2(self.conv2(concat_time(y, t)))
        return out


def build_odenet(
    input_shape: tuple[int, int, int],
    classes: int,
    channels: tuple[int, int, int],
    steps: int,
    solver: Solver,
    time_channel: bool,
    separable: Separable,
    stem_stride: int,
) -> nn.Sequential:
    """The network; see odenet.build for the parameters."""
    if separable not in get_args(Separable):
        raise BadInput(f"no choice of separable convolutions named {separable!r}",
                       f"use one of {', '.join(get_args(Separable))}")
    in_blocks = separable != "none"
    in_down = separable == "everywhere"

    def block(width: int) -> ODEBlock:
        derivative = (TimedDerivative if time_channel else Derivative)(width, in_blocks)
        return ODEBlock(derivative, steps, solver)

    c1, c2, c3 = channels
    return nn.Sequential(
        OrderedDict(
            stem=conv_bn_relu(input_shape[0], c1, stem_stride),
            ode1=block(c1),
            down1=conv_bn_relu(c1, c2, 2, in_down),
            ode2=block(c2),
            down2=conv_bn_relu(c2, c3, 2, in_down),
            ode3=block(c3),
            head=classifier(c3, classes),
        )
    )


def core_parameters(network: nn.Sequential) -> int:
    """Number of parameters without the stem and the head, the pre- and post-processing layers."""
    return sum(
        p.numel() for name, p in network.named_parameters() if not name.startswith(("stem.", "head."))
    )
