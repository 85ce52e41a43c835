"""What runs on a board, imported: for tests of its parts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def loaded(path: Path) -> ModuleType:
    """The payload at `path` as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"payload_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
