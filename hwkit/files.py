"""Files are written whole or not at all, and folders are replaced in one rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwkit.errors import NoSpace

_UNWRITABLE = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up",
               errno.EFBIG: "the file-size limit is reached", errno.EACCES: "no permission",
               errno.EROFS: "the file system is read-only", errno.EPERM: "not permitted",
               errno.ENAMETOOLONG: "the name is too long", errno.ENOTDIR: "a part of the path is a file"}


def unwritable(error: OSError) -> NoSpace | None:
    """The one-line error for a full or forbidden disk; None for any other OSError."""
    why = _UNWRITABLE.get(error.errno or 0)
    if why is None:
        return None
    where = f" at {error.filename}" if error.filename else ""
    return NoSpace(f"cannot write{where}: {why}", "free some space or choose another folder with -o DIR")


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def write(path: Path, data: bytes | str) -> None:
    """Write a file under a temporary name, then rename it: readers see the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data.encode() if isinstance(data, str) else data)
        os.chmod(temporary, 0o644)   # mkstemp makes them private
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_json(path: Path, value: Any) -> None:
    """Deterministic JSON: sorted keys, two spaces, a final newline."""
    write(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder itself: two builders never swap the same place at once, and no lock file stays."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _swap(new: Path, place: Path) -> None:
    """Put `new` where `place` is; `place` comes back if that fails."""
    old = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.old."))
    try:
        if place.exists():
            os.replace(place, old / place.name)
        try:
            os.replace(new, place)
        except BaseException:
            if (old / place.name).exists():
                os.replace(old / place.name, place)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A scratch folder beside `path` that becomes `path` when the block ends without an exception.

    What was at `path` before survives any failure, Ctrl-C and full disk included.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield scratch
        os.chmod(scratch, 0o755)
        with _folder_lock(path.parent):
            _swap(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive advisory lock for `path` (a file `path`.lock beside it), across processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield
