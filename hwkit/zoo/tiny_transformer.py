"""A small vision transformer: patches, pre-norm encoder layers, mean over the patches, a linear layer.

Dosovitskiy et al., arXiv 2010.11929, without class token and with average pooling (Beyer et al., arXiv
2205.01580). Attention is written out: torch's own encoder layer switches to a fused operator in
inference that no exporter knows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

INPUT_SHAPE = (1, 8, 8)
DATASET = "digits"


class Attention(nn.Module):
    """Multi-head self-attention, (batch, tokens, width) -> the same shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        out: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        out: torch.Tensor = x + self.mlp(self.norm2(x))
        return out


class Patches(nn.Module):
    """(batch, channels, H, W) -> (batch, tokens, width), with a learned position added."""

    def __init__(self, input_shape: tuple[int, int, int], patch: int, width: int) -> None:
        super().__init__()
        channels, height, across = input_shape
        self.project = nn.Conv2d(channels, width, patch, stride=patch)
        self.position = nn.Parameter(torch.randn(1, (height // patch) * (across // patch), width) * 0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.project(x).flatten(2).transpose(1, 2) + self.position
        return out


class TinyTransformer(nn.Module):
    """Patches, `layers` encoder layers, norm, mean over tokens, linear."""

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        patch: int,
        width: int,
        heads: int,
        layers: int,
    ) -> None:
        super().__init__()
        self.patches = Patches(input_shape, patch, width)
        self.layers = nn.Sequential(*[EncoderLayer(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(self.norm(self.layers(self.patches(x))).mean(1))
        return out


def build(
    *,
    input_shape: tuple[int, int, int] = INPUT_SHAPE,
    classes: int = 10,
    patch: int = 2,
    width: int = 32,
    heads: int = 4,
    layers: int = 2,
) -> TinyTransformer:
    """(batch, *input_shape) -> (batch, classes).

    patch   side of a square patch in pixels; divides both sides of the image
    width   of a token; divisible by heads
    """
    return TinyTransformer(input_shape, classes, patch, width, heads, layers)
