"""From converted stages to what an artifact holds: files, golden data, operators, findings, figures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwkit.artifact import Built, Finding, Operator, StageFile
from hwkit.backends._agreement import Agreement, Floats, check_labels, outputs, write_golden
from hwkit.backends._arena import arena
from hwkit.backends.tflite import flat, sharing, slices
from hwkit.backends.tflite.chain import Chain, Part, to_float
from hwkit.backends.tflite.lifetimes import blocks
from hwkit.backends.tflite.operators import is_constant_cast, operators, partitions
from hwkit.backends.tflite.options import Options
from hwkit.files import write
from hwkit.jobs import Say
from hwkit.measurement import Measurement


@dataclass(frozen=True)
class Deployed:
    """Converted stages of one network, and the data to judge them with.

    inputs      (n, *shape) float32 as the artifact takes them
    expected    (n, *output) float32 that `reference` gives for them
    exact       the outputs must agree to float32 rounding
    weights     (number, elements) of distinct weight tensors in the trained network; None where unknown
    folded      what folding did, in words
    """

    names: Sequence[str]
    parts: Sequence[Part]
    inputs: Floats
    expected: Floats
    labels: NDArray[np.int64] | None
    reference: str
    source: str
    exact: bool = False
    weights: tuple[int, int] | None = None
    folded: str = ""


def finish(deployed: Deployed, options: Options, folder: Path, say: Say) -> Built:
    """Check, write everything under `folder`, and say what there is.

    Raises BadModel when shared weights were duplicated or float32 outputs are wrong.
    """
    models = [flat.read(part.content) for part in deployed.parts]
    findings = [] if deployed.weights is None else [sharing.check(models, *deployed.weights)]
    if deployed.folded:
        findings.append(Finding(name="BatchNorm folded", ok=None, text=deployed.folded))
    stages = _write_stages(deployed, folder)
    chain = Chain(deployed.parts)
    listed = _operators(deployed, models, chain, folder, findings)
    findings += _graph_findings(models, chain, listed)
    raw = outputs(lambda one: chain.raw(chain.quantized(one)), deployed.inputs, "the deployed network", say)
    real = to_float(raw, chain.last)
    check_labels(deployed.expected, deployed.labels)
    agreement = Agreement(deployed.expected, real, deployed.labels, deployed.reference)
    findings.append(agreement.finding(deployed.exact))
    findings.append(Finding(name="inputs", ok=None, text=deployed.source))
    golden = _write_golden(deployed, chain, raw, real, options.golden, folder)
    files = [stage.file for stage in stages] + golden + sorted({o.file for o in listed if o.file})
    figures = _sizes(deployed, models) + agreement.figures({"host": "build machine", "inputs": deployed.source})
    return Built(files=tuple(files), stages=tuple(stages), operators=tuple(listed), findings=tuple(findings),
                 figures=tuple(figures), details=_details(deployed, models, chain))


def _write_stages(deployed: Deployed, folder: Path) -> list[StageFile]:
    found = []
    for number, (name, part) in enumerate(zip(deployed.names, deployed.parts, strict=True)):
        safe = re.sub(r"[^A-Za-z0-9_-]", "_", name) or "stage"
        file = f"stages/{number}-{safe}.tflite" if len(deployed.parts) > 1 else "model.tflite"
        write(folder / file, part.content)
        found.append(StageFile(name=name, file=file, repeat=part.repeat, times=part.times))
    return found


def _operators(deployed: Deployed, models: Sequence[Any], chain: Chain, folder: Path, findings: list[Finding],
               ) -> list[Operator]:
    """All operators with their one-operator files; adds the finding about the delegate."""
    listed: list[Operator] = []
    splits = []
    for name, part, model, runtime in zip(deployed.names, deployed.parts, models, chain.runtimes, strict=True):
        inside = partitions(model, runtime)
        splits.append(len(inside))
        listed += slices.cut(model, operators(model, inside, name, part.repeat, len(listed)), folder)
    casts = [is_constant_cast(model, o) for model in models for o in model.subgraphs[0].operators]
    off = Counter(o.name for o, cast in zip(listed, casts, strict=True) if not o.delegate and not cast)
    where = f"{sum(splits)} XNNPACK partition{'s' if sum(splits) != 1 else ''} in {len(models)} file" \
            f"{'s' if len(models) != 1 else ''}, as the build machine's runtime splits them"
    if off:
        where += "; on the runtime's own kernels: " + ", ".join(f"{n} {name}" for name, n in off.most_common())
    findings.append(Finding(name="delegate", ok=None if off or sum(splits) > len(models) else True, text=where))
    return listed


def _graph_findings(models: Sequence[Any], chain: Chain, listed: Sequence[Operator]) -> list[Finding]:
    transposes = sum(o.name == "TRANSPOSE" for o in listed)
    casts = Counter(
        flat.operator_name(m, o) for m in models for o in m.subgraphs[0].operators
        if flat.operator_name(m, o) in ("QUANTIZE", "DEQUANTIZE") and not is_constant_cast(m, o))
    kinds = f"takes {np.dtype(chain.first['dtype']).name}, gives {np.dtype(chain.last['dtype']).name}"
    conversions = ", ".join(f"{n} {name}" for name, n in sorted(casts.items())) or "no conversion"
    return [
        Finding(name="layout", ok=True if transposes == 0 else None,
                text=f"{transposes} TRANSPOSE operator{'s' if transposes != 1 else ''}"),
        Finding(name="datatypes", ok=True if not casts else None, text=f"{kinds}; {conversions} inside"),
    ]


def _write_golden(deployed: Deployed, chain: Chain, raw: NDArray[Any], real: Floats, count: int, folder: Path,
                  ) -> list[str]:
    given = np.concatenate([chain.quantized(one[None]) for one in deployed.inputs[:count]])
    return write_golden(folder, {"inputs": deployed.inputs.astype(np.float32), "raw_inputs": given,
                                 "expected": deployed.expected, "outputs": real, "raw_outputs": raw,
                                 "labels": deployed.labels}, count)


def _sizes(deployed: Deployed, models: Sequence[Any]) -> list[Measurement]:
    flash = sum(len(part.content) for part in deployed.parts)
    weights = sum(flat.weight_bytes(model) for model in models)
    return [
        Measurement(quantity="flash", unit="bytes", kind="measured", samples=(float(flash),),
                    source=f"size of the {len(deployed.parts)} files to be stored on the device"),
        Measurement(quantity="weights", unit="bytes", kind="measured", samples=(float(weights),),
                    source="constant tensors inside those files, counted"),
        arena([blocks(model) for model in models]),
    ]


def _details(deployed: Deployed, models: Sequence[Any], chain: Chain) -> dict[str, Any]:
    def said(detail: dict[str, Any]) -> dict[str, Any]:
        scale, zero_point = detail["quantization"]
        return {"shape": [int(n) for n in detail["shape"]], "datatype": np.dtype(detail["dtype"]).name,
                "scale": float(scale), "zero_point": int(zero_point)}

    stages = zip(deployed.names, deployed.parts, models, chain.runtimes, strict=True)
    return {"stages": [
        {"name": name, "file_bytes": len(part.content), "weight_bytes": flat.weight_bytes(model),
         "operators": len(model.subgraphs[0].operators),
         "inputs": [said(d) for d in runtime.get_input_details()],
         "output": said(runtime.get_output_details()[0])}
        for name, part, model, runtime in stages]}
