"""The plan that a board with TensorRT executes: engines to build there, and commands for any version it may have.

Commands as in any backend's plan, but written down: the board picks those of its version, fills in what only it
knows, and runs them (boards/payloads/tensorrt.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from hwkit.artifact import Command, StageFile, Variant
from hwkit.describe import Frozen, Name, load_json
from hwkit.files import sha256
from hwkit.gpu import trtexec
from hwkit.gpu.trtexec import PRECISIONS, Family, Precision

WORKSPACE_MIB = 1024         # trtexec's own default is 16 MiB before 8.4, and all memory since
BUILD_TIMEOUT_S = 3600.0
RUN_TIMEOUT_S = 600.0
PROBE_TIMEOUT_S = 120.0
DEPLOYED = "deployed"        # form of what is deployed; others are named as their Variant


class Engine(Frozen):
    """One engine.

    file     ONNX file, relative to the artifact
    form     the chain it belongs to: DEPLOYED or a variant's name; engines of a form run in the order of the plan
    repeat   it is timed once, and counts so often in an inference
    times    the second input "t", shape (1,), of each repeat; None without one
    inputs   name -> shape; all float32, fixed
    """

    name: Name
    file: str
    sha256: str
    precision: Precision
    form: str = DEPLOYED
    repeat: int = Field(default=1, ge=1)
    times: tuple[float, ...] | None = None
    inputs: dict[str, tuple[int, ...]]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        wanted = {"x"} if self.times is None else {"x", "t"}
        if set(self.inputs) != wanted:
            raise ValueError(f"{self.name} has the inputs {sorted(self.inputs)}, not {sorted(wanted)}")
        if not self.inputs["x"] or any(n < 1 for shape in self.inputs.values() for n in shape):
            raise ValueError(f"{self.name} has an input without fixed dimensions")
        if self.times is not None and len(self.times) != self.repeat:
            raise ValueError(f"{self.name} has {len(self.times)} times for {self.repeat} repeats")
        return self

    @property
    def batch(self) -> int:
        return self.inputs["x"][0]


class Commands(Frozen):
    """The commands for one family of versions (hwkit.gpu.trtexec.Family). `build`: by precision."""

    name: str
    since: tuple[int, int]
    build: dict[Precision, Command]
    time: Command
    profile: Command
    output: Command


class BoardPlan(Frozen):
    """What the board does. Words of commands in braces are filled in there:

    {trtexec}        the program
    {onnx}           an engine's ONNX file
    {engine}         the engine, being built or loaded
    {timing_cache}   what TensorRT learnt of its tactics on this GPU in this version; it is kept
    {workspace_mib}  `workspace_mib`
    {warmup_ms} {duration_s} {iterations}   how long to time; a run lasts until duration and iterations are reached
    {inputs}         "x:FILE" or "x:FILE,t:FILE", raw float32
    {times} {profile} {layers} {output}     files that the run writes

    probe   names the version and the GPU, and fails: its {engine} does not exist
    """

    schema_version: Literal[1] = 1
    engines: tuple[Engine, ...]
    workspace_mib: int = Field(default=WORKSPACE_MIB, ge=1)
    probe: Command
    families: tuple[Commands, ...]

    @model_validator(mode="after")
    def _chained(self) -> Self:
        names = [e.name for e in self.engines]
        if not names or len(set(names)) < len(names):
            raise ValueError("a plan has engines, each with its own name")
        forms = [form for form, _ in groupby(self.engines, key=lambda e: e.form)]
        if forms[0] != DEPLOYED or len(set(forms)) < len(forms):
            raise ValueError(f"the form {DEPLOYED!r} comes first, and the engines of a form follow each other")
        return self

    def forms(self) -> dict[str, tuple[Engine, ...]]:
        """Form -> its chain of engines; what is deployed first."""
        return {form: tuple(chain) for form, chain in groupby(self.engines, key=lambda e: e.form)}


def engines(folder: Path, stages: Sequence[StageFile], precision: Precision, shapes: Sequence[tuple[int, ...]],
            form: str = DEPLOYED) -> list[Engine]:
    """The engines of one form of a network.

    folder   where the stages' files lie
    shapes   of each stage's input "x", batch included
    """
    return [Engine(name=_name(form, stage.name), file=stage.file, sha256=sha256(folder / stage.file),
                   precision=precision, form=form, repeat=stage.repeat, times=stage.times,
                   inputs={"x": shape, **({"t": (1,)} if stage.times is not None else {})})
            for stage, shape in zip(stages, shapes, strict=True)]


def variant_engines(folder: Path, variant: Variant, shapes: Sequence[tuple[int, ...]]) -> list[Engine]:
    """The engines of a variant, under its name. Its precision is one of PRECISIONS."""
    precision = next(p for p in PRECISIONS if p == variant.precision)
    return engines(folder, variant.stages, precision, shapes, variant.name)


def _name(form: str, stage: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in f"{form} {stage}").split())


def board_plan(engines: Iterable[Engine], workspace_mib: int = WORKSPACE_MIB,
               build_timeout_s: float = BUILD_TIMEOUT_S, run_timeout_s: float = RUN_TIMEOUT_S) -> BoardPlan:
    """The plan for these engines, for every version that is known. Raises ValueError where they are no chains."""
    made = tuple(engines)
    used = [p for p in PRECISIONS if any(e.precision == p for e in made)]

    def commands(family: Family) -> Commands:
        return Commands(
            name=family.name, since=family.since,
            build={p: Command(what=f"building an {p} engine", argv=trtexec.build_words(family, p),
                              timeout_s=build_timeout_s) for p in used},
            time=Command(what="timing", argv=trtexec.time_words(family), timeout_s=run_timeout_s),
            profile=Command(what="timing layer by layer", argv=trtexec.profile_words(family),
                            timeout_s=run_timeout_s),
            output=Command(what="computing an output", argv=trtexec.output_words(family), timeout_s=run_timeout_s))

    return BoardPlan(engines=made, workspace_mib=workspace_mib,
                     probe=Command(what="asking trtexec for its version and GPU", argv=trtexec.probe_words(),
                                   timeout_s=PROBE_TIMEOUT_S),
                     families=tuple(commands(f) for f in trtexec.FAMILIES))


def load(path: Path) -> BoardPlan:
    """A plan from its file. Raises BadDescription."""
    return load_json(path, BoardPlan)
