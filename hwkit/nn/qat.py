"""Training a dyadic network: from its post-training quantisation, or on from an earlier training.

The learning rate is in LSBs of an INT4 weight: a rate of 0.02 moves each weight by at most about that much an
update, whatever its scale. Which epoch to keep is decided on the validation images.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from hwkit.describe import Frozen
from hwkit.errors import BadInput
from hwkit.nn.dyadic import DyadicNetwork, Precision
from hwkit.nn.equalize import equalized, quantized
from hwkit.nn.separable import FloatSeparable
from hwkit.train import Progress, Watcher, accuracy, unwatched

Teacher = Callable[[torch.Tensor], torch.Tensor]
CALIBRATION_SEED = 0   # the same images whatever the training's seed
BATCH = 500   # images an evaluation runs at once


class QatRecipe(Frozen):
    """How a dyadic network is trained.

    weight_bits, middle_bits   see hwkit.nn.dyadic.Precision
    epochs        0 leaves it at post-training quantisation
    lr            in LSBs of an INT4 weight, falling to zero along a cosine
    distillation  weight of the teacher's outputs in the loss; 1 needs no labels
    temperature   the outputs are divided by before they are compared
    train_images  how many of the training images (the first ones); None for all
    calibration   training images that the scales are chosen on
    flip          mirror each training image with probability one half
    """

    weight_bits: int = Field(default=4, ge=1, le=4)
    middle_bits: int = Field(default=7, ge=2, le=7)
    epochs: NonNegativeInt = 3
    batch: PositiveInt = 128
    lr: PositiveFloat = 0.02
    distillation: float = Field(default=0.5, ge=0.0, le=1.0)
    temperature: PositiveFloat = 2.0
    label_smoothing: NonNegativeFloat = 0.0
    train_images: PositiveInt | None = None
    calibration: PositiveInt = 128
    flip: bool = False


@dataclass(frozen=True)
class Data:
    """images (n, C, H, W) float32; labels (n,), None where they are the teacher's."""

    images: torch.Tensor
    labels: torch.Tensor | None


@dataclass(frozen=True)
class Trained:
    """The epoch kept (-1: post-training quantisation was best) and its validation accuracy."""

    epoch: int
    validation: float
    train_s: float


def train(module: DyadicNetwork, teacher: Teacher, training: Data, validation: Data, recipe: QatRecipe, seed: int,
          progress: Watcher = unwatched) -> Trained:
    """Train in place, on the calling thread's torch settings; leaves the best epoch's weights, in eval mode.

    Where images have no labels the teacher's choice is the label, in validation too.
    Raises BadInput when the loss stops being a number.
    """
    started = time.monotonic()
    generator = torch.Generator().manual_seed(seed)
    images = training.images[:recipe.train_images].contiguous(memory_format=torch.channels_last)
    told = [outputs(teacher, images)] + ([outputs(teacher, images.flip(3))] if recipe.flip else [])
    labels = told[0].argmax(1) if training.labels is None else training.labels[:recipe.train_images]
    expected = outputs(teacher, validation.images).argmax(1) if validation.labels is None else validation.labels
    steps = _Steps(module)
    batches = math.ceil(len(images) / recipe.batch)
    best, best_epoch, best_state = accuracy(module, validation.images, expected), -1, _copied(module)
    latest = None
    for epoch in range(recipe.epochs):
        module.train()
        order = torch.randperm(len(images), generator=generator)
        for k, chosen in enumerate(torch.split(order, recipe.batch)):
            x, wanted = images[chosen], told[0][chosen]
            if recipe.flip:
                mirrored = torch.rand(len(x), generator=generator) < 0.5
                x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
                wanted = torch.where(mirrored[:, None], told[1][chosen], wanted)
            loss = _loss(module(x), wanted, labels[chosen], recipe)
            loss.backward()   # type: ignore[no-untyped-call]
            steps.step(recipe.lr * 0.5 * (1 + math.cos(math.pi * (epoch + k / batches) / recipe.epochs)))
            value = loss.item()
            if not math.isfinite(value):
                raise BadInput(f"training {module.name} diverged in epoch {epoch}", "lower lr in the recipe")
            progress(Progress(seed, epoch, recipe.epochs, k + 1, batches, value, latest))
        latest = accuracy(module, validation.images, expected)
        if latest > best:
            best, best_epoch, best_state = latest, epoch, _copied(module)
    module.load_state_dict(best_state)
    module.eval()
    return Trained(best_epoch, best, round(time.monotonic() - started, 1))


def quantize(network: FloatSeparable, training: Data, validation: Data, recipe: QatRecipe, seed: int,
             teacher: Teacher | None = None, progress: Watcher = unwatched) -> tuple[DyadicNetwork, Trained]:
    """Equalise, quantise and train a float network, on one thread; the same seed gives the same integers.

    teacher  the float network itself where it is None
    """
    precision = Precision(recipe.weight_bits, recipe.middle_bits)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        chosen = np.random.RandomState(CALIBRATION_SEED).permutation(len(training.images))[:recipe.calibration]
        calibrating = training.images[torch.from_numpy(np.sort(chosen))]
        module = quantized(equalized(network, calibrating, precision), calibrating, precision)
        trained = train(module, teacher or network, training, validation, recipe, seed, progress)
    finally:
        torch.set_num_threads(threads)
    return module, trained


def input_ties(images: torch.Tensor, input_scale: float) -> int:
    """How many values of the images lie exactly between two integers of the input: the only ties there are.

    Round half even decides them, in torch, in QONNX and in the integer reference alike.
    """
    scaled = images.double() / input_scale
    inside = (scaled > -128) & (scaled < 127)
    return int(((scaled - scaled.floor() == 0.5) & inside).sum())


def _loss(out: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor, recipe: QatRecipe) -> torch.Tensor:
    t = recipe.temperature
    loss = out.new_zeros(())
    if recipe.distillation < 1:
        loss = (1 - recipe.distillation) * F.cross_entropy(out, labels, label_smoothing=recipe.label_smoothing)
    if recipe.distillation > 0:
        told = F.kl_div(F.log_softmax(out / t, 1), F.log_softmax(wanted / t, 1), log_target=True,
                        reduction="batchmean")
        loss = loss + recipe.distillation * t * t * told
    return loss


class _Steps:
    """Adam whose steps are counted in each parameter's own unit, and whose weights stay within their range."""

    def __init__(self, module: DyadicNetwork) -> None:
        learned = [entry for layer in module.shifted() for entry in layer.learned()]
        self.parameters = [parameter for parameter, _, _ in learned]
        self.units = [unit for _, unit, _ in learned]
        self.bounds = [(p, most) for p, _, most in learned if most is not None]
        self.adam = torch.optim.Adam(self.parameters)

    def step(self, lr: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = lr
        with torch.no_grad():
            before = [p.clone() for p in self.parameters]
            self.adam.step()
            for p, was, unit in zip(self.parameters, before, self.units, strict=True):
                p.sub_(was).mul_(unit).add_(was)
            for p, most in self.bounds:
                p.clamp_(-most, most)
        self.adam.zero_grad()


def outputs(module: Teacher, images: torch.Tensor) -> torch.Tensor:
    """Of all images, some at a time."""
    with torch.inference_mode():
        parts = [module(x.contiguous(memory_format=torch.channels_last)) for x in torch.split(images, BATCH)]
    return torch.cat(parts).clone()


def _copied(module: DyadicNetwork) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}
