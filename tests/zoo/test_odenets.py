"""Parameter arithmetic of the neural-ODE networks against published and hand-derived tables."""

from __future__ import annotations

import pytest
import torch

from hwkit import zoo
from hwkit.errors import BadInput
from hwkit.nn.ode import ODEBlock, stages
from hwkit.zoo import dsodenet, odenet
from hwkit.zoo._odenet import Separable, core_parameters


def standard_block(c: int, time: int) -> int:
    """Two 3x3 convolutions of c + time channels to c, two BatchNorms."""
    return 18 * c * (c + time) + 4 * c


def separable_block(c: int, time: int) -> int:
    return 2 * ((c + time) * 9 + (c + time) * c) + 4 * c


# channels, time channel -> odenet, separable in blocks only, separable everywhere
PUBLISHED = {
    ((16, 32, 64), False): (120_448, 36_448, 16_400),
    ((32, 64, 128), False): (480_512, 140_480, 59_424),
    ((16, 32, 64), True): (122_464, 36_726, 16_678),
    ((64, 128, 256), True): (1_927_552, 552_246, 226_294),
}


@pytest.mark.parametrize(("channels", "time"), PUBLISHED)
def test_core_parameters(channels: tuple[int, int, int], time: bool) -> None:
    found = []
    choices: tuple[Separable, ...] = ("none", "blocks", "everywhere")
    for separable in choices:
        network = odenet.build(channels=channels, time_channel=time, separable=separable)
        found.append(core_parameters(network))
        for name, c in zip(("ode1", "ode2", "ode3"), channels, strict=True):
            expected = (standard_block if separable == "none" else separable_block)(c, int(time))
            assert sum(p.numel() for p in network.get_submodule(name).parameters()) == expected
    assert tuple(found) == PUBLISHED[channels, time]


def test_reductions() -> None:
    full, blocks, everywhere = PUBLISHED[(16, 32, 64), False]
    assert 100 * (blocks / full - 1) == pytest.approx(-69.74, abs=0.005)
    assert 100 * (everywhere / full - 1) == pytest.approx(-86.38, abs=0.005)


def test_defaults_are_the_two_ends_of_the_table() -> None:
    assert core_parameters(odenet.build()) == 120_448
    assert core_parameters(dsodenet.build()) == 16_400


def test_layers_shared_with_the_rodenet_table() -> None:
    """conv1, layer1, layer2_2, layer3_2 and fc of ODENet for CIFAR-100 (arXiv 2012.15465), in parameters."""
    network = odenet.build(input_shape=(3, 32, 32), classes=100, time_channel=True, stem_stride=1)
    count = {name: sum(p.numel() for p in child.parameters()) for name, child in network.named_children()}
    assert count["stem"] == 464
    assert (count["ode1"], count["ode2"], count["ode3"]) == (4_960, 19_136, 75_136)
    assert count["head"] == 6_500


@pytest.mark.parametrize("time", [False, True])
def test_stages_equal_the_network(time: bool) -> None:
    network = zoo.network("dsodenet", seed=1, time_channel=time, steps=3, solver="rk4").module
    cut = stages(network)
    assert [s.name for s in cut] == ["stem", "ode1", "down1", "ode2", "down2", "ode3", "head"]
    assert [s.repeat for s in cut] == [1, 3, 1, 3, 1, 3, 1]
    z = x = torch.randn(2, 1, 28, 28)
    for stage in cut:
        z = stage(z)
    assert torch.equal(z, network(x))


def test_time_reaches_the_convolutions() -> None:
    block = zoo.network("dsodenet", seed=1, time_channel=True).module.get_submodule("ode1")
    assert isinstance(block, ODEBlock)
    z = torch.randn(1, 16, 14, 14)
    assert not torch.allclose(block.step(z, torch.tensor([0.0])), block.step(z, torch.tensor([1.0])))


def test_wrong_choice_is_named() -> None:
    with pytest.raises(BadInput, match="everwhere"):
        odenet.build(separable="everwhere")   # type: ignore[arg-type]
