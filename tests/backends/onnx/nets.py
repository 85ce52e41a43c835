"""Small networks and their ONNX stages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from hwkit.backends._onnx.export import exported
from hwkit.backends._onnx.forms import Piece
from hwkit.nn import program
from hwkit.nn.ode import ODEBlock, Stage, stages

SIDE, CHANNELS, STEPS = 6, 4, 3


class Derivative(nn.Module):
    """Depthwise and pointwise, a BatchNorm; with `time`, t is added to its input."""

    def __init__(self, time: bool) -> None:
        super().__init__()
        self.time = time
        self.depthwise = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False)
        self.pointwise = nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False)
        self.norm = nn.BatchNorm2d(CHANNELS)

    def forward(self, z: torch.Tensor, t: torch.Tensor | None = None) -> torch.Tensor:
        shifted = z if t is None else z + torch.sin(t * 3)
        return torch.relu(self.norm(self.pointwise(self.depthwise(shifted))))


class TimedDerivative(Derivative):
    def forward(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:      # type: ignore[override]
        return super().forward(z, t)


class TimelessDerivative(Derivative):
    def forward(self, z: torch.Tensor) -> torch.Tensor:      # type: ignore[override]
        return super().forward(z)


def ode_network(time: bool = False, steps: int = STEPS) -> nn.Sequential:
    torch.manual_seed(3)
    inner = TimedDerivative(True) if time else TimelessDerivative(False)
    network = nn.Sequential(OrderedDict(
        stem=nn.Conv2d(1, CHANNELS, 3, padding=1), ode=ODEBlock(inner, steps),
        head=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 5))))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return network.eval()


def pieces(network: nn.Module, shape: Sequence[int], folder: Path, opset: int = 17) -> list[Piece]:
    """Every stage of a network, exported and folded."""
    value, found, first = torch.zeros(1, *shape), [], 0
    for stage in stages(network):
        inputs = (value,) if stage.times is None else (value, torch.zeros(1))
        path = folder / f"{stage.name}.pt2"
        torch.export.save(torch.export.export(stage.module.eval(), inputs), path)
        folded, _ = program.load(path, _name(stage), len(inputs)).folded()
        graph = exported(folded, opset, first)
        first += len(graph.graph.node)
        found.append(Piece(_name(stage), graph, stage.repeat, stage.times))
        with torch.no_grad():
            value = stage.module(*inputs)
    return found


def _name(stage: Stage) -> str:
    return "net" if stage.name == "whole" else stage.name
