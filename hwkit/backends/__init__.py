"""Backends: one toolchain each, found by name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import cast

from hwkit.artifact import Backend
from hwkit.errors import UnknownName


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def backend(name: str) -> Backend:
    """The backend of that name. Raises UnknownName."""
    if name not in names():
        raise UnknownName("backend", name, names())
    return cast(Backend, importlib.import_module(f"{__name__}.{name}"))
