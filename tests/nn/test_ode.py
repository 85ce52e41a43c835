"""The solvers against closed forms, and the stages against the network they were cut from."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn

from hwkit.errors import BadInput, BadModel
from hwkit.nn.ode import ODEBlock, concat_time, freeze_batchnorm, stages, with_steps


class Decay(nn.Module):
    """dz/dt = -z."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return -z


class Wave(nn.Module):
    """dz/dt = z·cos(t), so z(t) = z(0)·exp(sin t)."""

    def forward(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return z * torch.cos(t)


class TimeOnly(nn.Module):
    """Gives the time channel it was handed, for each of the other channels."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z[:, :1].expand(-1, z.shape[1] - 1, -1, -1)


def z0() -> torch.Tensor:
    return torch.tensor([[1.0, -2.0]], dtype=torch.float64)


def test_euler_is_a_product_of_its_steps() -> None:
    torch.testing.assert_close(ODEBlock(Decay(), 10)(z0()), z0() * (1 - 0.1) ** 10)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("rk4", 4)])
def test_error_falls_with_the_order_of_the_solver(solver: str, order: int) -> None:
    exact = z0() * math.exp(math.sin(2.0) - math.sin(0.5))

    def error(steps: int) -> float:
        block = ODEBlock(Wave(), steps, solver, t0=0.5, t1=2.0)   # type: ignore[arg-type]
        return float((block(z0()) - exact).abs().max())

    assert math.log2(error(20) / error(40)) == pytest.approx(order, abs=0.2)


def test_time_channel_is_first_and_equals_t() -> None:
    z = torch.zeros(2, 3, 4, 4)
    assert torch.equal(concat_time(z, torch.tensor([0.5]))[:, 0], torch.full((2, 4, 4), 0.5))
    # Euler over dz/dt = t from 0 to 1 in 4 steps sums h·t: 0.25·(0 + 0.25 + 0.5 + 0.75)
    assert torch.allclose(ODEBlock(TimeOnly(), 4, time_channel=True)(z), torch.full_like(z, 0.375))


def test_with_steps_shares_the_weights() -> None:
    inner = nn.Conv2d(2, 2, 3, padding=1)
    network = nn.Sequential(OrderedDict(stem=nn.ReLU(), ode=ODEBlock(inner, 2), head=nn.Flatten()))
    network.eval()
    more = with_steps(network, 5)
    assert isinstance(more, nn.Sequential)
    assert more.ode.step.inner is inner   # type: ignore[union-attr]
    assert not more.training
    assert not any(m.training for m in more.modules())
    assert [s.repeat for s in stages(more)] == [1, 5, 1]
    assert [s.repeat for s in stages(network)] == [1, 2, 1]
    assert list(more.state_dict()) == list(network.state_dict())


class Timed(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels + 1, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(self.conv(concat_time(z, t)))
        return out


def mixed(solver: str) -> nn.Sequential:
    torch.manual_seed(0)
    relu = nn.ReLU()
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        relu,
        ODEBlock(nn.Conv2d(4, 4, 3, padding=1), 3, solver),   # type: ignore[arg-type]
        relu,                                                 # used twice on purpose
        ODEBlock(Timed(4), 5, solver, t0=-1.0),               # type: ignore[arg-type]
        ODEBlock(nn.Conv2d(5, 4, 1), 2, solver, time_channel=True),   # type: ignore[arg-type]
        nn.Flatten(),
        nn.LazyLinear(10),
    )
    network(torch.randn(2, 1, 8, 8))
    return network.eval()


@pytest.mark.parametrize("solver", ["euler", "rk4"])
def test_stages_compute_exactly_what_the_network_does(solver: str) -> None:
    network = mixed(solver)
    x = torch.randn(3, 1, 8, 8)
    cut = stages(network)
    assert [s.name for s in cut] == ["0-1", "2", "3", "4", "5", "6-7"]
    assert [s.repeat for s in cut] == [1, 3, 1, 5, 2, 1]
    assert [s.times is None for s in cut] == [True, True, True, False, False, True]
    assert cut[3].times == pytest.approx((-1.0, -0.6, -0.2, 0.2, 0.6))
    z = x
    for stage in cut:
        z = stage(z)
    assert torch.equal(z, network(x))
    assert not any(m.training for stage in cut for m in stage.module.modules())


@pytest.mark.parametrize("solver", ["euler", "rk4"])
def test_a_step_and_a_network_can_be_exported(solver: str) -> None:
    network = mixed(solver)
    x = torch.randn(1, 1, 8, 8)
    whole = torch.export.export(network, (x,)).module()
    torch.testing.assert_close(whole(x), network(x))
    step = stages(network)[3].module
    z, t = torch.randn(1, 4, 6, 6), torch.tensor([0.3])
    exported = torch.export.export(step, (z, t)).module()
    for other in (t, torch.tensor([-0.7])):   # the time is an input, not a constant of the trace
        torch.testing.assert_close(exported(z, other), step(z, other))


def test_network_without_ode_blocks_is_one_stage() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    assert [s.repeat for s in stages(plain)] == [1]
    assert stages(plain[1])[0].module is plain[1]


def test_mistakes_are_named() -> None:
    nested = nn.Sequential(nn.Sequential(ODEBlock(Decay(), 2)))
    with pytest.raises(BadModel, match=r"0\.0"):
        stages(nested)
    with pytest.raises(BadModel):
        stages(ODEBlock(Decay(), 2))
    with pytest.raises(BadInput, match="at least one step"):
        ODEBlock(Decay(), 0)
    with pytest.raises(BadInput, match="rk5"):
        ODEBlock(Decay(), 1, "rk5")   # type: ignore[arg-type]
    with pytest.raises(BadInput, match="already"):
        ODEBlock(Wave(), 1, time_channel=True)
    with pytest.raises(BadInput, match="z alone"):
        ODEBlock(Decay(), 1).step(z0(), torch.zeros(1))


def test_frozen_batchnorm_keeps_its_statistics_and_still_learns() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    network.train()
    freeze_batchnorm(network)
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    before = norm.running_mean.clone()   # type: ignore[union-attr]
    network(torch.randn(4, 1, 6, 6) + 3).square().sum().backward()
    assert torch.equal(norm.running_mean, before)   # type: ignore[arg-type]
    assert norm.weight.grad is not None
    assert network[0].training
