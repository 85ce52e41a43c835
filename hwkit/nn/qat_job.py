"""Quantising an opened model in a child process: its stages in, an integer network out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from hwkit import datasets
from hwkit.errors import BadInput
from hwkit.integer import separable
from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.nn.dyadic import to_integer
from hwkit.nn.qat import Data, QatRecipe, quantize
from hwkit.nn.separable import extract
from hwkit.samples import GIVE_DATA, samples
from hwkit.train import Progress

HELD_OUT = 10        # one in ten of the user's own images decides which epoch is kept
UNLABELLED = 20_000  # of the user's images, at most


def job(spec: dict[str, Any], say: Say) -> dict[str, Any]:
    """{"model": Model, "recipe": QatRecipe, "seed", "file"} -> {"epoch", "validation", "train_s", "history"}.

    A model that brings its integers is taken as it is. The integer network goes to `file` (see
    hwkit.integer.separable.save). A model with a data set is trained on its train split with labels; one with the
    user's own images only learns what the float network says of them.
    Raises BadModel for a network of another shape, BadInput where there are no real images.
    """
    model, recipe = Model.model_validate(spec["model"]), QatRecipe.model_validate(spec["recipe"])
    seed: int = spec["seed"]
    if model.quantized is not None:
        shutil.copyfile(model.quantized, spec["file"])
        return {"history": list(separable.load(Path(spec["file"])).history)}
    say("reading the network")
    network = extract(model.stages, model.name, model.input_shape)
    training, validation, source = _data(model)
    if training.labels is None:
        recipe = recipe.model_copy(update={"distillation": 1.0})
    told = -1

    def watch(progress: Progress) -> None:
        nonlocal told
        done = progress.epoch * progress.batches + progress.batch
        percent = 100 * done // (progress.epochs * progress.batches)
        if percent > told:
            told = percent
            say(f"quantisation-aware training: {percent} of 100")

    say("choosing scales")
    module, trained = quantize(network, training, validation, recipe, seed, progress=watch)
    module.history = (*model.history, history_line(recipe, source, seed, trained.epoch))
    found = to_integer(module)
    separable.validate(found)
    separable.save(found, Path(spec["file"]))
    return {"epoch": trained.epoch, "validation": trained.validation, "train_s": trained.train_s,
            "history": list(module.history)}


def history_line(recipe: QatRecipe, source: str, seed: int, epoch: int) -> str:
    """What was done, for a Model's history."""
    how = f"ranges from {source}" if epoch < 0 else f"trained for {epoch + 1} epochs on {source}, seed {seed}"
    return (f"quantised to INT{recipe.weight_bits} weights, INT8 state, {recipe.middle_bits}-bit middle, "
            f"power-of-two scales, {how}")


def _data(model: Model) -> tuple[Data, Data, str]:
    """Training and validation images of a model, and what they are."""
    if model.data is None and model.dataset is not None and datasets.info(model.dataset).train:
        parts = [datasets.load(model.dataset, split) for split in ("train", "validation")]
        training, validation = (Data(torch.from_numpy(p.images), torch.from_numpy(p.labels)) for p in parts)
        return training, validation, model.dataset
    found = samples(model.input_shape, UNLABELLED, model.dataset, model.data)
    if found.random:
        raise BadInput(f"quantising {model.name} needs real images to choose ranges and to train with", GIVE_DATA)
    images = torch.from_numpy(found.calibration)
    if len(images) < 2:
        raise BadInput("quantising needs at least two calibration images", GIVE_DATA)
    held = torch.arange(len(images)) % HELD_OUT == HELD_OUT - 1 if len(images) >= HELD_OUT else torch.tensor(
        [False] * (len(images) - 1) + [True])
    return Data(images[~held], None), Data(images[held], None), f"{len(images)} unlabelled images"
