"""An ONNX artifact as a job for boards/payloads/onnxruntime_payload.py, and what that payload writes as a Run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hwkit.artifact import Artifact, Finding, StageFile
from hwkit.board import Board
from hwkit.data import shipped
from hwkit.describe import Frozen
from hwkit.errors import BadInput, BoardError, HwkitError, ToolMissing
from hwkit.files import write_json
from hwkit.gpu.ort_profile import CPU
from hwkit.measurement import sampled
from hwkit.runners import Request, Run, _findings, _forms, _roofline, _tflite_run, power
from hwkit.runners._ort_operators import Profiles, with_operators, without

PASSES = ("memory", "outputs", "latency", "power", "operators")
POWER = "power.jsonl"
LOADED = "weights as the runtime packs them, and its own structures; what a GPU holds is not in it"

Provider = tuple[str, dict[str, str | int | float | bool]]


class Timed(Frozen):
    """Nanoseconds of every `every`-th inference, and of those the copies to and from a GPU."""

    ns: tuple[int, ...] = ()
    every: int = 1
    copied_ns: tuple[int, ...] = ()


class VariantTimes(Timed):
    """A variant's times, or why it could not be run."""

    name: str
    error: str = ""


class Latency(Timed):
    batch: int
    variants: tuple[VariantTimes, ...] = ()


class Power(Frozen):
    """Why there are no readings, "" where there are."""

    problem: str = ""


class Passes(Frozen):
    """What each pass found; None for one that was not asked for or not reached."""

    memory: _tflite_run.Memory | None = None
    outputs: _tflite_run.Outputs | None = None
    latency: Latency | None = None
    power: Power | None = None
    operators: Profiles | None = None


class Refused(Frozen):
    """Why onnxruntime does not do what was asked for; `what` is a provider or a file."""

    kind: Literal["missing", "provider", "session"]
    what: str
    text: str


class Result(_tflite_run.Answer):
    """result.json of the payload."""

    passes: Passes
    refused: Refused | None = None


def payload() -> Path:
    """The program that runs on the board."""
    return shipped("boards", "payloads", "onnxruntime_payload.py")


def holds(artifact: Artifact) -> bool:
    """Whether an artifact is for this runtime."""
    stages = artifact.manifest.built.stages
    return bool(stages) and all(s.file.endswith(".onnx") for s in stages)


def write_job(artifact: Artifact, request: Request, providers: Sequence[Provider], folder: Path) -> Path:
    """job.json in `folder`, which also takes the results and is where the payload runs; paths are relative to it.

    Raises BadInput when the artifact holds no ONNX stages.
    """
    built = artifact.manifest.built
    if not holds(artifact):
        raise BadInput(f"{artifact.folder} holds no .onnx stages (backend {artifact.manifest.backend})",
                       "build it with a backend that makes them")
    if not artifact.path(_tflite_run.GOLDEN_INPUTS).is_file():
        raise BadInput(f"{artifact.folder} has no {_tflite_run.GOLDEN_INPUTS}", "build it again")
    (folder / "artifact").symlink_to(artifact.folder.resolve())
    here = Path("artifact")

    def listed(stages: Sequence[StageFile]) -> list[dict[str, Any]]:
        return [{"file": str(here / s.file), "repeat": s.repeat, "times": s.times} for s in stages]

    job: dict[str, Any] = {
        "passes": PASSES if request.operators else PASSES[:-1], "out": ".",
        "inputs": str(here / _tflite_run.GOLDEN_INPUTS), "stages": listed(built.stages),
        "variants": [{"name": v.name, "stages": listed(v.stages)} for v in built.variants],
        "providers": [list(p) for p in providers],
        **request.model_dump(include={"threads", "warmup", "iterations", "duration_s"}),
    }
    write_json(folder / _tflite_run.JOB, job)
    return folder / _tflite_run.JOB


def lacking(provider: str, has: str, board: Board) -> ToolMissing:
    """This onnxruntime was built without the provider."""
    return ToolMissing(
        f"board {board.name} asks for {provider}, which the onnxruntime of its interpreter does not have ({has})",
        "python -m venv ENV && ENV/bin/pip install numpy onnxruntime-gpu, then name it in the board's [options]: "
        'python = "ENV/bin/python"')


def failed(folder: Path, died: BoardError, board: Board) -> HwkitError:
    """The error behind a payload that ended early: what onnxruntime refused, else `died` itself."""
    try:
        refused = _tflite_run.read_answer(folder, Result).refused
    except BoardError:
        return died
    match refused:
        case None:
            return died
        case Refused(kind="missing"):
            return lacking(refused.what, refused.text, board)
        case Refused(kind="provider"):
            return BoardError(f"{refused.what} is in this onnxruntime but did not load: "
                              f"{_cause(died.log) or refused.text}",
                              "install the libraries that it needs, or take another of the board's providers")
        case _:
            return BoardError(f"onnxruntime does not load {refused.what} as asked: {refused.text}",
                              "build it for what this board has, or change the providers in the board's options")


