"""Sources: what a command line's MODEL can be, and how each is brought to a hwkit.model.Model.

`resolve` decides what a word means and touches no framework. `open_source` opens it in a child process
and writes a folder:

    whole.pt2 or whole.tflite    the network, eval mode, float32, batch 1
    stages/<name>.pt2            the same network cut at its ODE blocks, where it has any
    data.npz                     the user's own inputs, where there are any
    model.json                   the Model, with paths relative to the folder

One format, one file: hwkit/sources/<kind>.py has `opened(opening, folder, say) -> Model`, whose paths are
relative to `folder`. Those files import frameworks and are imported in child processes only.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hwkit import zoo as networks
from hwkit.describe import Frozen, validated
from hwkit.errors import BadDescription, BadInput, HwkitError, UnknownName
from hwkit.files import new_folder, write_json
from hwkit.jobs import Say, call, untold
from hwkit.model import Model
from hwkit.sources import _python
from hwkit.sources._sniff import SUFFIXES, Kind, files_of, kind_of

MODEL_FILE = "model.json"
TIMEOUT_S = 900.0
MEMORY_BYTES = 16 * 2**30   # address space beyond what the frameworks take when imported
KINDS_HINT = f"name a network (hwkit list networks), a file ({', '.join(SUFFIXES)}) or file.py:function"


class Source(Frozen):
    """A MODEL word, understood.

    item   the network's name in the zoo, or the function's name in the file
    """

    kind: Kind
    text: str
    path: Path | None = None
    item: str = ""


class Opening(Frozen):
    """What a format's `opened` is asked.

    input_shape   one sample without batch; None where the model or `data` says it
    dataset       name of a data set with real inputs and labels; None where the model says it or has none
    data          an .npz with the user's own inputs, see hwkit.samples
    cwd           the user's current folder, which a factory may read files from
    """

    source: Source
    input_shape: tuple[int, ...] | None = None
    dataset: str | None = None
    data: Path | None = None
    cwd: Path


def resolve(text: str) -> Source:
    """What `text` names. Raises BadInput (UnknownName, BadModel) in one line with the next command."""
    if not text.strip():
        raise BadInput("the model's name is empty", KINDS_HINT)
    file, colon, function = text.rpartition(":")
    if colon and file.endswith(".py"):
        return _factory(text, Path(file), function)
    base, at, _ = text.partition("@")
    if base in networks.names():
        if at and text not in networks.trained():
            raise UnknownName("trained network", text, [*networks.trained(), base], "hwkit list networks")
        return Source(kind="zoo", text=text, item=text)
    path = Path(text)
    if path.suffix == ".py" and path.is_file():
        raise BadInput(f"{text} is a Python file: which function builds the network?",
                       f"name it, e.g. {text}:{next(iter(_python.callables(path)), 'build')}")
    with contextlib.suppress(OSError):   # a word too long for a file name is no file
        if path.exists():
            return Source(kind=kind_of(path), text=text, path=path.resolve())
    raise _unknown(text, path)


def files(source: Source) -> list[Path] | None:
    """Every file that opening `source` reads besides hwkit's own; None where that cannot be told (a factory)."""
    if source.path is None:
        return networks.weights_of(source.item.partition("@")[0])
    return files_of(source.path, source.kind)


def _factory(text: str, path: Path, function: str) -> Source:
    if not path.is_file():
        raise _unknown(text, path)
    if not function.isidentifier():
        raise BadInput(f"{text}: {function!r} is not a function's name", f"name one, e.g. {path}:build")
    known = _python.names(path)
    if known is not None and function not in known:
        raise UnknownName("function", function, _python.callables(path), f"name one that {path} defines")
    return Source(kind="factory", text=text, path=path.resolve(), item=function)


def _unknown(text: str, path: Path) -> BadInput:
    """A word that is nothing here: a file that does not exist, or a name that no network has."""
    files: list[str] = []
    with contextlib.suppress(OSError):
        files = [entry.name for entry in path.parent.iterdir()]
    near = [str(path.parent / name) for name in difflib.get_close_matches(path.name, files, n=3, cutoff=0.6)]
    if "/" in text or path.suffix in (*SUFFIXES, ".py", ".pt", ".pth"):
        also = f"; nearest: {', '.join(near)}" if near else ""
        if not path.parent.is_dir():
            also = f": there is no folder {path.parent}"
        return BadInput(f"no model file {path}{also}", KINDS_HINT)
    return UnknownName("network or file", text, [*networks.names(), *near], KINDS_HINT)


def open_source(source: Source, folder: Path, *, input_shape: tuple[int, ...] | None = None,
                dataset: str | None = None, data: Path | None = None, say: Say | None = None,
                timeout_s: float = TIMEOUT_S, memory_bytes: int = MEMORY_BYTES) -> Model:
    """Open `source` in a child process and write `folder`, whole or not at all.

    `folder` is replaced: it may be absent, empty, or one that this function wrote before.
    Raises BadModel, ToolMissing, and JobFailed when the child dies, takes too long or needs too much memory.
    """
    opening = Opening(source=source, input_shape=input_shape, dataset=dataset,
                      data=data.resolve() if data else None, cwd=Path.cwd())
    (outcome,) = open_sources([(opening, folder)], say=say, timeout_s=timeout_s, memory_bytes=memory_bytes)
    if isinstance(outcome, HwkitError):
        raise outcome
    return outcome


def open_sources(openings: Sequence[tuple[Opening, Path]], *, say: Say | None = None,
                 timeout_s: float = TIMEOUT_S, memory_bytes: int = MEMORY_BYTES) -> list[Model | HwkitError]:
    """Open several sources, each in a process of its own, forked once the frameworks are imported.

    The n-th outcome is the Model in the n-th folder, or what was wrong with it. Limits are for each.
    """
    for _, folder in openings:
        if folder.exists() and any(folder.iterdir()) and not (folder / MODEL_FILE).is_file():
            raise ValueError(f"{folder} holds something other than an opened model")
    beside = openings[0][1].parent
    beside.mkdir(parents=True, exist_ok=True)
    outcomes: list[Model | HwkitError] = []
    with tempfile.TemporaryDirectory(prefix=".opening.", dir=beside) as scratch:
        spec = {"openings": [opening.model_dump(mode="json") for opening, _ in openings], "scratch": scratch,
                "timeout_s": timeout_s, "memory_bytes": memory_bytes}
        named = openings[0][0].source.text if len(openings) == 1 else f"{len(openings)} models"
        failures = call("hwkit.sources._child:job", spec, what=f"opening {named}", progress=say,
                        timeout_s=120.0 + timeout_s * len(openings))
        for k, ((opening, folder), failure) in enumerate(zip(openings, failures, strict=True)):
            if failure is not None:
                outcomes.append(untold(failure, f"opening {opening.source.text}"))
                continue
            with new_folder(folder) as final:
                for entry in (Path(scratch) / str(k)).iterdir():
                    shutil.move(entry, final / entry.name)
            outcomes.append(read_model(folder))
    return outcomes


def read_model(folder: Path) -> Model:
    """The Model that `open_source` wrote into `folder`, its paths absolute. Raises BadDescription."""
    path = folder / MODEL_FILE
    try:
        model = validated(json.loads(path.read_bytes()), Model, path)
    except (OSError, ValueError) as e:
        raise BadDescription(path, "", f"cannot be read: {e}", "open the model again") from None
    return model.placed(folder.resolve())


def write_model(folder: Path, model: Model) -> None:
    """Write model.json into `folder`; the model's paths are relative to it."""
    write_json(folder / MODEL_FILE, model.model_dump(mode="json"))
