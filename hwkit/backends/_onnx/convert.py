"""The job that writes ONNX files: a Model in; files, golden data and everything known about them out.

Runs in a child process, in the build folder: it imports torch and opens models that hwkit did not make.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hwkit.artifact import Built, Finding
from hwkit.backends._agreement import Floats, groups, outputs
from hwkit.backends._onnx import export, fallback, qdq
from hwkit.backends._onnx.bounds import Bounds, bounded
from hwkit.backends._onnx.deployed import Deployed, Form, finish
from hwkit.backends._onnx.forecast import takes_given
from hwkit.backends._onnx.forms import Piece, looped, unrolled
from hwkit.backends._onnx.half import halved
from hwkit.backends._onnx.operators import stored_weights
from hwkit.backends._onnx.options import Options, Precision
from hwkit.backends._onnx.session import Chain, whole
from hwkit.describe import Frozen
from hwkit.errors import BadInput, BadModel
from hwkit.gpu.tensorrt import reads
from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.nn import program
from hwkit.nn.batch import batched, for_many
from hwkit.nn.fold import Folded
from hwkit.nn.program import Program
from hwkit.samples import GIVE_DATA, samples
from hwkit.target import Target

PACKAGES = ("torch", "onnx", "onnxruntime", "numpy")
WHOLE = "net"       # the stage of a network without ODE blocks
# The next precision that a user may well choose instead; a CPU only stores float16.
WIDER: dict[str, dict[Precision, Precision]] = {"gpu": {"int8": "f16", "f16": "f32"},
                                                "cpu": {"int8": "f32", "f16": "f32"}}


class Spec(Frozen):
    """What the job is asked.

    placement   of quantisers, see hwkit.backends._onnx.qdq
    tensorrt    version whose parser must read the files; None where none has to
    target      for whose GPU the time is bounded; None where there is none to know
    """

    model: Model
    options: Options
    opset: int
    placement: qdq.Placement
    tensorrt: str | None = None
    target: Target | None = None


def job(given: dict[str, Any], say: Say) -> dict[str, Any]:
    """Spec -> Built; files go under the current folder."""
    return built(Spec.model_validate(given), say).model_dump(mode="json")


def built(spec: Spec, say: Say) -> Built:
    """Write the files under the current folder and describe them."""
    torch.set_num_threads(1)
    deployed = _written(spec, say)
    done = finish(deployed, spec.options, Path(), say)
    bounds = bounded(deployed.pieces, spec.options.precision, spec.target) if spec.target else Bounds()
    return done.model_copy(update={
        "figures": (*bounds.figures, *done.figures), "findings": (*done.findings, *bounds.findings),
        "tool_versions": {name: importlib.metadata.version(name) for name in PACKAGES}})


@dataclass(frozen=True)
class _Exported:
    """The float stages, and what folding did."""

    pieces: list[Piece]
    folds: list[Folded]
    weights: tuple[int, int]


def _written(spec: Spec, say: Say) -> Deployed:
    model, options = spec.model, spec.options
    trained = _trained(model)
    inputs = samples(model.input_shape, options.calibration, model.dataset, model.data).first(options.images)
    if options.precision == "int8" and inputs.random:
        raise BadInput(f"int8 needs real inputs to choose its ranges, and {model.name} names no data set",
                       f"{GIVE_DATA}, or choose precision=f16")
    say("writing ONNX")
    made = _taken(model) if takes_given(model, options) else _exported(spec)
    _require_read(made.pieces, spec, model.name)
    findings: list[Finding] = []
    pieces = made.pieces
    already = qdq.quantised_nodes(pieces[0].model)
    if already and options.precision != "int8":
        raise BadInput(f"{model.name} is quantised already (node {already[0]}) and deployed as it is",
                       "choose --precision int8, on a target that has it")
    if options.precision == "int8" and not already:
        pieces, found = _quantized(spec, made.pieces, inputs.calibration, trained, say)
        findings.append(found)
    kept = options if not already else options.model_copy(update={"beside": False})
    forms = _forms(pieces, made.pieces, kept, spec.placement)
    expected = trained.outputs(inputs.images, trained.name, say)
    return Deployed(forms=forms, pieces=pieces, inputs=inputs.images, expected=expected, labels=inputs.labels,
                    source=inputs.source, weights=made.weights, folded=made.folds, findings=findings,
                    stepped=bool(model.stages), reference=trained.name)


def _require_read(pieces: Sequence[Piece], spec: Spec, name: str) -> None:
    """Raise BadModel for what the board's parser would not read, before anything long is done."""
    if spec.tensorrt is None:
        return
    parser = reads(spec.tensorrt)
    for piece in pieces:
        for text in parser.refusals(piece.model):
            raise BadModel(f"{name}: {text}", "change the network, or choose --backend onnxruntime")


