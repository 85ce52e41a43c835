"""Networks and their builds. A conversion takes seconds: each is made once, when a test first asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from hwkit.artifact import Built
from hwkit.model import Model
from tests.backends.tflite import nets
from tests.once import once

Builds = Callable[..., tuple[Built, Path]]


def model(factory: pytest.TempPathFactory, name: str, make: Callable[[], nn.Module]) -> Model:
    return once(factory, name, Model, lambda folder: nets.model(make(), folder, 1, nets.SIDE, nets.SIDE))[0]


@pytest.fixture(scope="session")
def network() -> nn.Sequential:
    return nets.ode_network()


@pytest.fixture(scope="session")
def ode_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return model(tmp_path_factory, "tflite-ode", nets.ode_network)


@pytest.fixture(scope="session")
def timed_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """With an ODE block whose step takes the time."""
    return model(tmp_path_factory, "tflite-timed", lambda: nets.ode_network(time=True))


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    """build(model, precision=..., ode=...) -> (what was built, its folder), once for equal arguments."""

    def build(chosen: Model, **options: str) -> tuple[Built, Path]:
        name = "-".join([chosen.path.parent.name, *(f"{k}={v}" for k, v in sorted(options.items()))])
        return once(tmp_path_factory, name, Built, lambda folder: nets.build(chosen, folder, **options)[0])

    return build
