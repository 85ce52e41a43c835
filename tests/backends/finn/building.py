"""Build a network of nets.py with FINN, through the backend's own plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from hwkit.artifact import Command
from hwkit.backends import finn
from hwkit.model import Model
from hwkit.target import Target
from tests.backends.finn.nets import export, prepared


def exported(make: type[nn.Module], folder: Path, shape: tuple[int, ...], **how: object) -> Model:
    """The network as a QONNX model."""
    path = export(prepared(make, shape, **how), folder / "net.onnx", shape)
    return Model(name="net", path=path, format="qonnx", input_shape=shape)


def build(model: Model, target: Target, folder: Path, given: Mapping[str, str]) -> Path:
    """Execute the plan in a new folder; the folder."""
    folder.mkdir(parents=True)
    finn.plan(model, target, finn.options(given, target)).execute(folder, lambda text: None)
    return folder


def driver(model: Model, target: Target, given: Mapping[str, str]) -> Command:
    """The plan's own command that runs FINN."""
    plan = finn.plan(model, target, finn.options(given, target))
    (command,) = [c for c in plan.commands if "finn_driver" in c.argv]
    return command


