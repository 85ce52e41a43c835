"""FINN's environment: pinned, whole or not at all, and one line when it cannot be made. No network here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hwkit import process, toolchains
from hwkit.errors import JobFailed, ToolMissing, UnknownName
from hwkit.toolchains import finn


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HWKIT_CACHE", str(tmp_path))
    return tmp_path


def made_up(monkeypatch: pytest.MonkeyPatch, fail: str = "") -> list[list[str]]:
    """Replace programs by ones that write what the real ones leave; `fail`: pip prints it and fails."""
    ran: list[list[str]] = []

    def run(argv: list[str], **how: object) -> None:
        ran.append(argv)
        if "venv" in argv:
            (Path(argv[-1]) / "lib/python3.11/site-packages").mkdir(parents=True)
            (Path(argv[-1]) / "bin").mkdir()
            (Path(argv[-1]) / "bin/python").symlink_to(sys.executable)
        if "pip" in argv and fail:
            raise JobFailed("installing FINN: failed with exit code 1: ERROR", log=fail)

    monkeypatch.setattr(finn, "run", run)
    return ran


def test_every_package_is_pinned_to_one_version() -> None:
    wanted = finn.packages()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in wanted)
    names = [line.split("==")[0].lower().replace("_", "-") for line in wanted]
    assert len(set(names)) == len(names)
    assert {"finn-plus", "qonnx", "onnx"} <= set(names)
    assert not {"torch", "brevitas", "finn"} & set(names)      # `finn` is an empty placeholder


def test_it_shares_the_interchange_packages_with_hwkit() -> None:
    """A QONNX file means the same on both sides."""
    lock = (Path(__file__).parents[2] / "requirements.lock").read_text().splitlines()
    assert {"onnx==1.21.0", "onnxruntime==1.25.1"} <= set(lock) & set(finn.packages())


def test_it_is_made_once_and_says_what_it_holds(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = made_up(monkeypatch)
    assert finn.installed() is None
    assert finn.versions() == {}
    said: list[str] = []
    folder = finn.install(said.append)
    assert folder.parent == cache / "toolchains"
    assert (folder / "lib/python3.11/site-packages/finn_start.py").read_text() == finn.START.read_text()
    assert finn.installed() == folder
    assert finn.versions()["finn-plus"] == "1.6.1"
    assert finn.python() == folder / "bin/python"
    assert said
    before = len(ran)
    finn.install(said.append)
    assert len(ran) == before
    (pip,) = [argv for argv in ran if "pip" in argv]
    assert {"--no-deps", *finn.packages()} <= set(pip)


def test_a_failing_pip_is_one_line_and_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, fail="Collecting a\nERROR: No matching distribution found for mip==1.17\nhint")
    with pytest.raises(ToolMissing, match=r"mip==1\.17") as caught:
        finn.install(lambda text: None)
    assert "hwkit toolchain install finn" in caught.value.line()
    assert not [p for p in (cache / "toolchains").iterdir() if not p.name.endswith(".lock")]
    assert finn.installed() is None


def test_without_it_the_next_command_is_told(cache: Path) -> None:
    with pytest.raises(ToolMissing, match="FINN is not installed") as caught:
        finn.python()
    assert caught.value.hint == "hwkit toolchain install finn"
    assert caught.value.exit_code == 3


def test_another_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 12, 1, "final", 0))
    with pytest.raises(ToolMissing, match=r"Python 3\.11"):
        finn.install(lambda text: None)


def test_toolchains_are_found_by_file_name() -> None:
    assert toolchains.names() == ["finn"]
    assert toolchains.toolchain("finn") is finn
    with pytest.raises(UnknownName, match="nearest: finn"):
        toolchains.toolchain("fin")


def test_the_verb_lists_and_refuses(cache: Path) -> None:
    def hwkit(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "hwkit", "toolchain", *words], capture_output=True, text=True,
                              timeout=60, check=False)

    listed = hwkit("list", "--json")
    assert listed.returncode == 0, listed.stderr
    (row,) = json.loads(listed.stdout)
    assert (row["name"], row["installed"]) == ("finn", False)
    assert row["where"] == "hwkit toolchain install finn"
    wrong = hwkit("install", "fin")
    assert wrong.returncode == 2
    assert "hwkit toolchain list" in wrong.stderr


def test_pip_without_a_network_ends_with_3(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pip, told to look nowhere."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    done = process.run([sys.executable, "-m", "hwkit", "toolchain", "install", "finn"], timeout_s=120, check=False,
                       what="installing")
    assert done.returncode == 3, done.stdout
    assert "Traceback" not in done.stdout
    assert "hwkit: FINN cannot be installed" in done.stdout
