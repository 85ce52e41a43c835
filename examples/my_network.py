"""A network of one's own: any function that returns a torch module, or a hwkit Network that says more."""

import torch
from torch import nn

from hwkit.network import Network
from hwkit.nn.dsconv import DepthwiseSeparableConv2d
from hwkit.nn.ode import ODEBlock


def build() -> Network:
    """An untrained neural-ODE network for 1x8x8 images; its step is compiled once and run five times."""
    torch.manual_seed(0)
    f = nn.Sequential(DepthwiseSeparableConv2d(8, 8), nn.BatchNorm2d(8), nn.ReLU())
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(),
        ODEBlock(f, steps=5, solver="rk4"),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    return Network("my-network", module.eval(), input_shape=(1, 8, 8), dataset="digits", history=("untrained",))