@dataclass(frozen=True)
class _Trained:
    """The network that every other form is compared with, and what it is called."""

    network: Chain | Program
    name: str

    def outputs(self, inputs: Floats, what: str, say: Say) -> Floats:
        if isinstance(self.network, Chain):
            return outputs(self.network, inputs, what, say)
        network, batch = for_many(self.network, len(inputs))
        return outputs(network, inputs, what, say, batch)


def _trained(model: Model) -> _Trained:
    if model.format == "onnx":
        return _Trained(whole(export.given(model.path, WHOLE), optimise=False), "the given network")
    found = program.load(model.path, model.name)
    program.check_input(found, model.input_shape)
    return _Trained(found, "the trained network")


def _taken(model: Model) -> _Exported:
    """The user's own graph."""
    assert model.onnx is not None
    graph = export.given(model.onnx, WHOLE)
    return _Exported([Piece(WHOLE, graph)], [], stored_weights([graph]))


def _exported(spec: Spec) -> _Exported:
    """The float32 stages, nodes numbered through."""
    model = spec.model
    given = [(s.name, s.path, s.repeat, s.times) for s in model.stages] or [(WHOLE, model.path, 1, None)]
    pieces: list[Piece] = []
    folds, programs = [], []
    for name, path, repeat, times in given:
        folded, done = program.load(path, name, 1 if times is None else 2).folded()
        folded = batched(folded, spec.options.batch)
        graph = export.exported(folded, spec.opset, sum(len(p.model.graph.node) for p in pieces))
        pieces.append(Piece(name, graph, repeat, times))
        folds.append(done)
        programs.append(folded)
    return _Exported(pieces, folds, program.weights(programs))


def _quantized(spec: Spec, floats: Sequence[Piece], calibration: Floats, trained: _Trained, say: Say,
               ) -> tuple[list[Piece], Finding]:
    """int8 stages, calibrated on what each run of each stage is given, with the layers that must stay in float."""
    chain = Chain(floats)
    seen: list[list[dict[str, Floats]]] = [[] for _ in floats]
    for number, value in enumerate(groups(calibration, spec.options.batch), 1):
        for stage, given in zip(chain.stages, seen, strict=True):
            value = stage(value, given)
        if number % 32 == 0:
            say(f"calibrating: {number * spec.options.batch} of {len(calibration)} inputs")
    made = [p.with_model(qdq.quantized(p.model, p.name, given, spec.placement))
            for p, given in zip(floats, seen, strict=True)]
    options, model = spec.options, spec.model
    kept = samples(model.input_shape, options.selection, model.dataset, model.data)
    expected = trained.outputs(kept.calibration, "the network in float", say)
    judge = fallback.Judge(kept.calibration, expected, kept.classes, options.largest_drop, options.batch)
    chosen = fallback.chosen(made, floats, judge, say)
    return chosen.pieces, chosen.finding


def _forms(pieces: Sequence[Piece], floats: Sequence[Piece], options: Options,
           placement: qdq.Placement) -> list[Form]:
    """What is deployed, first; then what is timed beside it."""
    repeats = any(p.repeat > 1 for p in pieces)
    if options.ode in ("stepped", "loop") and not repeats:
        raise BadInput("the network has no ODE steps to run one by one", "leave out ode=")
    half = options.precision == "f16"
    names = [options.ode] if options.ode != "auto" else ["unrolled", "stepped"] if repeats else ["unrolled"]
    found = [_form(name, options.precision, pieces, half) for name in names]
    wider = WIDER["cpu" if placement == "cpu" else "gpu"].get(options.precision)
    if options.beside and wider is not None:
        found.append(_form(names[0], wider, floats, wider == "f16"))
    return found if repeats else [f.renamed("") for f in found]


def _form(name: str, precision: str, pieces: Sequence[Piece], half: bool) -> Form:
    if name == "stepped":
        stages = [p.with_model(halved(p.model)) if half else p for p in pieces]
        return Form("stepped", precision, stages)
    model = looped(pieces) if name == "loop" else unrolled(pieces)
    return Form("loop" if name == "loop" else "unrolled", precision,
                [Piece("model", halved(model) if half else model)])
