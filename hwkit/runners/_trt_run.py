"""A TensorRT artifact as a job for boards/payloads/tensorrt.py, and what that payload leaves as a Run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hwkit.artifact import Artifact, Finding, Operator
from hwkit.board import Board
from hwkit.data import shipped
from hwkit.describe import Frozen
from hwkit.errors import BadInput, BoardError, HwkitError, ToolMissing
from hwkit.files import write_json
from hwkit.gpu import attribution, trace, trtexec
from hwkit.gpu.attribution import Attribution
from hwkit.gpu.plan import BoardPlan, Engine, load
from hwkit.measurement import Measurement, sampled
from hwkit.runners import OperatorCost, Request, Run, _findings, _forms, _tflite_run, power
from hwkit.units import shown

PASSES = ("build", "outputs", "latency", "operators")
TRACE = "trace.json"
CHECKED, IDLE_S, WARMUP_MS = 4, 5, 500
ON_BOARD = "sudo apt install tensorrt, or name it in the board's [options]: trtexec = PATH"


class Device(Frozen):
    name: str
    sm: str
    multiprocessors: int | None = None


class Refused(Frozen):
    kind: Literal["missing", "version", "engine", "build", "run", "timeout", "input"]
    what: str
    text: str


class Built(Frozen):
    """An engine as it was obtained. why: it was built; seconds: for so long."""

    engine: str
    reused: bool
    bytes: int
    why: str = ""
    log: str = ""
    seconds: float = 0.0


class Outputs(Frozen):
    file: str
    n: int


class Timed(Frozen):
    """Names of files. window: [start, end, inferences] on the payload's clock."""

    times: str
    log: str
    power: str | None = None
    power_problem: str = ""
    window: tuple[float, float, int] | None = None


class Profiled(Frozen):
    profile: str
    layers: str
    log: str


class Passes(Frozen):
    """By engine; outputs by form. What was not reached is empty."""

    build: dict[str, Built] = {}
    outputs: dict[str, Outputs] = {}
    latency: dict[str, Timed] = {}
    operators: dict[str, Profiled] = {}


class Result(Frozen):
    """result.json of the payload."""

    runtime: str
    runtime_version: str = ""
    python: str
    machine: str
    nvpmodel: str | None = None
    trtexec: str = ""
    gpu: Device | None = None
    family: str = ""
    commands: tuple[tuple[str, ...], ...] = ()
    passes: Passes
    left_out: dict[str, Refused] = {}
    refused: Refused | None = None


def payload() -> Path:
    """The program that runs on the board; sense.py lies beside it."""
    return shipped("boards", "payloads", "tensorrt.py")


def holds(artifact: Artifact) -> bool:
    """Whether an artifact has a plan for the board's TensorRT."""
    return artifact.manifest.built.board_plan is not None


def plan(artifact: Artifact) -> BoardPlan:
    """The artifact's own. Raises BadInput when it has none."""
    file = artifact.manifest.built.board_plan
    if file is None:
        raise BadInput(f"{artifact.folder} has no plan for a board (backend {artifact.manifest.backend})",
                       "build it with --backend tensorrt")
    return load(artifact.path(file))


def write_job(artifact: Artifact, request: Request, folder: Path, engines: Path, program: str) -> Path:
    """job.json in `folder`, which also takes the results.

    engines   folder that keeps them from run to run;  program  trtexec, "" to look for it
    """
    return _written(artifact, artifact.folder.resolve(), request, folder, str(engines), program)


def write_portable_job(artifact: Artifact, request: Request, folder: Path, engines: str, program: str) -> Path:
    """The same for another machine: the artifact is the folder "artifact" beside the job; its files are named."""
    (folder / "artifact").symlink_to(artifact.folder.resolve())
    return _written(artifact, Path("artifact"), request, folder, engines, program,
                    files=[f"artifact/{file}" for file in artifact.manifest.built.files])


