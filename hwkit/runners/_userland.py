"""A small aarch64 Linux to run under qemu-user: unpacked, never booted, nothing foreign executed to make it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hwkit import debian
from hwkit.debian import PLATFORMS, SUITE, TFLITE
from hwkit.jobs import Say
from hwkit.runners._made import Recipe, ensure, folder_for, made

PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libgomp1", "libatomic1", "zlib1g")


def recipe() -> Recipe:
    return {"suite": [SUITE], "packages": sorted(PACKAGES)}


def root() -> Path | None:
    """The unpacked aarch64 file system, or None when it is not made."""
    folder = folder_for("userland", recipe())
    return folder if made(folder) else None


def packages() -> dict[str, str]:
    """Debian packages of the userland with their versions; empty when it is not made."""
    found = made(folder_for("userland", recipe()))
    return found.contents if found else {}


def make_root(say: Say) -> Path:
    """The unpacked aarch64 file system, made if need be. Raises ToolMissing, JobFailed, NoSpace."""

    def fill(folder: Path) -> dict[str, str]:
        versions = debian.unpack(PACKAGES, folder, say)
        (folder / "etc/ld.so.cache").touch()       # else the guest's loader reads the machine's own
        say("compiling the Python library")
        debian.compile_python(folder / "usr/lib/python3.11", folder)
        return versions

    return ensure("userland", recipe(), fill)


def site(name: str, requirements: Sequence[str], say: Say, platforms: Sequence[str] = PLATFORMS) -> Path:
    """A folder for PYTHONPATH with exactly these aarch64 wheels ("name==version"), made if need be.

    Dependencies are not followed: name all that is wanted. Raises ToolMissing, JobFailed, NoSpace.
    """

    def fill(folder: Path) -> dict[str, str]:
        debian.wheels(name, requirements, folder, say, platforms)
        return {}

    return ensure(f"site-{name}", _site_recipe(requirements, platforms), fill)


def _site_recipe(requirements: Sequence[str], platforms: Sequence[str] = PLATFORMS) -> Recipe:
    return {"requirements": sorted(requirements), "platforms": list(platforms)}


def tflite_site() -> Path | None:
    """The site folder of the TFLite interpreter, or None when it is not made."""
    folder = folder_for("site-tflite", _site_recipe(TFLITE))
    return folder if made(folder) else None


def make_tflite_site(say: Say) -> Path:
    """The site folder of the TFLite interpreter, made if need be."""
    return site("tflite", TFLITE, say)
