"""The child process that opens models: imports the frameworks once, then forks for every model."""

from __future__ import annotations

import contextlib
import functools
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

from hwkit.errors import BadModel, HwkitError, ToolMissing
from hwkit.fork import forked
from hwkit.jobs import Say, told
from hwkit.model import Model
from hwkit.samples import samples
from hwkit.sources import Opening, write_model

DATA = "data.npz"
# Package that may be absent -> the extra that brings it.
EXTRAS = {"torch": "torch", "onnxruntime": "onnxruntime", "ai_edge_litert": "tflite", "tensorflow": "tensorflow",
          "flatbuffers": "tflite", "qonnx": "fpga", "brevitas": "fpga"}


class Format(Protocol):
    """hwkit/sources/<kind>.py."""

    def prepare(self) -> None:
        """What every opening would do again: done once, before forking. Starts no thread."""
        ...

    def opened(self, opening: Opening, folder: Path, say: Say) -> Model:
        """Write the network into `folder`; paths in the Model are relative to it."""
        ...


def job(spec: dict[str, Any], say: Say) -> list[dict[str, str] | None]:
    """For every opening: what went wrong, or None when scratch/<number> holds an opened model."""
    failures: list[dict[str, str] | None] = []
    for k, given in enumerate(spec["openings"]):
        opening = Opening.model_validate(given)
        folder = Path(spec["scratch"]) / str(k)
        folder.mkdir()
        try:
            with needing_extras(opening.source.text):
                module = cast(Format, importlib.import_module(f"hwkit.sources.{opening.source.kind}"))
                module.prepare()
        except HwkitError as e:
            failures.append(told(e))
            continue
        outcome = forked(functools.partial(_open, module, opening, folder, say),
                         timeout_s=spec["timeout_s"], memory_bytes=spec["memory_bytes"])
        failures.append(outcome.get("failure"))
    return failures


def _open(module: Format, opening: Opening, folder: Path, say: Say) -> None:
    try:
        with needing_extras(opening.source.text):
            model = module.opened(opening, folder, say)
    except Exception as e:
        raise_if_out_of_memory(e)
        raise
    if opening.data is not None:
        samples(model.input_shape, 1, data=opening.data)   # raises BadInput when they do not fit
        shutil.copyfile(opening.data, folder / DATA)
        model = model.model_copy(update={"data": Path(DATA)})
    write_model(folder, model)


@contextlib.contextmanager
def needing_extras(what: str) -> Iterator[None]:
    """An import of a package that an extra brings becomes ToolMissing; any other stays what it is."""
    try:
        yield
    except ModuleNotFoundError as e:
        package = (e.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        raise ToolMissing(f"{what} needs the package {package}, which is not installed",
                          f"pip install 'hwkit[{EXTRAS[package]}]'") from None


@contextlib.contextmanager
def reading(what: str, hint: str = "the file may be damaged; export or copy the model again") -> Iterator[None]:
    """Whatever a framework raises while it reads a file that hwkit did not make, as BadModel.

    The frameworks raise KeyError, RuntimeError, AssertionError ... for a damaged file. Use it around
    calls into them, not around our own code. MemoryError and missing packages pass through.
    """
    try:
        yield
    except (HwkitError, MemoryError, ModuleNotFoundError):
        raise
    except Exception as e:
        raise_if_out_of_memory(e)
        text = " ".join(str(e).split())
        raise BadModel(f"{what} cannot be read: {type(e).__name__}{': ' if text else ''}{text:.200}", hint) from e


def raise_if_out_of_memory(error: BaseException) -> None:
    """Raise MemoryError for the ways in which torch and C++ libraries say that there was no memory."""
    if "can't allocate memory" in str(error) or "bad_alloc" in str(error):
        raise MemoryError from None
