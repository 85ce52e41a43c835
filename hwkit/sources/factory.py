"""file.py:function, a function (or a class) that takes nothing and builds a network.

It returns a torch.nn.Module or a hwkit Network. The shape of one sample is the Network's, or the attribute
`input_shape` of the module or of the function, or --input-shape. The file runs in the child process only.
A module with layers of Brevitas becomes a QONNX file, any other a .pt2.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import onnx
from torch import nn

from hwkit.errors import BadModel, HwkitError, UnknownName
from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.network import Network
from hwkit.sources import Opening, _python
from hwkit.sources._child import raise_if_out_of_memory, reading
from hwkit.sources._export import prepare, write_network
from hwkit.sources._input import chosen_shape

__all__ = ["opened", "prepare"]
T = TypeVar("T")


def opened(opening: Opening, folder: Path, say: Say) -> Model:
    path, function = opening.source.path, opening.source.item
    assert path is not None
    os.chdir(opening.cwd)
    sys.path.insert(0, str(path.parent))   # the file may import its neighbours
    say(f"running {path.name}:{function}")
    names = guarded(lambda: runpy.run_path(str(path), run_name=path.stem), path)
    if not callable(names.get(function)):
        raise UnknownName("function", function, _python.callables(path), f"name one that {path} defines")
    factory: Callable[[], object] = names[function]
    network = as_network(guarded(factory, path), factory, opening)
    dataset = opening.dataset or network.dataset
    if is_quantised(network.module):
        return _as_qonnx(network, opening, folder, say, dataset)
    return write_network(network.module.eval(), network.input_shape, folder, name=network.name,
                         what=opening.source.text, dataset=dataset, history=network.history, say=say)


def is_quantised(module: nn.Module) -> bool:
    """Whether it has layers of Brevitas."""
    return any(base.__module__.split(".")[0] == "brevitas" for m in module.modules() for base in type(m).__mro__)


def _as_qonnx(network: Network, opening: Opening, folder: Path, say: Say, dataset: str | None) -> Model:
    """A module with Brevitas layers is quantised as its author wants it: a QONNX file says how."""
    from hwkit.nn.ptq import export
    from hwkit.sources.qonnx import write_qonnx

    what = opening.source.text
    say("exporting to QONNX")
    with (tempfile.TemporaryDirectory() as scratch,
          reading(f"{what} in QONNX", "call the network once in eval mode and Brevitas' export_qonnx by hand")):
        export(network.module.eval(), network.input_shape, Path(scratch) / "network.onnx")
        model = onnx.load(Path(scratch) / "network.onnx")
    return write_qonnx(model, opening, folder, say, name=network.name, dataset=dataset,
                       history=(*network.history, "quantised with Brevitas, exported to QONNX"))


def as_network(made: object, factory: object, opening: Opening) -> Network:
    """What a factory returned as a Network. Raises BadModel when it is no network or its shape is unknown."""
    path, function = opening.source.path, opening.source.item
    assert path is not None
    if isinstance(made, Network):
        return Network(made.name, made.module, chosen_shape(opening, tuple(made.input_shape)), made.dataset,
                       made.history)
    if not isinstance(made, nn.Module):
        line = _python.top_level_line(path, function)
        raise BadModel(f"{path}:{line}: {function} returns {type(made).__name__}, not a torch.nn.Module",
                       "return the network")
    says = getattr(made, "input_shape", getattr(factory, "input_shape", None))
    shape = chosen_shape(opening, tuple(says) if says is not None else None)
    return Network(f"{path.stem}-{function}", made, shape, None, (f"built by {path.name}:{function}",))


def guarded(code: Callable[[], T], path: Path) -> T:
    """Call the user's code. Whatever it raises, exit() included, is BadModel with the line of the user's file."""
    try:
        return code()
    except (HwkitError, MemoryError):
        raise
    except (Exception, SystemExit) as e:
        raise_if_out_of_memory(e)
        frames = [f for f in traceback.extract_tb(e.__traceback__) if Path(f.filename) == path]
        where = f"{path}:{frames[-1].lineno}" if frames else str(path)
        line = f" in: {frames[-1].line}" if frames and frames[-1].line else ""
        raise BadModel(f"{where}: {type(e).__name__}: {' '.join(str(e).split())[:200]}{line}",
                       "mend the function that builds the network") from e
