"""Recipes of trainings, and what comes of them: TOML, beside the weights."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from hwkit import datasets, files, zoo
from hwkit.describe import Frozen, Name, load, toml_text
from hwkit.errors import BadInput
from hwkit.network import Network


class Recipe(Frozen):
    """How a network is trained, all of it; TOML.

    options              of the network's `build`, input shape and classes included
    train_images         how many images of the train split (the first ones); None for all
    schedule             of the learning rate: "constant", "cosine" (to zero), or "onecycle" (up over the
                         first 30 %, then to zero)
    freeze_batchnorm_at  from this epoch on (the first is 0) BatchNorm statistics stay as they are
    flip                 mirror each training image with probability one half
    shift_pixels         move each training image by up to this many pixels along both axes
    """

    network: Name
    dataset: Name
    options: dict[str, Any] = {}
    epochs: PositiveInt = 8
    train_images: PositiveInt | None = None
    batch: PositiveInt = 128
    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-4
    schedule: Literal["constant", "cosine", "onecycle"] = "cosine"
    freeze_batchnorm_at: int | None = Field(default=None, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    flip: bool = False
    shift_pixels: int = Field(default=0, ge=0)


class SeedResult(Frozen):
    """One training. Accuracies are fractions; `epoch` is the one kept, best on validation."""

    seed: int
    validation: float
    test: float
    epoch: int
    train_s: float


class Result(Frozen):
    """What a recipe gives over its seeds, and which of them the weights beside it are of.

    test_sd is the sample standard deviation over the seeds, 0 where there is one.
    """

    recipe: Recipe
    parameters: int
    shipped_seed: int
    chosen_by: str
    test_mean: float
    test_sd: float
    seeds: tuple[SeedResult, ...]
    splits_sha256: str
    torch: str


def recipe_for(network: str, dataset: str | None = None) -> Recipe:
    """The recipe the weights of a network on a data set were made with.

    Where there are none: the recipe of the network's own data set, with this one's shapes; where there
    are none of that either, the defaults of Recipe. Raises UnknownName, and BadInput for a network
    without a data set of its own when none is named.
    """
    own = zoo.source(network).DATASET
    dataset = dataset or own
    if dataset is None:
        raise BadInput(f"{network} has no data set of its own", f"name one of {', '.join(datasets.names())}")
    about = datasets.info(dataset)
    known = zoo.weights_path(network, about.name).with_suffix(".toml")
    if known.is_file():
        return load_result(known).recipe
    shapes = {"input_shape": list(about.shape), "classes": about.classes}
    similar = zoo.weights_path(network, str(own)).with_suffix(".toml")
    if not similar.is_file():
        return Recipe(network=network, dataset=about.name, options=shapes)
    recipe = load_result(similar).recipe
    images = recipe.train_images if (recipe.train_images or 0) <= about.train else None
    return recipe.model_copy(
        update={"dataset": about.name, "options": {**recipe.options, **shapes}, "train_images": images}
    )


def median_seed(found: Sequence[SeedResult]) -> int:
    """The seed in the middle by validation accuracy (the lower of two)."""
    ordered = sorted(found, key=lambda r: (r.validation, r.seed))
    return ordered[(len(ordered) - 1) // 2].seed


def summary(recipe: Recipe, found: Sequence[SeedResult], network: Network) -> Result:
    """What the seeds gave; `network` is the one of the median seed."""
    import torch

    tests = [r.test for r in found]
    return Result(
        recipe=recipe,
        parameters=sum(p.numel() for p in network.module.parameters()),
        shipped_seed=median_seed(found),
        chosen_by=f"median validation accuracy of {len(found)} seeds" if len(found) > 1 else "the only seed",
        test_mean=round(statistics.fmean(tests), 6),
        test_sd=round(statistics.stdev(tests), 6) if len(tests) > 1 else 0.0,
        seeds=tuple(found),
        splits_sha256=datasets.splits_sha256(recipe.dataset),
        torch=torch.__version__,
    )


def save(network: Network, result: Result, folder: Path) -> Path:
    """Write <network>-<data set>.safetensors and .toml into `folder`; gives the weights' path."""
    from safetensors.torch import save as serialised

    weights = folder / f"{result.recipe.network}-{result.recipe.dataset}.safetensors"
    files.write(weights, serialised(network.module.state_dict()))
    files.write(weights.with_suffix(".toml"), toml_text(result.model_dump(exclude_none=True)))
    return weights


def load_result(path: Path) -> Result:
    """The .toml beside shipped weights. Raises BadDescription."""
    return load(path, Result)
