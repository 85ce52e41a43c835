"""The job that quantises an opened model: with a data set's labels, and with a user's unlabelled images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwkit import datasets
from hwkit.errors import BadInput
from hwkit.integer import separable
from hwkit.nn.qat_job import job
from hwkit.sources import open_source, read_model, resolve


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("opened") / "digits"
    open_source(resolve("dsodenet@digits"), folder)
    return folder


@pytest.mark.parametrize("labelled", [True, False])
def test_an_opened_model_becomes_integers(opened: Path, labelled: bool, tmp_path: Path) -> None:
    model = read_model(opened).model_copy(update={"quantized": None})
    test = datasets.load("digits", "test")
    if not labelled:
        data = tmp_path / "own.npz"
        np.savez(data, calibration=datasets.load("digits", "train").images[:400], images=test.images)
        model = model.model_copy(update={"dataset": None, "data": data})
    said: list[str] = []
    told = job({"model": model.model_dump(mode="json"), "seed": 0, "file": str(tmp_path / "net.npz"),
                "recipe": {"epochs": 1, "train_images": 320}}, said.append)
    found = separable.load(tmp_path / "net.npz")
    assert (found.logits(test.images).argmax(1) == test.labels).mean() > 0.9
    assert list(found.history) == told["history"]
    assert ("unlabelled" in told["history"][-1]) == (not labelled)
    assert said[-1] == "quantisation-aware training: 100 of 100"


def test_integers_that_a_model_brings_are_taken_as_they_are(opened: Path, tmp_path: Path) -> None:
    model = read_model(opened)
    assert model.quantized is not None
    spec = {"model": model.model_dump(mode="json"), "seed": 0, "file": str(tmp_path / "net.npz"), "recipe": {}}
    told = job(spec, lambda text: None)
    assert (tmp_path / "net.npz").read_bytes() == model.quantized.read_bytes()
    assert "INT4" in told["history"][-1]


def test_without_real_images_nothing_is_trained(opened: Path, tmp_path: Path) -> None:
    model = read_model(opened).model_copy(update={"dataset": None, "quantized": None})
    with pytest.raises(BadInput, match="real images"):
        job({"model": model.model_dump(mode="json"), "seed": 0, "file": str(tmp_path / "net.npz"), "recipe": {}},
            lambda text: None)
    assert not (tmp_path / "net.npz").exists()
