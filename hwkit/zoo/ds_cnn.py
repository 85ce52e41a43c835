"""DS-CNN: a small depthwise-separable network for microcontrollers, from keyword spotting.

Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers", arXiv 1711.07128, the small variant (64
channels, four blocks), also in the MLPerf Tiny benchmark. The stem is 3x3 here, for images, instead of
the 10x4 one for spectrograms.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from hwkit.zoo._layers import classifier, conv_bn_relu

INPUT_SHAPE = (1, 28, 28)
DATASET = "fashion-mnist"


def separable_block(channels: int) -> nn.Sequential:
    """Depthwise 3x3, BatchNorm, ReLU, pointwise, BatchNorm, ReLU."""
    return nn.Sequential(
        OrderedDict(
            depthwise=nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            norm1=nn.BatchNorm2d(channels),
            relu1=nn.ReLU(),
            pointwise=nn.Conv2d(channels, channels, 1, bias=False),
            norm2=nn.BatchNorm2d(channels),
            relu2=nn.ReLU(),
        )
    )


def build(
    *,
    input_shape: tuple[int, int, int] = INPUT_SHAPE,
    classes: int = 10,
    width: int = 64,
    blocks: int = 4,
) -> nn.Sequential:
    """(batch, *input_shape) -> (batch, classes). width: channels of every block."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=conv_bn_relu(input_shape[0], width, stride=2))
    for k in range(blocks):
        layers[f"block{k + 1}"] = separable_block(width)
    layers["head"] = classifier(width, classes)
    return nn.Sequential(layers)
