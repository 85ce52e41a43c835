"""Wheels for a board: fetched here, since boards are often offline, and pushed through the link."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hwkit.data import cache_root
from hwkit.debian import TFLITE
from hwkit.errors import BoardFault, JobFailed
from hwkit.faults import Fault
from hwkit.files import sha256
from hwkit.jobs import Say
from hwkit.made import ensure, folder_for
from hwkit.process import run
from hwkit.runners._link import Hello, Link

LITERT, NUMPY = TFLITE
# What the build machine has is asked for first, so that both ends run the same; then what this Python can have.
WANTED: dict[str, tuple[tuple[str, ...], ...]] = {
    "ai_edge_litert": ((LITERT,), ("ai-edge-litert",), ("tflite-runtime==2.14.0", "numpy<2")),
    "onnxruntime": (("onnxruntime==1.25.1",), ("onnxruntime",)),
    "numpy": ((NUMPY,), ("numpy",)),
}
GLIBC = (39, 35, 34, 31, 28, 27, 24, 17)
PUSHED = "wheels"                       # in the run's folder
KEPT = "~/.cache/hwkit/wheels"
FETCH_S = 600.0


def ensured(link: Link, needs: Sequence[str], say: Say) -> list[str]:
    """Folders for PYTHONPATH on the board with everything of `needs` that it lacks; [] when it lacks nothing.

    needs   names of packages as they are imported. Raises BoardFault.
    """
    has = link.hello.packages
    lacking = [n for n in needs if has.get(n) is None and not (n == "ai_edge_litert" and has.get("tflite_runtime")
                                                               is not None)]
    found = []
    for name in lacking:
        for wheel in fetched(name, link.hello, say):
            say(f"pushing {wheel.name}")
            found.append(_pushed(link, wheel))
    return found


def _pushed(link: Link, wheel: Path) -> str:
    """The folder on the board that holds a wheel; it stays there only where the lab file allows it."""
    if not link.place.keep:
        return link.unzip(wheel, f"{PUSHED}/{wheel.stem}")
    into, digest = f"{KEPT}/{wheel.stem}", sha256(wheel)
    return link.kept(into, digest) or link.unzip(wheel, into)


def fetched(name: str, hello: Hello, say: Say) -> list[Path]:
    """Wheels of a package for the board's Python and machine, kept in the cache. Raises BoardFault."""
    python = ".".join(map(str, hello.python[:2]))
    newest = max((int(part.split(".")[1]) for part in hello.libc.split() if part.startswith("2.")), default=28)
    platforms = [f"manylinux_2_{minor}_{hello.machine}" for minor in GLIBC if minor <= newest]
    platforms.append(f"manylinux2014_{hello.machine}")
    log = ""
    for requirements in WANTED[name]:
        recipe = {"requirements": list(requirements), "python": [python], "platforms": platforms}

        def fill(folder: Path, requirements: tuple[str, ...] = requirements) -> dict[str, str]:
            say(f"fetching {', '.join(requirements)} for Python {python} on {hello.machine}")
            # what runtimes name beyond numpy is for tools that a board does not need
            run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                 *(word for p in platforms for word in ("--platform", p)), "--python-version", python,
                 "--implementation", "cp", "--dest", str(folder), *requirements],
                timeout_s=FETCH_S, what=f"fetching {name} for the board")
            return {}

        try:
            folder = ensure(folder_for(cache_root() / "wheels", name, recipe), recipe, fill)
        except JobFailed as e:
            log = e.log
            continue
        return sorted(folder.glob("*.whl"))
    raise BoardFault(Fault.MISSING, f"the board has no {name}, and there is no wheel of it for Python {python} on "
                     f"{hello.machine}", f"install {name} there, or a Python that it exists for", log)
