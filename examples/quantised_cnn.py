"""A quantised network of one's own: a Brevitas module is deployed as the QONNX that it exports to."""

import brevitas.nn as qnn
import torch
from brevitas.quant import Int8WeightPerTensorFloat, Uint8ActPerTensorFloat
from torch import nn

from hwkit.network import Network

WEIGHTS = {"bias": False, "weight_quant": Int8WeightPerTensorFloat, "weight_bit_width": 4}


def relu() -> qnn.QuantReLU:
    return qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=4)


def build() -> Network:
    """An untrained CNN for 1x8x8 images: weights of 4 bits, activations of 4."""
    torch.manual_seed(0)
    module = nn.Sequential(
        qnn.QuantIdentity(bit_width=8),
        qnn.QuantConv2d(1, 8, 3, padding=1, **WEIGHTS), nn.BatchNorm2d(8), relu(),
        qnn.QuantConv2d(8, 16, 3, stride=2, padding=1, **WEIGHTS), nn.BatchNorm2d(16), relu(),
        nn.MaxPool2d(4), nn.Flatten(), qnn.QuantLinear(16, 10, **WEIGHTS))
    with torch.no_grad():                       # scales and statistics are those of what it sees in training
        for _ in range(20):
            module(torch.randn(64, 1, 8, 8))
    return Network("quantised-cnn", module.eval(), input_shape=(1, 8, 8), dataset="digits", history=("untrained",))
