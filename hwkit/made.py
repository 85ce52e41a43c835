"""Folders in the cache that are made from a recipe: whole or not at all, by one process at a time.

A folder's name holds the digest of its recipe, so another recipe never finds it. A folder where files are
missing or changed size is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from hwkit.describe import Frozen
from hwkit.files import locked, new_folder, write_json

MADE = "made.json"
Recipe = dict[str, list[str]]


class Made(Frozen):
    """Written last into a finished folder: what it was made from, and what it held then."""

    recipe: Recipe
    contents: dict[str, str] = {}      # e.g. package -> version
    files: int
    total_bytes: int


def folder_for(place: Path, kind: str, recipe: Recipe) -> Path:
    """The folder of a recipe below `place`: another recipe, another folder."""
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    return place / f"{kind}-{digest}"


def _size(folder: Path) -> tuple[int, int]:
    """Number of files and links below `folder` and their bytes, MADE and byte code left out."""
    files = total = 0
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != "__pycache__":
                        waiting.append(entry.path)
                elif entry.name != MADE:
                    files += 1
                    total += entry.stat(follow_symlinks=False).st_size
    return files, total


def made(folder: Path) -> Made | None:
    """What `folder` says of itself when it is complete, else None. Milliseconds: sizes, not hashes."""
    try:
        told = Made.model_validate_json((folder / MADE).read_bytes())
    except (OSError, ValueError):
        return None
    return told if _size(folder) == (told.files, told.total_bytes) else None


def ensure(folder: Path, recipe: Recipe, fill: Callable[[Path], dict[str, str]]) -> Path:
    """`folder`, filled now unless it is there and complete. One process at a time makes it.

    `fill` gets an empty folder and returns what to remember of its contents.
    """
    with locked(folder):
        if made(folder) is None:
            for left_over in folder.parent.glob(f".{folder.name}.*"):      # of a run that was killed
                shutil.rmtree(left_over, ignore_errors=True)
            with new_folder(folder) as scratch:
                contents = fill(scratch)
                files, total = _size(scratch)
                write_json(scratch / MADE, Made(recipe=recipe, contents=contents, files=files,
                                                total_bytes=total).model_dump())
    return folder
