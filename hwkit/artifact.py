"""Artifact: a folder with a manifest; and the plan that makes one.

A folder holds manifest.json, the deployable files, and golden/ (inputs and the outputs the trained
network gives for them). The digest is over the files and the manifest without its digest: same
inputs and versions, same digest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from hwkit.describe import Frozen, Kind, load_json
from hwkit.errors import BadInput, NoSpace
from hwkit.files import new_folder, sha256, write_json
from hwkit.measurement import Measurement, Resource
from hwkit.memory import MemoryRow
from hwkit.model import Model
from hwkit.target import Target

MANIFEST = "manifest.json"


class Problem(Frozen):
    """Something a backend's check found. `fatal` ones stop the build.

    decide   it is for the user to choose what to do: no other backend is taken in this one's place
    """

    message: str
    fatal: bool = True
    decide: bool = False


class StageFile(Frozen):
    """One executable piece of the artifact, run `repeat` times; see hwkit.model.Stage."""

    name: str
    file: str
    repeat: int = 1
    times: tuple[float, ...] | None = None


class Variant(Frozen):
    """The same network in another form or precision, kept in the artifact to be timed beside what is deployed.

    name        what a report calls it, e.g. "f16 unrolled"
    precision   as the backend's option names it
    form        "unrolled": one file with all steps of every ODE block; "stepped": a step is a stage that repeats;
                "loop": one file in which each ODE block is a loop; "" for a network without ODE blocks
    """

    name: str
    precision: str
    form: Literal["", "unrolled", "stepped", "loop"]
    stages: tuple[StageFile, ...]


class Operator(Frozen):
    """One operator of the compiled network, or one pass of an accelerator over it, in order of execution.

    stage    the stage file it belongs to; it runs `repeat` times an inference
    delegate which delegate runs it ("xnnpack"), or "" for the runtime's own reference kernel
    macs     multiply-accumulates of one execution; None where the notion does not apply
    file     a model of this operator alone, for per-operator profiling; None where it cannot be cut out
    cost     of one execution, in Built.operator_unit, where the build itself tells; None where only a run does
    """

    index: int
    name: str
    stage: str
    repeat: int = 1
    output_shape: tuple[int, ...] = ()
    datatype: str = ""
    delegate: str = ""
    macs: int | None = None
    weight_bytes: int = 0
    file: str | None = None
    cost: float | None = None


class ResourceRow(Frozen):
    """What one part of an FPGA design takes of one resource. Of the whole design, Built.figures tells.

    part   a module, or a layer of the network
    used   count; None where the tool has no model of the part: shown as "not modelled", never as 0
    """

    part: str
    resource: Resource
    used: float | None
    kind: Kind
    source: str = ""


class Finding(Frozen):
    """A check made on the compiled artifact. `ok` None: worth saying, neither good nor bad."""

    name: str
    ok: bool | None
    text: str


class Built(Frozen):
    """What a backend collected from its build folder.

    files         deployable files, relative to the build folder
    figures       what is known at build time: file bytes, weights, arena, accuracy; of an FPGA design also its
                  cycles, times, LUT, FF, DSP, BRAM_18K and URAM
    resources     those five part by part, where the tools tell; the report sets the whole against the target
    memory        where every buffer of an FPGA design lies (hwkit.memory.Placement.rows)
    operator_unit, operator_kind   of the operators' `cost`: ("cycles", "simulated")
    form          of `stages`, as Variant.form has it
    variants      other forms of the network, timed beside it on a board
    board_plan    file that says what the board itself builds (hwkit.gpu.plan); None where it builds nothing
    """

    files: tuple[str, ...]
    stages: tuple[StageFile, ...]
    operators: tuple[Operator, ...] = ()
    findings: tuple[Finding, ...] = ()
    figures: tuple[Measurement, ...] = ()
    resources: tuple[ResourceRow, ...] = ()
    memory: tuple[MemoryRow, ...] = ()
    operator_unit: str = ""
    operator_kind: str = ""
    form: Literal["", "unrolled", "stepped", "loop"] = ""
    variants: tuple[Variant, ...] = ()
    board_plan: str | None = None
    tool_versions: dict[str, str] = {}
    details: dict[str, Any] = {}


class Command(Frozen):
    """One step of a plan: an argument list, run in the build folder."""

    what: str
    argv: tuple[str, ...]
    timeout_s: float
    memory_bytes: int | None = None


class BuildPlan(Frozen):
    """Files to write, commands to run, tools they need. Plain data: hashed, kept, executed anywhere."""

    files: dict[str, str] = {}
    commands: tuple[Command, ...]
    tools: tuple[str, ...] = ()

    def execute(self, folder: Path, progress: Callable[[str], None] | None = None) -> None:
        """Run here. `progress` gets each line a command prints, prefixed by nothing.

        Raises ToolMissing, JobFailed, or what a job says went wrong with its input (BadModel).
        """
        from hwkit.jobs import execute

        for name, text in self.files.items():
            (folder / name).write_text(text)
        for command in self.commands:
            execute(command, folder, progress)


class Estimate(Frozen):
    """What a backend can say before building."""

    figures: tuple[Measurement, ...] = ()
    refused: tuple[str, ...] = ()      # quantity and why there is no estimate


class Manifest(Frozen):
    schema_version: Literal[1] = 1
    name: str
    target: str
    backend: str
    precision: str
    dataset: str | None
    input_shape: tuple[int, ...]
    parameters: int | None = None
    history: tuple[str, ...]
    built: Built
    sha256: dict[str, str]
    digest: str = ""

    def computed_digest(self) -> str:
        """Digest of everything that decides what runs: not of timings or of where it was built."""
        body = self.model_dump(mode="json", exclude={"digest"})
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class Artifact(Frozen):
    """An artifact on disk."""

    folder: Path
    manifest: Manifest

    def path(self, file: str) -> Path:
        return self.folder / file


class Backend(Protocol):
    """hwkit/backends/<name>.py. Starts no process: a plan does."""

    def options(self, given: Mapping[str, str], target: Target) -> Any:
        """Frozen options from the command line's key=value pairs; a target may decide a default.

        Raises BadInput.
        """
        ...
    def check(self, model: Model, target: Target, options: Any) -> list[Problem]: ...
    def estimate(self, model: Model, target: Target, options: Any) -> Estimate: ...
    def plan(self, model: Model, target: Target, options: Any) -> BuildPlan: ...
    def collect(self, build_dir: Path) -> Built: ...


def read_built(path: Path, what: str) -> Built:
    """What a backend's job wrote into `path`. Raises BadInput when it has not run there."""
    if not path.is_file():
        raise BadInput(f"{path.parent} holds no {what}", "hwkit build --target TARGET MODEL")
    return Built.model_validate_json(path.read_bytes())


