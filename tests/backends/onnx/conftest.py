"""Models opened once, and the artifacts that several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwkit.artifact import Artifact
from hwkit.model import Model
from tests.backends.onnx import builds
from tests.sources import opening


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """ "ode" from a function; "classifier", "branching", "quantised" and "det" from .onnx files.

    All have inputs.
    """
    folder = tmp_path_factory.mktemp("models")
    for name, write in (("classifier", builds.classifier), ("branching", builds.branching),
                        ("quantised", builds.quantised), ("det", builds.determinant)):
        write(folder / f"{name}.onnx")
    inputs = builds.data(folder / "inputs.npz")
    words = {"ode": builds.factory(folder / "net.py"), **{p.stem: str(p) for p in folder.glob("*.onnx")}}
    cases = {name: (word, {"data": inputs}) for name, word in words.items()}
    return {name: opening.model(found).placed(folder / name)
            for name, found in opening.opened(cases, folder).items()}


@pytest.fixture(scope="session")
def orin(models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The ODE network for jetson-orin-nano, int8 by default; no layer goes back to float."""
    return builds.built(models["ode"], "jetson-orin-nano", tmp_path_factory.mktemp("orin"), largest_drop="1")


@pytest.fixture(scope="session")
def given(models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the users' files."""
    return models["classifier"].path.parent.parent
