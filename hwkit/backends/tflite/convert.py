"""The conversion job: a Model in, .tflite files, golden data and everything known about them out.

Runs in a child process, in the build folder: it imports torch and the converters, and opens models that
hwkit did not make.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwkit.artifact import Built, Finding
from hwkit.backends._agreement import Floats, outputs
from hwkit.backends.tflite import integer, litert
from hwkit.backends.tflite.chain import Part
from hwkit.backends.tflite.deployed import Deployed, finish
from hwkit.backends.tflite.options import Options
from hwkit.backends.tflite.rewrite import rewrite_for_integers
from hwkit.backends.tflite.taken import taken
from hwkit.errors import BadInput, BadModel
from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.nn import program
from hwkit.nn.batch import for_many
from hwkit.nn.fold import Folded
from hwkit.nn.program import Program
from hwkit.samples import GIVE_DATA, Samples, samples

FOLD_TOLERANCE = 1e-4   # of the largest output: float32 rounding through a deep network
COMPARED = 8            # inputs on which folding and cutting are checked
NO_DOT_PRODUCTS = Finding(
    name="int8 without dot products", ok=None,
    text="this target's cores multiply int8 no faster than float32: expect a quarter of the memory, and 0.85 to "
         "1.05 of the instructions (resnet8, mobilenet_v2 and dsodenet on cortex-a72)")
PACKAGES = ("torch", "litert-torch", "ai-edge-quantizer", "ai-edge-litert", "numpy")


def job(spec: dict[str, Any], say: Say) -> dict[str, Any]:
    """{"model": Model, "options": Options, "dot_products": bool} -> Built; files go under the current folder.

    dot_products   the target's cores have int8 dot products, which decides about one rewrite
    """
    model, options = Model.model_validate(spec["model"]), Options.model_validate(spec["options"])
    torch.set_num_threads(1)
    if model.format == "tflite":
        deployed = taken(model, options, say)
    else:
        deployed = _converted(model, options, spec["dot_products"], say)
    built: Built = finish(deployed, options, Path(), say)
    if options.precision == "int8" and model.format == "pt2" and not spec["dot_products"]:
        built = built.model_copy(update={"findings": (*built.findings, NO_DOT_PRODUCTS)})
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return built.model_copy(update={"tool_versions": versions}).model_dump(mode="json")


@dataclass(frozen=True)
class _Piece:
    """A folded stage, ready to convert; see hwkit.model.Stage."""

    program: Program
    repeat: int
    times: tuple[float, ...] | None

    def __call__(self, value: torch.Tensor) -> torch.Tensor:
        for k in range(self.repeat):
            time = () if self.times is None else (torch.tensor([self.times[k]]),)
            value = self.program(value, *time)
        return value


def _converted(model: Model, options: Options, dot_products: bool, say: Say) -> Deployed:
    whole = program.load(model.path, model.name)
    program.check_input(whole, model.input_shape)
    inputs = samples(model.input_shape, options.calibration, model.dataset, model.data).first(options.images)
    if options.precision == "int8" and inputs.random:
        raise BadInput(f"int8 needs real inputs to choose its ranges, and {model.name} names no data set",
                       f"{GIVE_DATA}, or choose precision=f32")
    say("folding BatchNorm")
    pieces, folds = _pieces(model, options, whole)
    _check_pieces(whole, pieces, inputs)
    contents = []
    for piece in pieces:
        say(f"converting {piece.program.name}")
        contents.append(litert.convert(piece.program))
    finished = _quantized(pieces, contents, inputs, options, dot_products, say)
    trained, batch = for_many(whole, len(inputs.images))
    expected = outputs(trained, inputs.images, "the trained network", say, batch)
    names = [piece.program.name for piece in pieces]
    parts = [Part(c, p.repeat, p.times) for c, p in zip(finished, pieces, strict=True)]
    return Deployed(names=names, parts=parts, inputs=_layout(inputs.images), expected=_layout(expected),
                    labels=inputs.labels, reference="the trained network", source=inputs.source,
                    exact=options.precision == "f32",
                    weights=program.weights([piece.program for piece in pieces]), folded=_told(folds))


def _told(folds: list[Folded]) -> str:
    norms, scales = sum(f.batch_norms for f in folds), sum(f.scales for f in folds)
    return (f"{norms} BatchNorms and {scales} constant factors went into {sum(f.weights for f in folds)} weight "
            "tensors; outputs as before")


def _pieces(model: Model, options: Options, whole: Program) -> tuple[list[_Piece], list[Folded]]:
    """The programs to convert: the stages, or the whole network as one."""
    stepped = options.ode != "unrolled" and bool(model.stages)
    if options.ode == "stepped" and not model.stages:
        raise BadInput(f"{model.name} has no ODE steps to run one by one", "choose ode=unrolled")
    if not stepped:
        folded, done = whole.folded()
        return [_Piece(folded, 1, None)], [done]
    pieces, folds = [], []
    for stage in model.stages:
        folded, done = program.load(stage.path, stage.name, 1 if stage.times is None else 2).folded()
        pieces.append(_Piece(folded, stage.repeat, stage.times))
        folds.append(done)
    return pieces, folds


def _check_pieces(whole: Program, pieces: list[_Piece], inputs: Samples) -> None:
    """Folding and cutting leave what the network computes as it was. Raises BadModel."""
    for one in inputs.calibration[:COMPARED]:
        expected = whole(torch.from_numpy(one[None]))
        value = torch.from_numpy(one[None])
        for piece in pieces:
            if tuple(value.shape) != piece.program.input_shapes[0]:
                raise BadModel(f"stage {piece.program.name} takes {piece.program.input_shapes[0]}, the one before "
                               f"it gives {tuple(value.shape)}", "export the stages of one network, in order")
            value = piece(value)
        if value.shape != expected.shape or not torch.isfinite(expected).all():
            what = f"shape {tuple(value.shape)}" if value.shape != expected.shape else "NaN or infinite values"
            raise BadModel(f"{whole.name} gives an output with {what} for a real input",
                           "check the network and its data")
        apart = float((value - expected).abs().max())
        if apart > FOLD_TOLERANCE * max(float(expected.abs().max()), 1e-6):
            raise BadModel(f"the stages of {whole.name} do not compute what the whole network does: they differ "
                           f"by {apart:.3g}", "export both from the same module")


def _quantized(pieces: list[_Piece], contents: list[bytes], inputs: Samples, options: Options,
               dot_products: bool, say: Say) -> list[bytes]:
    if options.precision == "f32":
        return contents
    if options.precision in ("f16", "dynamic"):
        return [litert.quantized_weights(content, options.precision) for content in contents]
    ready = [rewrite_for_integers(content, dot_products) for content in contents]
    chain = [Part(c, p.repeat, p.times) for c, p in zip(ready, pieces, strict=True)]
    total = len(inputs.calibration)

    def each(number: int) -> None:
        if number % 32 == 0 or number == total:
            say(f"calibrating: {number} of {total} inputs")

    return integer.quantize(chain, _layout(inputs.calibration), each)


def _layout(values: Floats) -> Floats:
    """(n, C, H, W) as the artifact takes it, (n, H, W, C); all else unchanged."""
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1)) if values.ndim == litert.IMAGE_RANK else values
