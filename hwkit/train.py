"""Training zoo networks: a recipe in, weights and what they are worth out.

Every choice (which epoch to keep, which seed to ship) is made on the validation split; the test split is
read once, after training. One seed on one machine gives the same weights each time: one thread, and
every random number drawn from the seed.
"""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwkit import datasets, jobs, zoo
from hwkit.errors import BadInput
from hwkit.network import Network
from hwkit.recipe import Recipe, Result, SeedResult, load_result, median_seed, recipe_for, save, summary

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Progress", "Recipe", "Result", "SeedResult", "accuracy", "load_result", "median_seed", "recipe_for",
           "save", "train", "train_seeds"]

_SEED_TIMEOUT_S = 6 * 3600.0


@dataclass(frozen=True)
class Progress:
    """Where a training stands, after each batch; `validation` is of the last finished epoch."""

    seed: int
    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    validation: float | None


Watcher = Callable[[Progress], None]


def unwatched(progress: Progress) -> None:
    """Nobody is told."""


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tensors(dataset: str, split: str, limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    data = datasets.load(dataset, split)
    if limit is not None and limit > len(data):
        raise BadInput(f"the {split} split of {dataset} has {len(data)} images, not {limit}")
    images = torch.from_numpy(data.images[:limit]).contiguous(memory_format=torch.channels_last)
    return images, torch.from_numpy(data.labels[:limit])


def accuracy(module: nn.Module, images: torch.Tensor, labels: torch.Tensor, batch: int = 500) -> float:
    """Fraction of images whose largest output is their label; leaves the module in eval mode."""
    import torch

    module.eval()
    right = 0
    with torch.inference_mode():
        for x, y in zip(torch.split(images, batch), torch.split(labels, batch), strict=True):
            right += int((module(x).argmax(1) == y).sum())
    return right / len(labels)


def _augmented(x: torch.Tensor, recipe: Recipe, generator: torch.Generator) -> torch.Tensor:
    import torch
    import torch.nn.functional as F

    if recipe.flip:
        mirrored = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    if recipe.shift_pixels:
        most = recipe.shift_pixels
        height, width = x.shape[2:]
        padded = F.pad(x, (most,) * 4, value=float(x.min()))
        moved = [
            image[:, top : top + height, left : left + width]
            for image, (top, left) in zip(
                padded, torch.randint(2 * most + 1, (len(x), 2), generator=generator).tolist(), strict=True
            )
        ]
        x = torch.stack(moved).contiguous(memory_format=torch.channels_last)
    return x


def _optimiser(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    import torch

    # no decay on biases and on BatchNorm's scale and shift
    groups = [
        {"params": [p for p in module.parameters() if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in module.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=recipe.lr)


def _lr_factor(recipe: Recipe, done: float) -> float:
    """Factor on the learning rate when the fraction `done` of all updates is behind."""
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    rise = 0.3
    if done < rise:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * done / rise))
    return 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))


def train(recipe: Recipe, seed: int, progress: Watcher = unwatched) -> tuple[Network, SeedResult]:
    """Train one network from one seed, in this process, on one thread.

    Raises UnknownName and BadInput where the recipe names what does not exist or does not fit, and
    BadInput when the loss stops being a number.
    """
    import torch

    built, shape = zoo.build(recipe.network, seed, **recipe.options)
    about = datasets.info(recipe.dataset)
    if shape != about.shape:
        raise BadInput(f"{recipe.network} takes images of {shape}, {recipe.dataset} has {about.shape}",
                       f"put input_shape = {list(about.shape)} into the recipe's options")
    started = time.monotonic()
    with _one_thread():
        state, epoch, validation = _fit(built, recipe, seed, progress)
        built.load_state_dict(state)
        built = built.to(memory_format=torch.contiguous_format)   # type: ignore[call-overload]
        train_s = time.monotonic() - started
        test = accuracy(built, *_tensors(recipe.dataset, "test"))
    history = (f"trained on {recipe.dataset}, seed {seed}, {recipe.epochs} epochs",)
    return (Network(recipe.network, built, shape, recipe.dataset, history),
            SeedResult(seed=seed, validation=validation, test=test, epoch=epoch, train_s=round(train_s, 1)))


