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
