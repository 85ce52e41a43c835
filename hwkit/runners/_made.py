"""What the runners make once and keep: folders below the cache's qemu-user/, see hwkit.made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hwkit import made as _made
from hwkit.data import cache_root
from hwkit.made import MADE, Recipe, made

__all__ = ["MADE", "Recipe", "cache", "ensure", "folder_for", "made"]


def cache() -> Path:
    """Where everything for qemu-user is kept."""
    return cache_root() / "qemu-user"


def folder_for(kind: str, recipe: Recipe) -> Path:
    """The cache folder of a recipe: another recipe, another folder."""
    return _made.folder_for(cache(), kind, recipe)


def ensure(kind: str, recipe: Recipe, fill: Callable[[Path], dict[str, str]]) -> Path:
    """The folder of a recipe, filled now unless a complete one is there."""
    return _made.ensure(folder_for(kind, recipe), recipe, fill)