def _fit(
    module: nn.Module, recipe: Recipe, seed: int, progress: Watcher
) -> tuple[dict[str, torch.Tensor], int, float]:
    """Weights of the best epoch on validation, that epoch, and its validation accuracy."""
    import torch
    import torch.nn.functional as F

    from hwkit.nn.ode import freeze_batchnorm

    images, labels = _tensors(recipe.dataset, "train", recipe.train_images)
    held_out = _tensors(recipe.dataset, "validation")
    module.to(memory_format=torch.channels_last)   # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(seed)
    optimiser = _optimiser(module, recipe)
    batches = math.ceil(len(labels) / recipe.batch)
    best: tuple[dict[str, torch.Tensor], int, float] | None = None
    validation: float | None = None
    for epoch in range(recipe.epochs):
        frozen = recipe.freeze_batchnorm_at is not None and epoch >= recipe.freeze_batchnorm_at
        module.train()
        if frozen:
            freeze_batchnorm(module)
        order = torch.randperm(len(labels), generator=generator)
        for k, chosen in enumerate(torch.split(order, recipe.batch)):
            factor = _lr_factor(recipe, (epoch * batches + k) / (recipe.epochs * batches))
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * factor
            out = module(_augmented(images[chosen], recipe, generator))
            loss = F.cross_entropy(out, labels[chosen], label_smoothing=recipe.label_smoothing)
            optimiser.zero_grad()
            loss.backward()   # type: ignore[no-untyped-call]
            optimiser.step()
            value = loss.item()
            if not math.isfinite(value):
                raise BadInput(f"training {recipe.network} diverged in epoch {epoch}", "lower lr in the recipe")
            progress(Progress(seed, epoch, recipe.epochs, k + 1, batches, value, validation))
        validation = accuracy(module, *held_out)
        if best is None or validation > best[2]:
            best = ({name: value.clone() for name, value in module.state_dict().items()}, epoch, validation)
    assert best is not None
    progress(Progress(seed, recipe.epochs, recipe.epochs, 0, batches, value, validation))
    return best


def train_seeds(
    recipe: Recipe, seeds: Sequence[int], jobs_at_once: int = 2, progress: Watcher = unwatched
) -> tuple[Network, Result]:
    """Train every seed in a child process of its own; gives the network of the median seed on validation.

    progress is called from several threads.
    """
    if not seeds:
        raise BadInput("training needs at least one seed")
    with tempfile.TemporaryDirectory(prefix="hwkit-train-") as scratch:
        def one(seed: int) -> SeedResult:
            said = jobs.call(
                "hwkit.train:job",
                {"recipe": recipe.model_dump(), "seed": seed, "weights": f"{scratch}/{seed}.safetensors"},
                what=f"training {recipe.network} on {recipe.dataset}, seed {seed}",
                timeout_s=_SEED_TIMEOUT_S,
                progress=lambda line: progress(Progress(**json.loads(line))),
            )
            return SeedResult.model_validate(said)

        with ThreadPoolExecutor(jobs_at_once) as pool:
            found = tuple(pool.map(one, seeds))
        chosen = median_seed(found)
        network = _loaded(recipe, chosen, Path(scratch) / f"{chosen}.safetensors")
    return network, summary(recipe, found, network)


def job(spec: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """`train` in a child process: weights go to a file, progress is told a hundred times a training."""
    from safetensors.torch import save_file

    recipe = Recipe.model_validate(spec["recipe"])
    told = 0

    def watch(progress: Progress) -> None:
        nonlocal told
        done = (progress.epoch * progress.batches + progress.batch) * 100
        percent = done // (progress.epochs * progress.batches)
        if percent > told or progress.epoch == progress.epochs:   # always the last word
            told = percent
            say(json.dumps(asdict(progress)))

    network, result = train(recipe, spec["seed"], watch)
    save_file(network.module.state_dict(), spec["weights"])
    return result.model_dump()


def _loaded(recipe: Recipe, seed: int, weights: Path) -> Network:
    from safetensors.torch import load_file

    built, shape = zoo.build(recipe.network, seed, **recipe.options)
    built.load_state_dict(load_file(weights))
    history = (f"trained on {recipe.dataset}, seed {seed}, {recipe.epochs} epochs",)
    return Network(recipe.network, built.eval(), shape, recipe.dataset, history)