def _cause(log: str) -> str:
    """The line of onnxruntime's log that says which library a provider did not find."""
    lines = [" ".join(line.split()) for line in log.splitlines()]
    told = [line for line in lines if "cannot open shared object" in line] or \
           [line for line in lines if "Failed to" in line]
    return told[0][-250:] if told else ""


def salvaged(folder: Path, died: BoardError, board: Board) -> tuple[Result, str]:
    """The result of a payload that died, and why the operators are missing. Raises when more than they is."""
    error = failed(folder, died, board)
    if error is not died or not (folder / "result.json").is_file():
        raise error
    result = _tflite_run.read_answer(folder, Result)
    _tflite_run.require_all_but_operators(folder, result.passes, died)
    return result, died.message


def told(artifact: Artifact, board: Board, request: Request, providers: Sequence[Provider], folder: Path,
         result: Result, lost: str) -> Run:
    """What the payload left in `folder` as a Run. `lost` says why there are no operators. Raises BoardError."""
    found = result.passes
    if found.latency is None or found.memory is None:
        raise BoardError("the board's result lacks a pass that was asked for")
    _, outputs = _tflite_run.read_outputs(folder)
    wanted = providers[0][0]
    conditions: dict[str, Any] = {
        "threads": request.threads, "board": board.name, "provider": wanted, "batch": found.latency.batch,
        "runtime": f"{result.runtime} {result.runtime_version}"}
    options = {k: v for k, v in providers[0][1].items()}
    if options:
        conditions["provider_options"] = options
    forms, inaccurate = _timed_forms(artifact, found.latency, folder)
    fastest = _forms.fastest(forms)
    timed: dict[str, Any] = {**conditions, "warmup": request.warmup, "kept": f"1 of {fastest.every}"}
    if fastest.form:
        timed["form"] = fastest.form
    latency = sampled("latency", "s", board.kind, fastest.seconds, conditions=timed, source=(
        "wall time of one inference, the copies to and from the GPU included" if fastest.copies_s else
        "wall time of one inference, from an input in place to an output in place"))
    measurements = [latency]
    if fastest.copies_s:
        measurements.append(sampled("transfer_latency", "s", board.kind, fastest.copies_s, conditions=timed,
                                    source="wall time of copying the input to the GPU and the output back"))
    measurements += _tflite_run.memory_figures(found.memory, board.kind, conditions, LOADED)
    findings: list[Finding | None] = [
        _findings.same_outputs(artifact, outputs) if wanted == CPU else None,
        _findings.as_accurate(artifact, outputs), _findings.same_answers(artifact, outputs),
        *_forms.findings(forms), *inaccurate, *_findings.steadiness(fastest.seconds)]
    drawn = power.accounts(folder / POWER, found.power.problem if found.power else "not reached", conditions)
    run = Run(board=board.name, measurements=(*measurements, *drawn.measurements), not_measured=drawn.not_measured,
              findings=tuple(f for f in (*findings, *drawn.findings) if f), tool_versions=result.versions)
    if not request.operators:
        return run
    if found.operators is None:
        return without(run, lost or "not reached")
    run = with_operators(run, artifact, found.operators, folder, wanted, forms[0].median_s)
    if wanted not in _roofline.PROVIDERS:
        return run
    return _roofline.with_positions(run, artifact, int(options.get("device_id", 0)))


def _timed_forms(artifact: Artifact, times: Latency, folder: Path) -> tuple[list[_forms.Form], list[Finding]]:
    """What is deployed and then its variants; and what is wrong with those that failed or compute otherwise."""
    manifest = artifact.manifest
    deployed = f"{manifest.precision} {manifest.built.form}".strip()

    def form(name: str, precision: str, shape: str, stages: Sequence[StageFile], one: Timed,
             good: bool) -> _forms.Form:
        return _forms.Form(name=name, precision=precision, form=shape, calls=_forms.calls(stages), every=one.every,
                           seconds=tuple(ns / 1e9 for ns in one.ns), accurate=good,
                           copies_s=tuple(ns / 1e9 for ns in one.copied_ns))

    forms = [form(deployed, manifest.precision, manifest.built.form, manifest.built.stages, times, True)]
    found = []
    for k, (variant, one) in enumerate(zip(manifest.built.variants, times.variants, strict=True)):
        if one.error or not one.ns:
            found.append(Finding(name=f"variant {variant.name}", ok=None, text=f"not timed: {one.error}"))
            continue
        judged = _variant_accuracy(artifact, folder / f"variant-{k}.npy")
        good = variant.precision != manifest.precision or judged is None or judged.ok is True
        if judged is not None and not good:
            found.append(judged.model_copy(update={"name": f"variant {variant.name} {judged.name}"}))
        forms.append(form(variant.name, variant.precision, variant.form, variant.stages, one, good))
    return forms, found


def _variant_accuracy(artifact: Artifact, path: Path) -> Finding | None:
    try:
        return _findings.as_accurate(artifact, np.load(path, allow_pickle=False))
    except (OSError, ValueError) as e:
        raise BoardError(f"the board's {path.name} cannot be read: {str(e).splitlines()[0]}") from None
