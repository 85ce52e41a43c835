"""Networks and their builds. A conversion takes seconds: each is made once, when a test first asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from hwkit.artifact import Built
from hwkit.model import Model
from tests.backends.tflite import nets

Builds = Callable[..., tuple[Built, Path]]


@pytest.fixture(scope="session")
def network() -> nn.Sequential:
    return nets.ode_network()


@pytest.fixture(scope="session")
def ode_model(network: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return nets.model(network, tmp_path_factory.mktemp("ode"), 1, nets.SIDE, nets.SIDE)


@pytest.fixture(scope="session")
def timed_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """With an ODE block whose step takes the time."""
    return nets.model(nets.ode_network(time=True), tmp_path_factory.mktemp("timed"), 1, nets.SIDE, nets.SIDE)


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    """build(model, precision=..., ode=...) -> (what was built, its folder), once for equal arguments."""
    made: dict[tuple[str, ...], tuple[Built, Path]] = {}

    def build(model: Model, **options: str) -> tuple[Built, Path]:
        key = (str(model.path), *(f"{k}={v}" for k, v in sorted(options.items())))
        if key not in made:
            made[key] = nets.build(model, tmp_path_factory.mktemp("build") / "b", **options)
        return made[key]

    return build
