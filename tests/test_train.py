"""Training: what is read when, what is chosen how, and that stated accuracies come back."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from hwkit import datasets, describe, train, zoo
from hwkit.errors import BadDescription, BadInput, UnknownName
from hwkit.train import Progress, Recipe, SeedResult

DIGITS = {"input_shape": [1, 8, 8], "classes": 10}


def quick(**changes: Any) -> Recipe:
    recipe: dict[str, Any] = {
        "network": "resnet8", "dataset": "digits", "options": {**DIGITS, "channels": [8, 8, 16]},
        "epochs": 2, "train_images": 512, "batch": 64, "lr": 1e-2,
    }
    return Recipe(**{**recipe, **changes})


def test_shipped_recipe_gives_the_stated_accuracy_again() -> None:
    stated = train.load_result(zoo.weights_path("dsodenet", "digits").with_suffix(".toml"))
    _, again = train.train(stated.recipe, seed=stated.shipped_seed)
    assert abs(again.test - stated.test_mean) <= 3 * stated.test_sd


def test_seeds_in_children_give_what_they_give_here_and_read_back(tmp_path: Path) -> None:
    recipe = quick(flip=True, shift_pixels=1, schedule="onecycle")
    seen: list[Progress] = []
    lock = threading.Lock()

    def watch(progress: Progress) -> None:
        with lock:
            seen.append(progress)

    there, summary = train.train_seeds(recipe, [5, 6], progress=watch)
    assert {(p.seed, p.epoch) for p in seen} == {(seed, epoch) for seed in (5, 6) for epoch in (0, 1, 2)}
    assert summary.splits_sha256 == datasets.splits_sha256("digits")

    here, result = train.train(recipe, seed=summary.shipped_seed)
    assert max(p.validation for p in seen if p.seed == result.seed and p.validation) == result.validation
    stated = next(r for r in summary.seeds if r.seed == result.seed)
    assert (stated.validation, stated.test, stated.epoch) == (result.validation, result.test, result.epoch)
    for name, value in here.module.state_dict().items():
        assert torch.equal(value, there.module.state_dict()[name]), name
        assert value.is_contiguous()

    weights = train.save(there, summary, tmp_path)
    assert weights.name == "resnet8-digits.safetensors"
    assert train.load_result(weights.with_suffix(".toml")) == summary
    tests = torch.tensor([r.test for r in summary.seeds], dtype=torch.float64)
    assert summary.test_mean == pytest.approx(float(tests.mean()), abs=1e-6)
    assert summary.test_sd == pytest.approx(float(tests.std()), abs=1e-6)
    assert tests[0] != tests[1]


def test_accuracy_stated_is_the_networks() -> None:
    network, result = train.train(quick(epochs=5), seed=0)
    for split, stated in (("validation", result.validation), ("test", result.test)):
        data = datasets.load("digits", split)
        with torch.no_grad():
            right = network.module(torch.from_numpy(data.images)).argmax(1).numpy() == data.labels
        assert float(right.mean()) == pytest.approx(stated)
    assert result.test > 0.5   # ten classes: it has learnt


def test_test_split_is_read_once_and_last(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = datasets.load

    def watched(name: str, split: str) -> datasets.Split:
        read.append(split)
        return load(name, split)

    monkeypatch.setattr(datasets, "load", watched)
    train.train(quick(), seed=0, progress=lambda p: read.append(f"epoch {p.epoch}"))
    assert list(dict.fromkeys(read)) == ["train", "validation", "epoch 0", "epoch 1", "epoch 2", "test"]
    assert read.count("test") == 1


def test_weights_shipped_are_of_the_median_seed_on_validation() -> None:
    def results(*validation: float) -> list[SeedResult]:
        # the test accuracies would choose otherwise
        return [SeedResult(seed=k, validation=v, test=1 - v, epoch=0, train_s=1) for k, v in enumerate(validation)]

    assert train.median_seed(results(0.9, 0.7, 0.8)) == 2
    assert train.median_seed(results(0.9, 0.7, 0.8, 0.6)) == 1
    assert train.median_seed(results(0.9)) == 0


def test_frozen_batchnorm_sees_no_batch() -> None:
    network, _ = train.train(quick(freeze_batchnorm_at=0, epochs=1), seed=0)
    counted = [v for n, v in network.module.state_dict().items() if n.endswith("num_batches_tracked")]
    assert counted
    assert all(int(v) == 0 for v in counted)


def test_augmentation_moves_and_mirrors() -> None:
    x = torch.zeros(200, 1, 8, 8)
    x[:, 0, 4, 2] = 1
    moved = train._augmented(x, quick(flip=True, shift_pixels=1), torch.Generator().manual_seed(0))
    places = {tuple(p[1:].tolist()) for p in moved[:, 0].nonzero()}
    rows, left, mirrored = (3, 4, 5), (1, 2, 3), (4, 5, 6)
    assert places == {(r, c) for r in rows for c in left + mirrored}


def test_recipe_comes_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('network = "resnet8"\ndataset = "digits"\nlr = 0.1\n[options]\nclasses = 10\n')
    expected = Recipe(network="resnet8", dataset="digits", lr=0.1, options={"classes": 10})
    assert describe.load(path, Recipe) == expected
    path.write_text('network = "resnet8"\ndataset = "digits"\nepoch = 3\n')
    with pytest.raises(BadDescription, match="did you mean 'epochs'"):
        describe.load(path, Recipe)


def test_default_recipes() -> None:
    assert train.recipe_for("dsodenet", "digits").freeze_batchnorm_at is not None   # the shipped one
    assert train.recipe_for("ds_cnn", "usps").options == {"input_shape": [1, 16, 16], "classes": 10}
    other = train.recipe_for("dsodenet", "usps")   # nearest to it: how it was trained on its own data set
    own = train.recipe_for("dsodenet")
    assert (other.dataset, other.freeze_batchnorm_at, other.lr) == ("usps", own.freeze_batchnorm_at, own.lr)
    assert other.train_images is None   # usps has fewer
    with pytest.raises(BadInput, match="mobilenet_v2 has no data set"):
        train.recipe_for("mobilenet_v2")


def test_mistakes_are_named() -> None:
    with pytest.raises(UnknownName, match="nearest: resnet8"):
        train.train(quick(network="resnet9"), 0)
    with pytest.raises(UnknownName, match="nearest: digits"):
        train.train(quick(dataset="digit"), 0)
    with pytest.raises(BadInput, match=r"takes images of \(1, 28, 28\)"):
        train.train(quick(options={}), 0)
    with pytest.raises(BadInput, match="1257 images, not 5000"):
        train.train(quick(train_images=5000), 0)
    with pytest.raises(BadInput, match="diverged"):
        train.train(quick(lr=1e30), 0)
    with pytest.raises(UnknownName, match="nearest: resnet8"):   # as itself, out of the child too
        train.train_seeds(quick(network="resnet9"), [0])
