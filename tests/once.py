"""What takes long to make and is only looked at: made by the first of a session's processes that asks for it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from hwkit.describe import Frozen
from hwkit.files import locked, write_json

T = TypeVar("T", bound=Frozen)


def shared(factory: pytest.TempPathFactory) -> Path:
    """A temporary folder that all test processes of this session have."""
    mine = factory.getbasetemp()
    return mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine


def once(factory: pytest.TempPathFactory, name: str, kind: type[T], make: Callable[[Path], T]) -> tuple[T, Path]:
    """(what `make` said of the folder that it was to make and fill, that folder)."""
    folder = shared(factory) / name
    told = folder.with_name(f"{name}.json")
    with locked(folder):
        if not told.is_file():
            shutil.rmtree(folder, ignore_errors=True)      # of a process that failed
            write_json(told, make(folder).model_dump(mode="json"))
    return kind.model_validate(json.loads(told.read_text())), folder