def require_replaceable(folder: Path) -> None:
    """Raise BadInput unless an artifact may be written at `folder`.

    It may where nothing is, where a folder is empty, or where an earlier artifact stands: anything else
    there is the user's, and packing would replace it.
    """
    other = "choose another folder with -o DIR"
    try:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise BadInput(f"{folder} is not a folder; an artifact would replace it", other)
        if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
            raise BadInput(f"{folder} holds files that are not an artifact's; they would be lost", other)
        there = next(p for p in folder.absolute().parents if p.exists())
        with tempfile.TemporaryDirectory(dir=there, prefix=f".{folder.name}."):
            pass
    except OSError as e:
        raise NoSpace(f"cannot write at {str(folder)[:200]}: {e.strerror}", other) from None


def pack(build_dir: Path, folder: Path, built: Built, **about: Any) -> Artifact:
    """Copy what was built into `folder`, with its manifest: whole, or not at all. See require_replaceable."""
    require_replaceable(folder)
    with new_folder(folder) as scratch:
        for file in built.files:
            (scratch / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(build_dir / file, scratch / file)
        manifest = Manifest(built=built, sha256={f: sha256(scratch / f) for f in sorted(built.files)}, **about)
        manifest = manifest.model_copy(update={"digest": manifest.computed_digest()})
        write_json(scratch / MANIFEST, manifest.model_dump(mode="json"))
    return Artifact(folder=folder, manifest=manifest)


def open_artifact(folder: Path) -> Artifact:
    """An artifact from disk, every file checked against its hash. Raises BadInput."""
    path = folder / MANIFEST
    again = "build it again with: hwkit build --target TARGET MODEL"
    if not path.is_file():
        raise BadInput(f"{folder} is not an artifact: it has no {MANIFEST}", again)
    manifest = load_json(path, Manifest, again)
    if manifest.computed_digest() != manifest.digest:
        raise BadInput(f"{path} was changed after the build: its digest does not match", again)
    for file, digest in manifest.sha256.items():
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise BadInput(f"{path} names a file outside the artifact: {file}", again)
        if not (folder / file).is_file() or sha256(folder / file) != digest:
            raise BadInput(f"{folder / file} is missing or was changed after the build", again)
    return Artifact(folder=folder, manifest=manifest)


