"""Toolchains: programs that cannot share hwkit's own environment, each made once in the cache, found by name."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Protocol, cast

from hwkit.errors import UnknownName
from hwkit.jobs import Say


class Toolchain(Protocol):
    """hwkit/toolchains/<name>.py."""

    def installed(self) -> Path | None:
        """Its folder, complete and as this hwkit wants it; None otherwise. Starts no process."""
        ...
    def versions(self) -> dict[str, str]:
        """What it consists of, name -> version; empty when it is not installed."""
        ...
    def install(self, say: Say) -> Path:
        """Make it if need be, whole or not at all. Raises ToolMissing when that cannot be done here."""
        ...


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def toolchain(name: str) -> Toolchain:
    """The toolchain of that name. Raises UnknownName."""
    if name not in names():
        raise UnknownName("toolchain", name, names(), "hwkit toolchain list")
    return cast(Toolchain, importlib.import_module(f"{__name__}.{name}"))