def _written(artifact: Artifact, here: Path, request: Request, folder: Path, engines: str, program: str,
             **more: Any) -> Path:
    plan(artifact)
    job: dict[str, Any] = {
        **more, "plan": str(here / str(artifact.manifest.built.board_plan)),
        "artifact": str(here), "engines": engines, "prebuilt": {}, "trtexec": program,
        "inputs": str(here / _tflite_run.GOLDEN_INPUTS), "samples": CHECKED, "out": ".",
        "passes": list(PASSES if request.operators else PASSES[:-1]), "idle_s": IDLE_S, "warmup_ms": WARMUP_MS,
        "duration_s": max(1, round(request.duration_s)), "iterations": request.iterations}
    write_json(folder / _tflite_run.JOB, job)
    return folder / _tflite_run.JOB


def read(folder: Path) -> Result:
    """What the payload left. Raises BoardError, and what it was refused as an error of its kind."""
    path = folder / "result.json"
    try:
        found = Result.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BoardError(f"{folder} holds no result.json: the payload wrote none") from None
    except (OSError, ValueError) as e:
        raise BoardError(f"{path} cannot be read: {str(e).splitlines()[0]}") from None
    if found.refused is not None:
        raise _error(found.refused)
    return found


def failed(folder: Path, died: BoardError) -> HwkitError:
    """The error behind a payload that ended early."""
    try:
        read(folder)
    except HwkitError as e:
        return e if "result.json" not in e.message else died
    return died


def _error(refused: Refused) -> HwkitError:
    text = f"{refused.what}: {refused.text}"
    match refused.kind:
        case "missing":
            return ToolMissing(text, ON_BOARD)
        case "version" | "engine":
            return BoardError(text, "leave the engine out: the board builds its own")
        case "input":
            return BadInput(text, "build the artifact again")
        case _:
            return BoardError(text, "the whole log lies beside result.json on the board")


class _Measured(Frozen):
    """One engine: its times, profile and layers as far as they were taken."""

    engine: Engine
    times: trtexec.Times
    profile: trtexec.Profile | None = None
    layers: tuple[trtexec.LayerInfo, ...] = ()

    @property
    def spent(self) -> Attribution | None:
        if self.profile is None:
            return None
        return attribution.of_tensorrt(self.profile, self.layers, self.times, self.engine.repeat)


def told(artifact: Artifact, board: Board, folder: Path, result: Result) -> Run:
    """What the payload left in `folder` as a Run. Raises BoardError."""
    planned, manifest = plan(artifact), artifact.manifest
    texts: dict[str, str] = {}
    chains = {form: [_measured(e, result, folder, texts) for e in engines]
              for form, engines in planned.forms().items() if form not in result.left_out}
    forms, shaky = _forms_of(artifact, chains, result, folder)
    best = _forms.fastest(forms)
    name = "deployed" if best is forms[0] else best.name
    gpu = result.gpu.name if result.gpu else ""
    conditions: dict[str, Any] = {"board": board.name, "gpu": gpu, "batch": planned.engines[0].batch,
                                  "runtime": f"TensorRT {result.runtime_version}", "form": best.form}
    measurements = _figures(chains[name], best, board, conditions, result, folder)
    drawn = _power(chains[name], result, folder, conditions)
    outputs = _outputs(folder, result.passes.outputs.get("deployed"))
    findings = [*([] if outputs is None else [_findings.as_accurate(artifact, outputs)]), *shaky,
                *_forms.findings(forms), *_findings.steadiness(best.seconds), *_engines(result),
                *drawn.findings, *_spent(chains, manifest.precision, forms),
                *(Finding(name=f"variant {form}", ok=None, text=f"left out: {why.what}: {why.text}")
                  for form, why in result.left_out.items())]
    costs, rows = _rows(artifact, chains[name])
    if rows:
        texts[TRACE] = trace.text(trace.of_layers([(r.name, c.value * r.repeat) for r, c in
                                                   zip(rows, costs, strict=True)], manifest.name))
    return Run(board=board.name, measurements=(*measurements, *drawn.measurements),
               not_measured=drawn.not_measured if rows else {**drawn.not_measured, "operators": "not profiled"},
               operator_costs=costs, operator_unit="s" if rows else "", operator_kind=board.kind if rows else "",
               operators=rows, findings=tuple(f for f in findings if f), files=texts,
               tool_versions={"TensorRT (board)": result.runtime_version,
                              "python (board)": f"{result.python} {result.machine}"})


