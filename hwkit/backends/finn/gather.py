"""The job after FINN: its result, or why it refused, as hwkit.artifact.Built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hwkit.artifact import Built, Operator, StageFile
from hwkit.backends.finn.driven import Driven, Reference
from hwkit.backends.finn.figures import figures, resources
from hwkit.backends.finn.findings import findings
from hwkit.backends.finn.options import Options
from hwkit.describe import Figure, load_json, validated
from hwkit.errors import BadModel
from hwkit.jobs import Say

REFERENCE, DRIVEN = Path("reference.json"), Path("finn.json")
MODEL = "streamlined.onnx"


def job(spec: dict[str, Any], say: Say) -> dict[str, Any]:
    """Built, as JSON. Raises BadModel with FINN's reason when it refused the network."""
    say("reading FINN's reports")
    told = json.loads(DRIVEN.read_text())
    if "refused" in told:
        raise BadModel(f"{spec['model']['name']}: {told['refused']['message']}", told["refused"]["hint"])
    driven, reference = validated(told, Driven, DRIVEN), load_json(REFERENCE, Reference)
    options, clock = Options.model_validate(spec["options"]), Figure.model_validate(spec["clock"])
    return gathered(driven, reference, options, clock).model_dump(mode="json")


def gathered(driven: Driven, reference: Reference, options: Options, clock: Figure) -> Built:
    return Built(
        files=(MODEL, *driven.codegen, *driven.reports, "golden/inputs.npy", "golden/outputs.npy"),
        stages=(StageFile(name="network", file=MODEL),), operators=tuple(_operators(driven)),
        findings=tuple(findings(driven, reference, options)), figures=tuple(figures(driven, clock)),
        resources=tuple(resources(driven)), operator_unit="cycles", operator_kind="estimated",
        tool_versions=driven.versions,
        details={"performance": driven.performance.model_dump(mode="json", exclude_none=True),
                 "folding": {layer.name: layer.folding for layer in driven.layers}, "ties": reference.ties,
                 "checks": driven.checks.model_dump(mode="json")})


def _operators(driven: Driven) -> list[Operator]:
    """One a hardware layer; a FINNLoop is told by the layers inside it."""
    shown = [layer for layer in driven.layers if layer.kind != "FINNLoop"]
    return [Operator(index=i, name=layer.name, stage="network", repeat=layer.repeat, delegate=layer.kind,
                     output_shape=layer.output_shape, datatype=layer.datatype, macs=layer.macs or None,
                     weight_bytes=-(-layer.weight_bits // 8), cost=float(layer.cycles))
            for i, layer in enumerate(shown)]
