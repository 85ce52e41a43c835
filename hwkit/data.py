"""Where the data folders are: targets/ and boards/.

Looked up in the current folder, then in each folder of $HWKIT_PATH, then where hwkit was shipped
(`hwkit/_data` in a wheel, the checkout in an editable install). The first hit wins, so a user's
own board of the same name shadows the shipped one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hwkit.errors import UnknownName

_PACKAGE = Path(__file__).resolve().parent


def data_root() -> Path:
    """The folder that holds the shipped targets/ and boards/."""
    packed = _PACKAGE / "_data"
    return packed if packed.is_dir() else _PACKAGE.parent


def roots() -> list[Path]:
    """All folders searched, first hit first."""
    named = [Path(p) for p in os.environ.get("HWKIT_PATH", "").split(os.pathsep) if p]
    return list(dict.fromkeys(p.resolve() for p in [Path.cwd(), *named, data_root()]))


def _descriptions(folder: str) -> Iterator[tuple[str, Path]]:
    for root in roots():
        for path in sorted((root / folder).glob("*.toml")):
            yield path.stem, path
        for path in sorted((root / folder).glob("*/target.toml")):
            yield path.parent.name, path


def descriptions(folder: str) -> dict[str, Path]:
    """Name -> TOML file of every description in `folder` ("targets" or "boards"), sorted by name."""
    found: dict[str, Path] = {}
    for name, path in _descriptions(folder):
        found.setdefault(name, path)
    return dict(sorted(found.items()))


def description(folder: str, name: str) -> Path:
    """The TOML file of one target or board. Raises UnknownName."""
    known = descriptions(folder)
    if name not in known:
        raise UnknownName(folder.removesuffix("s"), name, known)
    return known[name]


def shipped(*parts: str) -> Path:
    """A shipped data file, e.g. shipped("boards", "payloads", "tflite.py")."""
    return data_root().joinpath(*parts)


def cache_root() -> Path:
    """Where downloads, toolchains and converted sources are kept: $HWKIT_CACHE or ~/.cache/hwkit."""
    named = os.environ.get("HWKIT_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache")
    return Path(named) if named else base / "hwkit"
