"""Weights that the steps of an ODE block share must be in the file once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hwkit.backends.tflite import flat, litert, sharing
from hwkit.errors import BadModel
from hwkit.model import Model
from hwkit.nn import program
from tests.backends.tflite import nets
from tests.backends.tflite.conftest import Builds


def distinct(network: nn.Module) -> tuple[int, int]:
    """(number, elements) of the weights of convolutions and linear layers, counted in the torch module."""
    weights = {id(m.weight): m.weight.numel() for m in network.modules()
               if isinstance(m, nn.Conv2d | nn.Linear)}
    return len(weights), sum(weights.values())


@pytest.mark.parametrize(("precision", "ode"), [("f32", "unrolled"), ("int8", "unrolled"), ("f16", "unrolled"),
                                                ("dynamic", "unrolled"), ("int8", "stepped")])
def test_every_weight_is_stored_once(
        precision: str, ode: str, builds: Builds, ode_model: Model, network: nn.Sequential) -> None:
    built, folder = builds(ode_model, precision=precision, ode=ode)
    models = [flat.read((folder / s.file).read_bytes()) for s in built.stages]
    assert sharing.stored(models)[0] == distinct(network)[0]
    if precision != "int8":   # there the stem's kernel may have grown by the columns it skips
        assert sharing.stored(models)[1] == distinct(network)[1]


def test_a_network_that_shares_nothing_fails_the_check(network: nn.Sequential, tmp_path: Path) -> None:
    copies = nets.unshared(network)
    path = nets.export(copies, (torch.zeros(1, 1, nets.SIDE, nets.SIDE),), tmp_path / "copies.pt2")
    folded, _ = program.load(path, "copies").folded()
    models = [flat.read(litert.convert(folded))]
    assert sharing.check(models, *program.weights([folded])).ok
    with pytest.raises(BadModel, match="shared weights were duplicated"):
        sharing.check(models, *distinct(network))
