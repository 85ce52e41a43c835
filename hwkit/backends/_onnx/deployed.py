"""From written forms to what an artifact holds: files, golden data, operators, findings, figures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwkit.artifact import Built, Finding, Operator, StageFile, Variant
from hwkit.backends._agreement import Agreement, Floats, check_labels, outputs, write_golden
from hwkit.backends._arena import Block, arena
from hwkit.backends._onnx.export import content
from hwkit.backends._onnx.forms import Piece
from hwkit.backends._onnx.operators import QUANTISERS, behind, constant_bytes, operators, stored_weights, values
from hwkit.backends._onnx.options import Options
from hwkit.backends._onnx.session import Chain, optimised_bytes
from hwkit.errors import BadModel
from hwkit.files import write
from hwkit.jobs import Say
from hwkit.measurement import Measurement
from hwkit.nn.fold import Folded
from hwkit.units import shown

FormName = Literal["", "unrolled", "stepped", "loop"]
# Of the largest output: what another order of float32 additions changes, and another place of a cast to float16.
SAME = {"f32": 1e-5, "int8": 1e-5, "f16": 5e-3}
CONVERTING = (*QUANTISERS, "Cast")
GROWN = 1.1         # an optimiser's weights over the file's from which on they count as stored several times


@dataclass(frozen=True)
class Form:
    """One way of writing the network: the graphs of its stages. `name`: see hwkit.artifact.Variant.form."""

    name: FormName
    precision: str
    pieces: list[Piece]

    def renamed(self, name: FormName) -> Form:
        return replace(self, name=name)

    @property
    def title(self) -> str:
        return f"{self.precision} {self.name}".strip()


@dataclass(frozen=True)
class Deployed:
    """What the conversion made.

    forms     the first is what is deployed
    pieces    the stages it was made of, in their own datatypes but float16
    inputs    (n, *shape) float32;  expected  (n, *output) float32 of the trained network
    weights   (number, elements) of its distinct weight tensors
    stepped   it has ODE blocks
    """

    forms: Sequence[Form]
    pieces: Sequence[Piece]
    inputs: Floats
    expected: Floats
    labels: NDArray[np.int64] | None
    source: str
    weights: tuple[int, int]
    folded: Sequence[Folded]
    stepped: bool
    reference: str = "the trained network"
    findings: Sequence[Finding] = field(default=())


def finish(deployed: Deployed, options: Options, folder: Path, say: Say) -> Built:
    """Check, write everything under `folder`, and say what there is.

    Raises BadModel when shared weights were duplicated, the forms differ, or float32 outputs are wrong.
    """
    first = deployed.forms[0]
    variants = [_written(form, f"beside-{k}/" if k else "", folder) for k, form in enumerate(deployed.forms)]
    sizes = [_bytes(variant, folder) for variant in variants]
    real = outputs(Chain(first.pieces), deployed.inputs, "the deployed network", say, options.batch)
    check_labels(deployed.expected, deployed.labels)
    agreement = Agreement(deployed.expected, real, deployed.labels, deployed.reference)
    findings = [_sharing(deployed), _folding(deployed), *_optimised(deployed), *deployed.findings,
                *_same(deployed, real[:options.golden], options.batch),
                agreement.finding(options.precision == "f32"),
                Finding(name="inputs", ok=None, text=deployed.source)]
    golden = write_golden(folder, {"inputs": deployed.inputs, "expected": deployed.expected, "outputs": real,
                                   "raw_outputs": real, "labels": deployed.labels}, options.golden)
    listed = operators(deployed.pieces, options.precision)
    files = [stage.file for variant in variants for stage in variant.stages] + golden
    return Built(
        files=tuple(files), stages=variants[0].stages, form=first.name, variants=tuple(variants[1:]),
        operators=tuple(listed), findings=tuple(f for f in findings if f),
        figures=(*_sizes(first, sizes[0]),
                 *agreement.figures({"host": "build machine", "inputs": deployed.source})),
        details=_details(deployed, listed, sizes))


def _bytes(variant: Variant, folder: Path) -> list[int]:
    """Sizes of its files."""
    return [(folder / stage.file).stat().st_size for stage in variant.stages]


def _written(form: Form, place: str, folder: Path) -> Variant:
    """Its files under `folder`/`place`."""
    stages = []
    for number, piece in enumerate(form.pieces):
        safe = re.sub(r"[^A-Za-z0-9_-]", "_", piece.name) or "stage"
        file = place + (f"stages/{number}-{safe}.onnx" if len(form.pieces) > 1 else "model.onnx")
        write(folder / file, content(piece.model, file))
        stages.append(StageFile(name=piece.name, file=file, repeat=piece.repeat, times=piece.times))
    return Variant(name=form.title, precision=form.precision, form=form.name, stages=tuple(stages))


def _sharing(deployed: Deployed) -> Finding:
    """Whether weights that a network shares are stored once. Raises BadModel when they are not."""
    count, elements = deployed.weights
    for form in deployed.forms:
        has, holds = stored_weights([p.model for p in form.pieces])
        if has > count and holds > 1.02 * elements:
            raise BadModel(f"{form.title} holds {has} weight tensors of {holds} elements for a network that has "
                           f"{count} of {elements}: shared weights were duplicated",
                           "share one module between the steps before torch.export")
    has, _ = stored_weights([p.model for p in deployed.forms[0].pieces])
    return Finding(name="weights stored once", ok=True,
                   text=f"{has} weight tensors in the files for {count} in the network")


def _folding(deployed: Deployed) -> Finding | None:
    norms, scales = sum(f.batch_norms for f in deployed.folded), sum(f.scales for f in deployed.folded)
    if not deployed.folded:
        return None
    return Finding(name="BatchNorm folded", ok=None,
                   text=f"{norms} BatchNorms and {scales} constant factors went into "
                        f"{sum(f.weights for f in deployed.folded)} weight tensors; outputs as before")


def _optimised(deployed: Deployed) -> list[Finding]:
    """Whether ONNX Runtime's graph optimiser stores shared weights once a use, in memory."""
    if not deployed.stepped:
        return []
    texts, grown = [], False
    for form in deployed.forms:
        stored = sum(constant_bytes(p.model) for p in form.pieces)
        becomes = sum(optimised_bytes(p.model) for p in form.pieces)
        grown |= becomes > GROWN * stored
        texts.append(f"{form.title} {shown(stored, 'bytes')} becomes {shown(becomes, 'bytes')}")
    return [Finding(name="weights after ONNX Runtime's optimiser", ok=None if grown else True,
                    text=f"in memory: {'; '.join(texts)}")]


