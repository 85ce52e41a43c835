"""The QEMU plugin that counts guest instructions: compiled here once, its marks read back."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hwkit.data import shipped
from hwkit.errors import BoardError
from hwkit.files import sha256
from hwkit.jobs import Say
from hwkit.process import require, run
from hwkit.runners._made import Recipe, ensure, folder_for, made

LIBRARY = "icount.so"
FIRST_QEMU_WITH_API_2 = 9


@dataclass(frozen=True)
class Marks:
    """Instructions executed since the start: at every mark the guest took, and at the last one or its end."""

    at: dict[int, int]
    end: int

    def between(self, labels: Sequence[int]) -> list[int]:
        """Instructions from each label to the next. Raises BoardError when a mark is missing."""
        missing = [label for label in labels if label not in self.at]
        if missing:
            raise BoardError(f"the counting plugin saw no mark {missing[0]}")
        return [self.at[b] - self.at[a] for a, b in itertools.pairwise(labels)]


def qemu_version(qemu: str) -> tuple[int, int]:
    """(major, minor) of a qemu-aarch64. Raises BoardError when it does not say."""
    told = run([qemu, "--version"], timeout_s=20, what="asking QEMU for its version").stdout
    found = re.search(r"version (\d+)\.(\d+)", told)
    if not found:
        raise BoardError(f"{qemu} does not say its version: {told:.80}")
    return int(found[1]), int(found[2])


def _recipe(qemu: str) -> Recipe:
    api = "1" if qemu_version(qemu)[0] < FIRST_QEMU_WITH_API_2 else "2"
    return {"source": [sha256(shipped("boards", "payloads", "icount.c"))], "api": [api]}


def library(qemu: str) -> Path | None:
    """The compiled plugin for this QEMU, or None when it is not made."""
    folder = folder_for("icount", _recipe(qemu))
    return folder / LIBRARY if made(folder) else None


def make(qemu: str, say: Say) -> Path:
    """The compiled plugin for this QEMU, made if need be. Raises ToolMissing, JobFailed."""
    recipe = _recipe(qemu)

    def fill(folder: Path) -> dict[str, str]:
        say("compiling the instruction counter")
        gcc = require("gcc", "apt-get install gcc libc6-dev")
        run([gcc, "-O2", "-fPIC", "-shared", f"-DPLUGIN_API={recipe['api'][0]}", "-o", str(folder / LIBRARY),
             str(shipped("boards", "payloads", "icount.c"))],
            timeout_s=120, what="compiling the instruction counter", hint="apt-get install gcc libc6-dev")
        return {}

    return ensure("icount", recipe, fill) / LIBRARY


def read(path: Path, whole: bool = True) -> Marks:
    """What the plugin wrote. Raises BoardError when the guest did not come to its end but should (`whole`)."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.is_file() else []
    ended = bool(lines) and lines[-1][0] == "end"
    if whole and not ended:
        raise BoardError("the counting plugin wrote no end mark: the guest was ended from outside")
    at = {int(label): int(count) for label, count in lines if label != "end"}
    return Marks(at=at, end=int(lines[-1][1]) if lines else 0)