def _text(folder: Path, name: str, texts: dict[str, str]) -> str:
    """A file that the payload names, kept for the record."""
    try:
        texts[name] = (folder / Path(name).name).read_text(errors="replace")
    except OSError as e:
        raise BoardError(f"the board's {name} cannot be read: {e.strerror}") from None
    return texts[name]


def _measured(engine: Engine, result: Result, folder: Path, texts: dict[str, str]) -> _Measured:
    timed = result.passes.latency.get(engine.name)
    if timed is None:
        raise BoardError(f"the board's result has no times of {engine.name}")
    times = trtexec.times(_text(folder, timed.times, texts), timed.times, WARMUP_MS)
    profiled = result.passes.operators.get(engine.name)
    if profiled is None:
        return _Measured(engine=engine, times=times)
    return _Measured(engine=engine, times=times,
                     profile=trtexec.profile(_text(folder, profiled.profile, texts), profiled.profile),
                     layers=trtexec.layers(_text(folder, profiled.layers, texts), profiled.layers))


def _latencies(chain: Sequence[_Measured]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(latency, copies) of each inference: kernels, as often as each engine runs, and the copies at both ends."""
    n = min(len(one.times.latency_s) for one in chain)
    copies = tuple(chain[0].times.h2d_s[k] + chain[-1].times.d2h_s[k] for k in range(n))
    return tuple(copies[k] + sum(one.engine.repeat * one.times.compute_s[k] for one in chain)
                 for k in range(n)), copies


def _forms_of(artifact: Artifact, chains: dict[str, list[_Measured]], result: Result,
              folder: Path) -> tuple[list[_forms.Form], list[Finding]]:
    """What is deployed, then the variants that ran; and those that are not as accurate as they should be."""
    manifest = artifact.manifest
    about = {"deployed": (f"{manifest.precision} {manifest.built.form}".strip(), manifest.precision,
                          manifest.built.form)}
    about.update({v.name: (v.name, v.precision, v.form) for v in manifest.built.variants})
    forms, findings = [], []
    for form, chain in chains.items():
        name, precision, shape = about[form]
        seconds, copies = _latencies(chain)
        outputs = _outputs(folder, result.passes.outputs.get(form))
        judged = None if outputs is None else _findings.as_accurate(artifact, outputs)
        good = form == "deployed" or precision != manifest.precision or judged is None or judged.ok is True
        if judged is not None and not good:
            findings.append(judged.model_copy(update={"name": f"variant {name} {judged.name}"}))
        forms.append(_forms.Form(name=name, precision=precision, form=shape, seconds=seconds, copies_s=copies,
                                 calls=sum(one.engine.repeat for one in chain), accurate=good))
    return forms, findings


def _figures(chain: Sequence[_Measured], best: _forms.Form, board: Board, conditions: dict[str, Any],
             result: Result, folder: Path) -> list[Measurement]:
    """Latency, its kernels, its copies, and the memory of the engines."""
    alone = "" if len(chain) == 1 else "; engines timed one by one, each counted as often as it runs"
    kernels = [s - c for s, c in zip(best.seconds, best.copies_s, strict=True)]
    found = [
        sampled("latency", "s", board.kind, best.seconds, conditions=conditions,
                source=f"trtexec: input copied to the GPU, kernels, output copied back{alone}"),
        sampled("gpu_latency", "s", board.kind, kernels, conditions=conditions,
                source=f"trtexec: the kernels, replayed as a CUDA graph{alone}"),
        sampled("transfer_latency", "s", board.kind, best.copies_s, conditions=conditions,
                source="trtexec: the copies at both ends")]
    logs = [trtexec.log(_text(folder, result.passes.latency[one.engine.name].log, {})) for one in chain]
    if all(log.managed_bytes is not None for log in logs):
        found.append(Measurement(quantity="device_bytes", unit="bytes", kind=board.kind, conditions=conditions,
                                 samples=(float(sum(log.managed_bytes or 0 for log in logs)),),
                                 source="what TensorRT says it manages once the engine is loaded"))
    return found


def _power(chain: Sequence[_Measured], result: Result, folder: Path, conditions: dict[str, Any]) -> power.Accounts:
    if len(chain) > 1:
        return power.Accounts(not_measured={"energy": "its engines are timed one by one, not as one inference"})
    timed = result.passes.latency[chain[0].engine.name]
    return power.accounts(folder / (timed.power or "none"), timed.power_problem, conditions)


def _outputs(folder: Path, told: Outputs | None) -> np.ndarray[Any, Any] | None:
    if told is None:
        return None
    try:
        found: np.ndarray[Any, Any] = np.load(folder / Path(told.file).name, allow_pickle=False)
    except (OSError, ValueError) as e:
        raise BoardError(f"the board's {told.file} cannot be read: {str(e).splitlines()[0]}") from None
    return found


def _engines(result: Result) -> list[Finding]:
    made = [b for b in result.passes.build.values() if not b.reused]
    gpu = f"{result.gpu.name}, SM {result.gpu.sm}" if result.gpu else "an unknown GPU"
    text = f"{len(result.passes.build)} for {gpu} and TensorRT {result.runtime_version}: {len(made)} built " \
           f"there in {sum(b.seconds for b in made):.0f} s"
    return [Finding(name="engines", ok=True, text=text)]


def _spent(chains: dict[str, list[_Measured]], precision: str, forms: Sequence[_forms.Form]) -> list[Finding]:
    """What the deployed form's time goes to; and why int8 lost to half precision, if it did."""
    def whole(chain: Sequence[_Measured]) -> Attribution | None:
        parts = [one.spent for one in chain]
        return attribution.chained([p for p in parts if p]) if all(parts) else None

    spent = whole(chains["deployed"])
    if spent is None:
        return []
    heavy = ", ".join(f"{layer.name} {shown(layer.seconds, 's')}" for layer in spent.heaviest())
    found = [Finding(name="where the time goes", ok=None, text=f"{spent.text()}; heaviest: {heavy}")]
    half = next((f for f in forms if f.precision == "f16" and f.name in chains), None)
    if precision == "int8" and half is not None:
        other = whole(chains[half.name])
        if other is not None:
            medians = (statistics.median(f.seconds) for f in (forms[0], half))
            found.append(Finding(name="did int8 pay", ok=None,
                                 text=attribution.why_slower(spent, other, *medians)))
    return found


def _rows(artifact: Artifact,
          chain: Sequence[_Measured]) -> tuple[tuple[OperatorCost, ...], tuple[Operator, ...]]:
    """A row a layer of the engines, behind the artifact's own operators: TensorRT fuses several into one."""
    first = len(artifact.manifest.built.operators)
    costs: list[OperatorCost] = []
    rows: list[Operator] = []
    for one in chain:
        infos = {info.name: info for info in one.layers}
        for layer in one.profile.layers if one.profile else ():
            info = infos.get(layer.name)
            rows.append(Operator(index=first + len(rows), name=layer.name, stage=one.engine.name,
                                 repeat=one.engine.repeat, delegate="TensorRT",
                                 datatype=info.precision if info else ""))
            costs.append(OperatorCost(index=rows[-1].index, value=layer.seconds))
    return tuple(costs), tuple(rows)
