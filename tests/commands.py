"""The command line as a user calls it, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HWKIT = [sys.executable, "-m", "hwkit"]


def hwkit(*words: str, cwd: Path, env: Mapping[str, str] | None = None,
          timeout_s: float = 900.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HWKIT, *words], cwd=cwd, capture_output=True, text=True, timeout=timeout_s,
                          env={**os.environ, **(env or {})})


def alive_in(folder: Path) -> list[str]:
    """Processes whose current folder is inside `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "cwd").startswith(str(folder)):
                    found.append((entry / "cmdline").read_text())
            except OSError:
                continue
    return found
