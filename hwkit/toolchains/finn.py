"""FINN+: dataflow accelerators from quantised networks; its estimates and its code generation.

`finn` on PyPI is an empty placeholder; the real thing is finn-plus. Its pins contradict those of the other
backends (protobuf, pydantic, rich), so it lives in a virtual environment of its own and is driven from
outside. No vendor tool is part of it: `start` beside this file makes FINN importable without one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hwkit.data import cache_root
from hwkit.errors import JobFailed, ToolMissing
from hwkit.files import sha256
from hwkit.jobs import Say
from hwkit.made import Recipe, ensure, folder_for, made
from hwkit.process import run

LOCK = Path(__file__).with_name("finn.lock")
START = Path(__file__).with_name("_finn_start.py")
HINT = "hwkit toolchain install finn"
PYTHON = (3, 11)
VENV_S = 120.0
INSTALL_S = 1800.0
IMPORT_S = 120.0


def packages() -> list[str]:
    """The pinned packages, "name==version"."""
    lines = (line.strip() for line in LOCK.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _recipe() -> Recipe:
    return {"packages": packages(), "start": [sha256(START)], "python": [os.path.realpath(sys.executable)]}


def place() -> Path:
    """Where this hwkit's FINN environment is, or would be."""
    return folder_for(cache_root() / "toolchains", "finn", _recipe())


def installed() -> Path | None:
    """The folder of the environment, or None when it is not made or not whole."""
    return place() if made(place()) else None


def versions() -> dict[str, str]:
    """Package -> version of the environment; empty when it is not installed."""
    found = made(place())
    return found.contents if found else {}


def python() -> Path:
    """The environment's Python, where `import finn_start` makes FINN importable. Raises ToolMissing."""
    folder = installed()
    if folder is None:
        raise ToolMissing("FINN is not installed", HINT)
    return folder / "bin" / "python"


def install(say: Say) -> Path:
    """Make the environment if need be. Raises ToolMissing when pip cannot get the packages."""
    if sys.version_info[:2] != PYTHON:
        raise ToolMissing(f"FINN is pinned for Python {PYTHON[0]}.{PYTHON[1]}, this is {sys.version.split()[0]}",
                          "run hwkit with Python 3.11")

    def fill(folder: Path) -> dict[str, str]:
        try:
            return _fill(folder, say)
        except JobFailed as e:
            lines = [line for line in e.log.splitlines() if "ERROR" in line]
            why = lines[0].strip() if lines else e.message
            raise ToolMissing(f"FINN cannot be installed: {why:.300}", f"check the network and pip's settings, "
                              f"then run it again: {HINT}") from None

    return ensure(place(), _recipe(), fill)


def _fill(folder: Path, say: Say) -> dict[str, str]:
    wanted = packages()
    say("making a virtual environment")
    run([sys.executable, "-m", "venv", str(folder)], timeout_s=VENV_S, what="making a virtual environment",
        hint="apt-get install python3-venv")
    inside = folder / "bin" / "python"
    count = 0

    def moved(line: str) -> None:
        nonlocal count
        if line.startswith("Collecting "):
            count += 1
            say(f"downloading: {count} of {len(wanted)}")
        elif line.startswith("Installing "):
            say(f"unpacking {len(wanted)} packages")

    run([str(inside), "-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--no-compile",
         "--progress-bar=off", *wanted], timeout_s=INSTALL_S, what="installing FINN", on_line=moved)
    start = folder / "lib" / f"python{PYTHON[0]}.{PYTHON[1]}" / "site-packages" / "finn_start.py"
    start.write_bytes(START.read_bytes())
    say("importing FINN for the first time")
    home = folder / "home"
    home.mkdir()
    run([str(inside), "-c", "import finn_start; finn_start.start()"], timeout_s=IMPORT_S, what="importing FINN",
        env={**os.environ, "HOME": str(home), "FINN_BUILD_DIR": str(home)})
    return dict(line.split("==") for line in wanted)
