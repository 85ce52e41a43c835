"""The wheel and the editable install both find the data folders, from anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = {"host", "rpi3", "rpi4", "rpi5", "zcu104", "zcu104-ps"}


def listed(argv: list[str], cwd: str) -> set[str]:
    """Target names that `hwkit list targets` prints when started in `cwd`."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HWKIT_PATH", "VIRTUAL_ENV")}
    done = subprocess.run([*argv, "list", "targets", "--json"], cwd=cwd, env=clean, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    return {row["name"] for row in json.loads(done.stdout)}


def test_the_installed_command_finds_the_data_from_the_root() -> None:
    program = Path(sys.executable).with_name("hwkit")
    argv = [str(program)] if program.exists() else [sys.executable, "-m", "hwkit"]
    assert listed(argv, str(ROOT)) >= SHIPPED
    if program.exists():
        assert listed(argv, "/") >= SHIPPED


@pytest.mark.slow
def test_the_wheel_in_an_empty_environment_finds_the_data(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
                    "--wheel-dir", str(tmp_path), str(ROOT)], check=True, timeout=300)
    (wheel,) = tmp_path.glob("hwkit-*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, timeout=300)
    assert listed([str(python.with_name("hwkit"))], "/") >= SHIPPED
    lacking = subprocess.run([python.with_name("hwkit"), "build", "--target", "rpi4", "resnet8"], cwd=tmp_path,
                             capture_output=True, text=True, timeout=60, check=False)
    assert lacking.returncode == 3            # the core alone has no torch: one line and what to install
    assert "hwkit[" in lacking.stderr
    assert "Traceback" not in lacking.stderr
