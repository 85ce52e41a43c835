"""Reading networks out of exported stages, against the networks themselves; what cannot be read is named."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from hwkit import zoo
from hwkit.errors import BadModel
from hwkit.nn.dsconv import DepthwiseSeparableConv2d
from hwkit.nn.dyadic import Precision
from hwkit.nn.equalize import equalized
from hwkit.nn.ode import ODEBlock
from hwkit.nn.separable import FloatOde, from_module
from tests.nn.small import SHAPE, images, network, one_convolution


def test_what_is_read_computes_what_the_trained_network_does() -> None:
    trained = zoo.network("dsodenet@digits")
    read = from_module(trained.module, trained.name, trained.input_shape)
    x = images(16)
    with torch.no_grad():
        torch.testing.assert_close(read(x.double()).float(), trained.module(x), rtol=1e-4, atol=1e-4)
    assert [name for name, _ in read.convolutions()] == [
        "ode1.conv1", "ode1.conv2", "down1", "ode2.conv1", "ode2.conv2", "down2", "ode3.conv1", "ode3.conv2"]
    assert [part.steps for part in read.core if isinstance(part, FloatOde)] == [4, 4, 4]


@pytest.mark.parametrize("precision", [Precision(), Precision(2, 4)])
@pytest.mark.parametrize("make", [network, one_convolution])
def test_equalisation_preserves_the_function(make: object, precision: Precision) -> None:
    read = make()   # type: ignore[operator]
    even = equalized(read, images(32, 1, read.input_shape), precision)
    x = images(64, 2, read.input_shape).double()
    torch.testing.assert_close(even(x), read(x), rtol=1e-9, atol=1e-9)


def test_equalisation_counts_in_lsbs() -> None:
    read = network()
    x = images(128, 1)
    seen: dict[str, float] = {}
    equalized(read, x, Precision())(
        x, lambda name, value: seen.update({name: max(seen.get(name, 0.0), float(value.abs().max()))}))
    states = [value for name, value in seen.items() if name.startswith("state")]
    assert len(states) == 3
    assert all(30 < value < 400 for value in states)
    assert all(4 < value < 40 for name, value in seen.items() if name.endswith(".inner"))


def built(stem: nn.Module | None = None, f: nn.Module | None = None, down: nn.Module | None = None,
          head: nn.Module | None = None, solver: str = "euler", time_channel: bool = False) -> nn.Sequential:
    """A network of four channels that can be read, unless one of its parts says otherwise."""
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(
        stem=stem or nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()),
        ode=ODEBlock(f or DepthwiseSeparableConv2d(4, 4), 2, solver, time_channel),   # type: ignore[arg-type]
        down=down or nn.Sequential(DepthwiseSeparableConv2d(4, 4, 2, bias=True), nn.ReLU()),
        head=head or nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)))).eval()


@pytest.mark.parametrize("changed", [
    {},
    {"head": nn.Sequential(nn.AvgPool2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(4, 3, bias=False))},
    {"f": nn.Sequential(DepthwiseSeparableConv2d(4, 4), nn.ReLU(inplace=True), DepthwiseSeparableConv2d(4, 4),
                        nn.BatchNorm2d(4))},
])
def test_variants_that_can_be_read(changed: dict[str, nn.Module]) -> None:
    made = built(**changed)   # type: ignore[arg-type]
    x = images(8)
    with torch.no_grad():
        torch.testing.assert_close(from_module(made, "made", SHAPE)(x), made(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("changed", "words"), [
    ({"stem": nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU6())}, ("stem", "hardtanh")),
    ({"stem": nn.Conv2d(1, 4, 3, padding=1)}, ("stem", "conv2d", "relu should follow")),
    ({"stem": nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.ReLU())}, ("stem", "conv2d", "5x5")),
    ({"f": nn.Conv2d(4, 4, 3, padding=1)}, ("ode", "conv2d", "is a conv3x3")),
    ({"f": nn.Sequential(DepthwiseSeparableConv2d(4, 4), nn.Tanh())}, ("ode", "tanh")),
    ({"f": nn.Sequential(*[m for _ in range(3) for m in (DepthwiseSeparableConv2d(4, 4), nn.ReLU())][:-1])},
     ("ode", "8 operators")),
    ({"f": nn.Sequential(DepthwiseSeparableConv2d(4, 4), nn.ReLU(), nn.BatchNorm2d(4))}, ("ode", "batch_norm")),
    ({"down": nn.Sequential(DepthwiseSeparableConv2d(4, 4, 2), nn.Identity())}, ("down", "relu should follow")),
    ({"down": nn.Sequential(DepthwiseSeparableConv2d(4, 4, 4), nn.ReLU())}, ("down", "stride")),
    ({"down": nn.MaxPool2d(2)}, ("down", "max_pool2d")),
    ({"head": nn.Sequential(nn.Flatten(), nn.Linear(64, 3))}, ("head", "flatten")),
    ({"head": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3), nn.Softmax(1))},
     ("head", "softmax")),
    ({"head": nn.Sequential(nn.AvgPool2d(6, padding=1), nn.Flatten(), nn.Linear(4, 3))}, ("head", "avg_pool2d")),
    ({"solver": "rk4"}, ("ode", "add")),
    ({"time_channel": True, "f": DepthwiseSeparableConv2d(5, 4)}, ("ode", "reads the time", "time_channel=false")),
])
def test_what_cannot_be_read_is_named(changed: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(BadModel) as failed:
        from_module(built(**changed), "made", SHAPE)   # type: ignore[arg-type]
    line = failed.value.line()
    assert all(word in line for word in words), line
    assert "->" in line


def test_a_network_without_its_parts_is_refused() -> None:
    with pytest.raises(BadModel, match="no ODE step"):
        from_module(nn.Sequential(*built()[0], *built()[3]).eval(), "plain", SHAPE)   # type: ignore[misc]
    with pytest.raises(BadModel, match="no head"):
        from_module(built()[:2], "plain", SHAPE)
