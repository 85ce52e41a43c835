"""The job that makes an artifact for TensorRT: ONNX files, and what the board has to do with them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from hwkit.artifact import Built, Finding, StageFile
from hwkit.backends._onnx import convert
from hwkit.data import shipped
from hwkit.files import write_json
from hwkit.gpu import rtx
from hwkit.gpu.plan import BoardPlan, board_plan, engines, variant_engines
from hwkit.gpu.tensorrt import reads
from hwkit.jobs import Say
from hwkit.target import Target

BOARD = Path("board")
PAYLOADS = ("tensorrt.py", "sense.py")
CHECKED = 4             # golden inputs whose outputs the board computes: each loads the engine anew
RTX_TIMEOUT_S = 300.0


class Spec(convert.Spec):
    """What the job is asked. tensorrt: the version of the target's board; rtx: check with TensorRT for RTX too."""

    tensorrt: str
    target: Target
    rtx: bool


def job(given: dict[str, Any], say: Say) -> dict[str, Any]:
    """Spec -> Built; files go under the current folder."""
    spec = Spec.model_validate(given)
    built = convert.built(spec, say)
    say("planning what the board does")
    plan = _plan(built)
    files = _written(plan)
    findings = [*built.findings, _parser(spec), *rtx.findings(_rtx(spec, built, say)), _on_board(plan, spec)]
    return built.model_copy(update={
        "files": (*built.files, *files), "board_plan": str(BOARD / "plan.json"), "findings": tuple(findings),
        "details": {**built.details, "tensorrt": spec.tensorrt},
    }).model_dump(mode="json")


def _plan(built: Built) -> BoardPlan:
    """Engines of the deployed form, then of those beside it."""
    here, precision = Path(), built.details["precision"]
    made = engines(here, built.stages, precision, _shapes(built.stages))
    for variant in built.variants:
        made += variant_engines(here, variant, _shapes(variant.stages))
    return board_plan(made)


def _shapes(stages: Sequence[StageFile]) -> list[tuple[int, ...]]:
    """Of each stage's input "x"."""
    found = []
    for stage in stages:
        graph = onnx.load(stage.file, load_external_data=False).graph
        first = next(i for i in graph.input if i.name == "x")
        found.append(tuple(d.dim_value for d in first.type.tensor_type.shape.dim))
    return found


def _written(plan: BoardPlan) -> list[str]:
    """The plan, the programs that execute it, and a job for them with paths relative to the artifact."""
    BOARD.mkdir()
    write_json(BOARD / "plan.json", plan.model_dump(mode="json"))
    write_json(BOARD / "job.json", {
        "plan": str(BOARD / "plan.json"), "artifact": ".", "inputs": "golden/inputs.npy",
        "passes": ["build", "outputs", "latency", "operators"], "samples": CHECKED, "warmup_ms": 500,
        "duration_s": 3, "iterations": 30, "idle_s": 5, "engines": str(BOARD / "engines"), "prebuilt": {},
        "trtexec": "", "out": str(BOARD / "out")})
    for name in PAYLOADS:
        shutil.copyfile(shipped("boards", "payloads", name), BOARD / name)
    return [str(BOARD / name) for name in ("plan.json", "job.json", *PAYLOADS)]


def _parser(spec: Spec) -> Finding:
    """The files were held against the table before anything long was done."""
    parser = reads(spec.tensorrt)
    note = f"; {parser.note}" if parser.note else ""
    return Finding(name="TensorRT's parser", ok=True,
                   text=f"TensorRT {spec.tensorrt} reads every operator and opset {spec.opset} (up to "
                        f"{parser.opset}), by its documentation{note}")


def _rtx(spec: Spec, built: Built, say: Say) -> dict[str, Any] | None:
    """What TensorRT for RTX makes of the deployed files here; None where it is not installed."""
    capability = spec.target.gpu.capability if spec.target.gpu else None
    if not spec.rtx or capability is None:
        return None
    return rtx.job({"files": [s.file for s in built.stages], "sm": capability, "timeout_s": RTX_TIMEOUT_S}, say)


def _on_board(plan: BoardPlan, spec: Spec) -> Finding:
    versions = ", ".join(family.name for family in plan.families)
    return Finding(name="plan for the board", ok=None,
                   text=f"{len(plan.engines)} engines in {len(plan.forms())} forms, with commands for TensorRT "
                        f"{versions}; there, in this folder: python3 {BOARD}/{PAYLOADS[0]} {BOARD}/job.json")
