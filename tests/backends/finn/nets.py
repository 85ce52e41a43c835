"""Small quantised networks made with Brevitas, exported to QONNX, and inputs for them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

SHAPE = (3, 8, 8)
STEP = 0.25


def _quantisers(powers_of_two: bool) -> tuple[type, type, type]:
    """Weight, signed and unsigned activation quantisers."""
    from brevitas import quant

    kind = "FixedPoint" if powers_of_two else "Float"
    return tuple(getattr(quant, f"{name}PerTensor{kind}") for name in ("Int8Weight", "Int8Act", "Uint8Act"))


class Cnn(nn.Module):
    """Convolution, depthwise-separable convolution, pooling, linear: INT4 weights and activations."""

    def __init__(self, channels: int = 8, powers_of_two: bool = True) -> None:
        import brevitas.nn as qnn

        super().__init__()
        weight, signed, unsigned = _quantisers(powers_of_two)
        wide = {"weight_quant": weight, "weight_bit_width": 8, "bias": False}
        narrow = {"weight_quant": weight, "weight_bit_width": 4, "bias": False}
        self.layers = nn.Sequential(
            qnn.QuantIdentity(act_quant=signed, bit_width=8),
            qnn.QuantConv2d(3, channels, 3, padding=1, **wide), nn.BatchNorm2d(channels),
            qnn.QuantReLU(act_quant=unsigned, bit_width=4),
            qnn.QuantConv2d(channels, channels, 3, padding=1, groups=channels, **narrow), nn.BatchNorm2d(channels),
            qnn.QuantReLU(act_quant=unsigned, bit_width=4),
            qnn.QuantConv2d(channels, channels, 1, **narrow), nn.BatchNorm2d(channels),
            qnn.QuantReLU(act_quant=unsigned, bit_width=4),
            nn.MaxPool2d(4), nn.Flatten(), qnn.QuantLinear(4 * channels, 10, **wide))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Mlp(nn.Module):
    """Three linear layers on flat inputs."""

    def __init__(self, powers_of_two: bool = True) -> None:
        import brevitas.nn as qnn

        super().__init__()
        weight, signed, unsigned = _quantisers(powers_of_two)
        narrow = {"weight_quant": weight, "weight_bit_width": 4, "bias": False}
        self.layers = nn.Sequential(
            qnn.QuantIdentity(act_quant=signed, bit_width=8),
            qnn.QuantLinear(64, 32, **narrow), nn.BatchNorm1d(32), qnn.QuantReLU(act_quant=unsigned, bit_width=4),
            qnn.QuantLinear(32, 32, **narrow), nn.BatchNorm1d(32), qnn.QuantReLU(act_quant=unsigned, bit_width=4),
            qnn.QuantLinear(32, 10, **narrow))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Ode(nn.Module):
    """N Euler steps z <- q(z + q(h f(z))) of one depthwise-separable f, between a stem and a head."""

    def __init__(self, steps: int, channels: int = 8, powers_of_two: bool = False) -> None:
        import brevitas.nn as qnn

        super().__init__()
        weight, signed, unsigned = _quantisers(powers_of_two)
        wide = {"weight_quant": weight, "weight_bit_width": 8, "bias": False}
        narrow = {"weight_quant": weight, "weight_bit_width": 4, "bias": False}
        self.steps = steps
        self.stem = nn.Sequential(qnn.QuantIdentity(act_quant=signed, bit_width=8),
                                  qnn.QuantConv2d(3, channels, 3, padding=1, **wide), nn.BatchNorm2d(channels))
        self.state = qnn.QuantIdentity(act_quant=signed, bit_width=8)
        self.f = nn.Sequential(
            qnn.QuantConv2d(channels, channels, 3, padding=1, groups=channels, **narrow), nn.BatchNorm2d(channels),
            qnn.QuantReLU(act_quant=unsigned, bit_width=4),
            qnn.QuantConv2d(channels, channels, 1, **narrow), nn.BatchNorm2d(channels))
        self.head = nn.Sequential(qnn.QuantReLU(act_quant=unsigned, bit_width=4), nn.MaxPool2d(4), nn.Flatten(),
                                  qnn.QuantLinear(4 * channels, 10, **wide))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.state(self.stem(x))
        for _ in range(self.steps):
            z = self.state(z + self.state(STEP * self.f(z)))
        return self.head(z)


def prepared(make: type[nn.Module], shape: tuple[int, ...] = SHAPE, seed: int = 0, **how: object) -> nn.Module:
    """A network with seeded weights and statistics, its quantisers' ranges collected."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")          # of brevitas and torch about themselves
        net = make(**how)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.3)
        net.train()
        for _ in range(20):
            net(torch.rand(16, *shape) * 2 - 1)
    return net.eval()


def export(net: nn.Module, path: Path, shape: tuple[int, ...] = SHAPE) -> Path:
    """The network as QONNX, batch 1, cleaned up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from brevitas.export import export_qonnx
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.util.cleanup import cleanup_model

        export_qonnx(net, args=torch.rand(1, *shape), export_path=str(path))
        cleanup_model(ModelWrapper(str(path))).save(str(path))
    return path


def inputs(count: int, shape: tuple[int, ...] = SHAPE, seed: int = 1) -> np.ndarray:
    """(count, *shape) float32 in [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, *shape)).astype(np.float32)
