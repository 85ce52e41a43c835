"""Small networks, exported as the sources export them, and builds of them made once a session."""

from __future__ import annotations

import contextlib
import copy
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hwkit.artifact import Built
from hwkit.model import Model, Stage
from hwkit.nn.dsconv import DepthwiseSeparableConv2d
from hwkit.nn.ode import ODEBlock, stages

STEPS = 3
SIDE = 12
CLASSES = 4
IMAGES = 48


def settled(network: nn.Module, *shape: int) -> nn.Module:
    """In eval mode, with BatchNorm statistics and scales that are not the initial ones."""
    generator = torch.Generator().manual_seed(3)
    network.train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.2, 0.2, generator=generator)
        for _ in range(4):
            network(torch.randn(16, *shape, generator=generator))
    return network.eval()


class Derivative(nn.Module):
    """conv-BN-ReLU-conv-BN, separable, of z or of (z, t) with the time as one more channel."""

    def __init__(self, channels: int, extra: int = 0) -> None:
        super().__init__()
        self.first = DepthwiseSeparableConv2d(channels + extra, channels)
        self.norm1 = nn.BatchNorm2d(channels)
        self.second = DepthwiseSeparableConv2d(channels, channels)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm2(self.second(torch.relu(self.norm1(self.first(z)))))
        return out


def ode_network(channels: int = 8, time: bool = False) -> nn.Sequential:
    """stem - ODE block - down-sampling - ODE block - head, on one channel of SIDE x SIDE."""
    torch.manual_seed(0)
    wide = 2 * channels
    network = nn.Sequential(OrderedDict(
        stem=nn.Sequential(nn.Conv2d(1, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),
        ode1=ODEBlock(Derivative(channels, int(time)), STEPS, time_channel=time),
        down=nn.Sequential(nn.Conv2d(channels, wide, 3, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()),
        ode2=ODEBlock(Derivative(wide), STEPS),
        pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), classify=nn.Linear(wide, CLASSES)))
    settled(network, 1, SIDE, SIDE)
    return network


def unshared(network: nn.Sequential) -> nn.Sequential:
    """The same function with a copy of the weights for each step of each ODE block."""
    children: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in network.named_children():
        if isinstance(child, ODEBlock):
            for k in range(child.steps):
                copied = copy.deepcopy(child.step)
                with torch.no_grad():   # equal tensors would be merged again: each copy is its own
                    for parameter in copied.parameters():
                        parameter.mul_(1 + 1e-3 * k)
                children[f"{name}_{k}"] = copied
        else:
            children[name] = child
    return nn.Sequential(children).eval()


def images(n: int, *shape: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Smooth patterns with some noise, values of about unit size."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.randn(n, shape[0], 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(rough, size=shape[1:], mode="bilinear")
    noise = torch.randn(n, *shape, generator=generator)
    found: np.ndarray[Any, np.dtype[np.float32]] = (smooth + 0.2 * noise).numpy()
    return found


def export(module: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(torch.export.export(module, inputs), path)
    return path


def write_data(folder: Path, network: nn.Module, *shape: int) -> Path:
    """data.npz: inputs, and as labels the network's own answers with some of them spoilt."""
    test = images(IMAGES, *shape, seed=2)
    with torch.no_grad():
        labels = network(torch.from_numpy(test)).argmax(1).numpy()
    labels[::5] = (labels[::5] + 1) % CLASSES
    np.savez(folder / "data.npz", calibration=images(IMAGES, *shape, seed=1), images=test, labels=labels)
    return folder / "data.npz"


def model(network: nn.Module, folder: Path, *shape: int) -> Model:
    """The Model of a network, cut into stages where it has ODE blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    example = torch.zeros(1, *shape)
    parts = []
    if any(isinstance(child, ODEBlock) for child in network.children()):
        value = example
        for stage in stages(network):  # type: ignore[arg-type]
            inputs = (value,) if stage.times is None else (value, torch.zeros(1))
            path = export(stage.module, inputs, folder / "stages" / f"{stage.name}.pt2")
            parts.append(Stage(name=stage.name, path=path, repeat=stage.repeat, times=stage.times))
            with torch.no_grad():
                value = stage(value)
    parameters = {id(p): p.numel() for p in network.parameters()}
    return Model(name="small", path=export(network, (example,), folder / "whole.pt2"), format="pt2",
                 input_shape=shape, stages=tuple(parts), data=write_data(folder, network, *shape),
                 parameters=sum(parameters.values()), parameter_bytes=4 * sum(parameters.values()))


def build(chosen: Model, folder: Path, dot_products: bool = False, **options: str) -> tuple[Built, Path]:
    """Run the conversion job here, in this process: it saves an import of torch a build."""
    from hwkit.backends.tflite import convert
    from hwkit.backends.tflite.options import parse

    folder.mkdir(parents=True)
    spec = {"model": chosen.model_dump(mode="json"), "options": parse(options).model_dump(mode="json"),
            "dot_products": dot_products}
    with contextlib.chdir(folder):
        return Built.model_validate(convert.job(spec, lambda text: None)), folder
