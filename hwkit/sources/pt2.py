"""A .pt2 archive, as torch.export.save writes it.

torch.export.load runs what it reads: pickles, names of Python functions, Python source (guards) and sympy
expressions. So the archive is read here as plain JSON and raw bytes, checked (_pt2_archive.py), and only a
new archive made of what was checked is given to torch.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.sources import Opening
from hwkit.sources._child import reading
from hwkit.sources._export import prepare, write_network
from hwkit.sources._input import chosen_shape
from hwkit.sources._pt2_archive import clean_copy

__all__ = ["opened", "prepare"]


def opened(opening: Opening, folder: Path, say: Say) -> Model:
    path, what = opening.source.path, opening.source.text
    assert path is not None
    clean, takes = clean_copy(path, what)
    shape = chosen_shape(opening, takes)
    say("loading")
    with reading(what):
        module = torch.export.load(io.BytesIO(clean)).module(check_guards=False)
    return write_network(module, shape, folder, name=path.stem, what=what, dataset=opening.dataset,
                         history=(f"read from {path.name}",), say=say)
