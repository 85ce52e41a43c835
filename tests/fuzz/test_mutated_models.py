"""Hundreds of damaged model files: each becomes a Model or one line, and none of them ends hwkit."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwkit.errors import BadInput, HwkitError, JobFailed
from hwkit.model import Model
from hwkit.sources import Opening, open_sources, resolve
from tests.fuzz.mutations import mutants
from tests.integer.graphs import F32, Graph

SEED = 0
TIMEOUT_S = 10.0
MEMORY_BYTES = 2 * 2**30

Outcome = Model | HwkitError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(36, 3), nn.Softmax(1)).eval()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One real network in the three formats, and a quantised one."""
    import litert_torch

    folder = tmp_path_factory.mktemp("sound")
    x = torch.randn(1, 1, 8, 8)
    torch.export.save(torch.export.export(network(), (x,)), folder / "net.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network(), (x,), folder / "net.onnx", dynamo=False, opset_version=17)
        litert_torch.convert(litert_torch.to_channel_last_io(network(), args=[0]),
                             (x.permute(0, 2, 3, 1),)).export(str(folder / "net.tflite"))
    quantised().saved(folder / "net.qonnx")
    return sorted(folder.iterdir())


def quantised() -> Graph:
    random = np.random.default_rng(0)
    g = Graph((1, 1, 8, 8))
    weight = g.weight(random.integers(-7, 8, (4, 1, 3, 3)), 0.125, 4)
    x = g.node("Conv", g.quant("x", 0.03), weight, F32([.1, .2, 0, 1]))
    x = g.node("BatchNormalization", x, *(random.uniform(0.5, 1, 4).astype(F32) for _ in range(4)))
    x = g.quant(g.node("Relu", x), 0.3, 4, signed=0)
    x = g.node("Flatten", g.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    g.node("MatMul", x, g.weight(random.integers(-7, 8, (36, 3)), 0.25, 4))
    return g


def written(folder: Path, name: str, suffix: str, data: bytes) -> Path:
    """A QONNX file is one that ends in .onnx."""
    path = folder / f"{name}{'.q.onnx' if suffix == '.qonnx' else suffix}"
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def outcomes(sound: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What every damaged file came to, by the way that `hwkit check` and `hwkit deploy` take."""
    folder = tmp_path_factory.mktemp("mutants")
    found: dict[str, Outcome] = {}
    openings: dict[str, tuple[Opening, Path]] = {}
    for path in sound:
        for k, (name, data) in enumerate(mutants(path.read_bytes(), path.suffix, SEED)):
            file = written(folder, f"{k:03}-{name}", path.suffix, data)
            try:
                opening = Opening(source=resolve(str(file)), cwd=Path.cwd())
                openings[file.name] = opening, folder / f"{file.name}.opened"
            except HwkitError as e:
                found[file.name] = e
    opened = open_sources(list(openings.values()), timeout_s=TIMEOUT_S, memory_bytes=MEMORY_BYTES)
    return {**found, **dict(zip(openings, opened, strict=True))}


def test_at_least_two_hundred_files(outcomes: dict[str, Outcome]) -> None:
    suffixes = Counter("".join(Path(name).suffixes) for name in outcomes)
    assert suffixes.total() >= 200
    assert min(suffixes.values()) >= 60
    assert set(suffixes) == {".pt2", ".onnx", ".q.onnx", ".tflite"}


def test_each_is_a_model_or_one_line(outcomes: dict[str, Outcome]) -> None:
    for name, outcome in outcomes.items():
        if isinstance(outcome, Model):
            assert outcome.path.is_file(), name
            continue
        line = outcome.line()
        assert line, name
        assert len(line) < 1500, name
        assert "\n" not in line, name
        assert "Traceback" not in line, name
        assert name in line, line


def test_none_is_a_bug_of_ours(outcomes: dict[str, Outcome]) -> None:
    """An exception of our own code would come back as a JobFailed that has its traceback."""
    for name, outcome in outcomes.items():
        if isinstance(outcome, JobFailed):
            assert not outcome.log, f"{name}: {outcome.line()}\n{outcome.log}"
        elif isinstance(outcome, HwkitError):
            assert isinstance(outcome, BadInput), name


def test_nothing_half_written(outcomes: dict[str, Outcome], tmp_path_factory: pytest.TempPathFactory) -> None:
    for name, outcome in outcomes.items():
        folder = tmp_path_factory.getbasetemp() / "mutants0" / f"{name}.opened"
        assert (folder / "model.json").is_file() == isinstance(outcome, Model), name
        assert folder.exists() == isinstance(outcome, Model), name


def test_damage_is_not_taken_for_a_model(outcomes: dict[str, Outcome]) -> None:
    """What cannot possibly be a model is not one; and some flipped bits of weights do leave a model."""
    hopeless = ("all_random", "nothing", "random_after_head")
    for name, outcome in outcomes.items():
        if any(word in name for word in hopeless):
            assert isinstance(outcome, HwkitError), name
    assert any(isinstance(outcome, Model) for outcome in outcomes.values())


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".qonnx", ".tflite"])
def test_the_command_line(suffix: str, sound: list[Path], tmp_path: Path) -> None:
    path = next(p for p in sound if p.suffix == suffix)
    damaged = written(tmp_path, "damaged", suffix, path.read_bytes()[:700])
    environment = {**os.environ, "HWKIT_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-m", "hwkit", "check", "--target", "rpi4", str(damaged)], text=True,
                          capture_output=True, cwd=tmp_path, env=environment)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert damaged.name in done.stderr
