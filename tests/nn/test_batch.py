"""Networks exported for one sample, run for several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwkit.errors import BadModel
from hwkit.nn import program
from hwkit.nn.batch import batched, for_many
from hwkit.nn.program import Program


def loaded(module: nn.Module, *inputs: torch.Tensor, folder: Path) -> Program:
    path = folder / "net.pt2"
    torch.export.save(torch.export.export(module.eval(), inputs), path)
    return program.load(path, "net", len(inputs))


class Reshaping(nn.Module):
    """Sizes spelt out, a flattening, an expanded constant, a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.linear = nn.Linear(16, 3)
        self.register_buffer("bias", torch.randn(1, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([self.conv(x), self.bias.expand(x.shape[0], 1, 4, 4)], 1)
        y = y.reshape(x.shape[0], 5, 16).permute(0, 2, 1).flatten(1).view(-1, 5, 16)
        return self.linear(y.mean(1))


class Timed(nn.Module):
    def forward(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return z + torch.cat([z[:, :1], t.expand(z.shape[0], 1, *z.shape[2:])], 1)


def test_sizes_that_name_the_batch_follow_it(tmp_path: Path) -> None:
    network = Reshaping()
    many = batched(loaded(network, torch.randn(1, 2, 4, 4), folder=tmp_path), 5)
    x = torch.randn(5, 2, 4, 4)
    assert many.input_shapes == ((5, 2, 4, 4),)
    assert many.output_shape == (5, 3)
    with torch.no_grad():
        assert torch.allclose(many(x), network(x), atol=1e-6)
    shapes = [n.meta["val"].shape for n in many.module.graph.nodes if n.op == "call_function"]
    assert all(shape[0] == 5 for shape in shapes)


def test_the_time_of_a_step_is_no_batch(tmp_path: Path) -> None:
    one = loaded(Timed(), torch.randn(1, 2, 3, 3), torch.tensor([0.5]), folder=tmp_path)
    many = batched(one, 3)
    assert many.input_shapes == ((3, 2, 3, 3), (1,))
    z, t = torch.randn(3, 2, 3, 3), torch.tensor([0.25])
    assert torch.equal(many(z, t), Timed()(z, t))


def test_a_batch_of_one_is_the_program_itself(tmp_path: Path) -> None:
    one = loaded(nn.Linear(3, 2), torch.randn(1, 3), folder=tmp_path)
    assert batched(one, 1) is one


class Mixing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0, keepdim=True) + 1


def test_a_network_that_mixes_its_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="another result for an input in a batch"):
        batched(loaded(Mixing(), torch.randn(1, 3), folder=tmp_path), 4)


@pytest.mark.parametrize(("module", "samples", "batch"), [
    (nn.Linear(3, 2), 1000, 16), (nn.Linear(3, 2), 20, 1), (Mixing(), 1000, 1)])
def test_many_samples_go_together_where_they_can(module: nn.Module, samples: int, batch: int,
                                                  tmp_path: Path) -> None:
    network, at_once = for_many(loaded(module, torch.randn(1, 3), folder=tmp_path), samples)
    assert at_once == batch
    x = torch.randn(batch, 3)
    with torch.no_grad():
        np.testing.assert_allclose(network(x.numpy()), torch.cat([module(one[None]) for one in x]), atol=1e-6)