def _same(deployed: Deployed, real: Floats, batch: int) -> list[Finding]:
    """Every form of the deployed precision computes the same. Raises BadModel when one does not."""
    first = deployed.forms[0]
    others = [f for f in deployed.forms[1:] if f.precision == first.precision]
    if not others:
        return []
    scale = float(np.max(np.abs(real))) or 1.0
    apart = 0.0
    for form in others:
        got = outputs(Chain(form.pieces), deployed.inputs[:len(real)], form.title, lambda text: None, batch)
        apart = max(apart, float(np.max(np.abs(got - real))) / scale)
        if not apart <= SAME[form.precision]:
            raise BadModel(f"{form.title} differs from {first.title} by {apart:.2g} of the largest output",
                           "this is a fault of the conversion: please report it with the model")
    return [Finding(name="forms compute the same", ok=True,
                    text=f"{', '.join(f.title for f in (first, *others))}: largest difference {apart:.1e} of the "
                         f"largest output, {len(real)} inputs")]


def _sizes(form: Form, file_bytes: Sequence[int]) -> list[Measurement]:
    flash = sum(file_bytes)
    weights = sum(constant_bytes(p.model) for p in form.pieces)
    number = f"{len(form.pieces)} file{'s' if len(form.pieces) != 1 else ''}"
    return [
        Measurement(quantity="flash", unit="bytes", kind="measured", samples=(float(flash),),
                    source=f"size of the {number} to be stored on the device"),
        Measurement(quantity="weights", unit="bytes", kind="measured", samples=(float(weights),),
                    source="constant tensors inside those files, counted"),
        arena([_blocks(p) for p in form.pieces])]


def _blocks(piece: Piece) -> list[Block]:
    """Lifetimes of all values that are not constants; quantisers' results are fused away."""
    known = values(piece.model)
    nodes = [n for n in piece.model.graph.node if n.op_type not in CONVERTING]
    first = {v.name: -1 for v in piece.model.graph.input}
    last = {v.name: len(nodes) for v in (*piece.model.graph.input, *piece.model.graph.output)}
    source = {name: first for name, first in behind(piece.model, CONVERTING).items() if name not in last}
    for position, node in enumerate(nodes):
        for name in node.input:
            one = source.get(name, name)
            last[one] = max(last.get(one, position), position)
        for name in node.output:
            first.setdefault(name, position)
            last.setdefault(name, position)
    return [Block.of(known[name].size_bytes, start, last.get(name, start)) for name, start in first.items()
            if name in known and not known[name].constant]


def _details(deployed: Deployed, listed: Sequence[Operator], file_bytes: Sequence[list[int]]) -> dict[str, Any]:
    def about(form: Form, sizes: list[int]) -> dict[str, Any]:
        return {"name": form.title, "file_bytes": sizes,
                "nodes": dict(Counter(n.op_type for p in form.pieces for n in p.model.graph.node))}

    opset = next(o.version for o in deployed.pieces[0].model.opset_import if o.domain == "")
    return {"opset": opset, "precision": deployed.forms[0].precision,
            "forms": [about(form, sizes) for form, sizes in zip(deployed.forms, file_bytes, strict=True)],
            "datatypes": dict(Counter(o.datatype for o in listed))}
