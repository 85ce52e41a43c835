"""Quantise a depthwise-separable neural-ODE network to INT4 weights and power-of-two scales, and train it so."""

from __future__ import annotations

import importlib.metadata
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwkit import datasets, files, zoo
from hwkit.describe import Frozen, Name, toml_text, validated
from hwkit.errors import BadInput
from hwkit.network import Network
from hwkit.recipe import SeedResult, median_seed
from hwkit.train import Watcher, accuracy, unwatched

if TYPE_CHECKING:
    from hwkit.nn.dyadic import DyadicNetwork
    from hwkit.nn.qat import Data, QatRecipe, Trained

PACKAGES = ("torch", "brevitas")


@dataclass(frozen=True)
class Quantize:
    """A pass: the module becomes a hwkit.nn.dyadic.DyadicNetwork trained on the network's data set.

    recipe  settings of hwkit.nn.qat.QatRecipe that differ from its defaults, e.g. {"epochs": 2}
    """

    recipe: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __call__(self, network: Network) -> Network:
        """Raises BadModel for a network of another shape, BadInput for one without a data set."""
        from hwkit.nn.qat import QatRecipe

        module, _ = train(network, validated(self.recipe, QatRecipe, "the recipe of Quantize"), self.seed)
        return network.after(module.history[-1], module)


class Result(Frozen):
    """What a recipe gives over its seeds, and which of them the integers beside it are of.

    float_sha256  of the file of float weights it began with
    float_test    accuracy of that network on the test split
    test_sd       sample standard deviation over the seeds, 0 where there is one
    """

    network: Name
    dataset: Name
    recipe: dict[str, Any]
    float_sha256: str
    float_test: float
    shipped_seed: int
    chosen_by: str
    test_mean: float
    test_sd: float
    seeds: tuple[SeedResult, ...]
    splits_sha256: str
    tools: dict[str, str]


def train(network: Network, recipe: QatRecipe, seed: int,
          progress: Watcher = unwatched) -> tuple[DyadicNetwork, Trained]:
    """Quantise and train one network, which is its own teacher, in this process.

    Raises BadModel for a network of another shape, BadInput for one without a data set.
    """
    import copy

    import torch

    from hwkit.nn.qat import quantize
    from hwkit.nn.qat_job import history_line
    from hwkit.nn.separable import from_module

    if network.dataset is None:
        raise BadInput(f"{network.name} has no data set to be trained on", "hwkit train, with --dataset")
    read = from_module(network.module, network.name, network.input_shape)
    teacher = copy.deepcopy(network.module).to(memory_format=torch.channels_last)   # type: ignore[call-overload]
    module, trained = quantize(read, _split(network.dataset, "train"), _split(network.dataset, "validation"),
                               recipe, seed, teacher, progress)
    module.history = (*network.history, history_line(recipe, network.dataset, seed, trained.epoch))
    return module, trained


def train_seeds(name: str, recipe: QatRecipe, seeds: Sequence[int], folder: Path,
                progress: Watcher = unwatched) -> tuple[Path, Result]:
    """Quantise a trained zoo network once per seed; the median seed by validation goes into `folder`.

    Written are <network>-<data set>.npz, an integer network, and the .toml that says how it came to be. The test
    split is read once a seed, after training, and decides nothing.
    """
    from hwkit.integer import separable
    from hwkit.nn.dyadic import to_integer

    network = zoo.network(name)
    if network.dataset is None or not seeds:
        raise BadInput(f"{name} has no trained weights" if seeds else "training needs at least one seed",
                       f"hwkit train {name}")
    modules, found = {}, []
    for seed in seeds:
        modules[seed], trained = train(network, recipe, seed, progress)
        test = _tested(modules[seed], network.dataset)
        found.append(SeedResult(seed=seed, validation=trained.validation, test=test, epoch=trained.epoch,
                                train_s=trained.train_s))
    shipped = median_seed(found)
    base = name.partition("@")[0]
    tests = [r.test for r in found]
    result = Result(
        network=base, dataset=network.dataset, recipe=recipe.model_dump(exclude_none=True),
        float_sha256=files.sha256(zoo.weights_path(base, network.dataset)),
        float_test=_tested(network.module, network.dataset), shipped_seed=shipped,
        chosen_by=f"median validation accuracy of {len(found)} seeds" if len(found) > 1 else "the only seed",
        test_mean=round(statistics.fmean(tests), 6),
        test_sd=round(statistics.stdev(tests), 6) if len(tests) > 1 else 0.0, seeds=tuple(found),
        splits_sha256=datasets.splits_sha256(network.dataset),
        tools={package: importlib.metadata.version(package) for package in PACKAGES})
    path = folder / f"{base}-{network.dataset}.npz"
    separable.save(to_integer(modules[shipped]), path)
    files.write(path.with_suffix(".toml"), toml_text(result.model_dump()))
    return path, result


def _split(dataset: str, split: str) -> Data:
    import torch

    from hwkit.nn.qat import Data

    found = datasets.load(dataset, split)
    return Data(torch.from_numpy(found.images), torch.from_numpy(found.labels))


def _tested(module: Any, dataset: str) -> float:
    data = _split(dataset, "test")
    assert data.labels is not None
    return accuracy(module, data.images, data.labels)
