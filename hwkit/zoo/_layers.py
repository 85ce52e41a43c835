"""Layers that several zoo networks are made of."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from hwkit.nn.dsconv import DepthwiseSeparableConv2d


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, separable: bool = False) -> nn.Module:
    """A 3x3 convolution with padding 1 and no bias, full or depthwise-separable."""
    if separable:
        return DepthwiseSeparableConv2d(in_channels, out_channels, stride)
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def conv_bn_relu(
    in_channels: int, out_channels: int, stride: int = 1, separable: bool = False
) -> nn.Sequential:
    """conv3x3, BatchNorm, ReLU."""
    return nn.Sequential(
        OrderedDict(
            conv=conv3x3(in_channels, out_channels, stride, separable),
            norm=nn.BatchNorm2d(out_channels),
            relu=nn.ReLU(),
        )
    )


def classifier(channels: int, classes: int) -> nn.Sequential:
    """(batch, channels, H, W) -> (batch, classes): mean over the image, then a linear layer."""
    return nn.Sequential(
        OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(channels, classes))
    )


def settle_batchnorm(
    network: nn.Module, input_shape: tuple[int, ...], batch: int = 4, side: int = 96
) -> None:
    """Give every BatchNorm of an untrained network the statistics of one batch of noise; ends in eval mode.

    Fresh BatchNorms hold mean 0 and variance 1, with which a deep network's activations vanish or blow
    up: no fair material for a conversion or quantisation check. Images larger than `side` are
    cut down to it where the network is convolutional, since statistics hardly depend on it.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    if norms:
        momenta = [m.momentum for m in norms]
        for norm in norms:
            norm.momentum = None   # the plain mean over all passes, which is also right in a shared block
        network.train()
        shape = (input_shape[0], *(min(n, side) for n in input_shape[1:]))
        with torch.no_grad():
            network(torch.randn(batch, *shape))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    network.eval()
