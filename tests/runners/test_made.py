"""Folders made from a recipe: whole or not at all, once, and again when they were damaged."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwkit.runners import _guest, _icount, _userland
from hwkit.runners._made import ensure, folder_for, made

RECIPE = {"of": ["one"]}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HWKIT_CACHE", str(tmp_path))
    return tmp_path


def fill(folder: Path) -> dict[str, str]:
    (folder / "deep").mkdir()
    (folder / "deep/file").write_text("contents")
    (folder / "link").symlink_to("deep/file")
    return {"part": "1.0"}


def counting(calls: list[int]):
    def filling(folder: Path) -> dict[str, str]:
        calls.append(1)
        return fill(folder)
    return filling


def test_it_is_made_once() -> None:
    calls: list[int] = []
    first = ensure("thing", RECIPE, counting(calls))
    assert ensure("thing", RECIPE, counting(calls)) == first
    assert len(calls) == 1
    found = made(first)
    assert found is not None
    assert found.contents == {"part": "1.0"}


def test_another_recipe_is_another_folder() -> None:
    assert ensure("thing", RECIPE, fill) != ensure("thing", {"of": ["two"]}, fill)


@pytest.mark.parametrize("damage", ["missing", "shorter", "half", "unmarked"])
def test_a_damaged_one_is_made_again(damage: str) -> None:
    folder = ensure("thing", RECIPE, fill)
    match damage:
        case "missing":
            (folder / "link").unlink()
        case "shorter":
            (folder / "deep/file").write_text("con")
        case "half":
            (folder / "made.json").write_text("{")
        case "unmarked":
            (folder / "made.json").unlink()
    assert made(folder) is None
    assert (ensure("thing", RECIPE, fill) / "deep/file").read_text() == "contents"
    assert made(folder) is not None


def test_an_interrupted_one_leaves_nothing(cache: Path) -> None:
    def stopped(folder: Path) -> dict[str, str]:
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure("thing", RECIPE, stopped)
    assert [p.name for p in (cache / "qemu-user").iterdir() if not p.name.endswith(".lock")] == []


# Another process that makes the same folder: argv is how long it takes, and a log it writes a line to.
MAKER = """
import sys, time
from hwkit.runners._made import ensure
def slow(folder):
    with open(sys.argv[2], "a") as f:
        f.write("made\\n")
    (folder / "half").touch()
    time.sleep(float(sys.argv[1]))
    return {"part": "1.0"}
ensure("thing", {"of": ["one"]}, slow)
"""


def maker(seconds: float, log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", MAKER, str(seconds), str(log)])


def test_a_killed_one_is_never_used_and_its_rest_is_swept(tmp_path: Path) -> None:
    child = maker(60, tmp_path / "log")
    place = folder_for("thing", RECIPE)
    for _ in range(2000):
        if list(place.parent.glob(f".{place.name}.*/half")):
            break
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert made(place) is None
    assert list(place.parent.glob(f".{place.name}.*"))
    ensure("thing", RECIPE, fill)
    assert list(place.parent.glob(f".{place.name}.*")) == []


def test_two_at_a_time_make_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    children = [maker(0.5, log) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert log.read_text() == "made\n"


@pytest.mark.qemu
def test_a_truncated_plugin_is_compiled_again() -> None:
    qemu = _guest.qemu()
    plugin = _icount.make(qemu, lambda text: None)
    whole = plugin.read_bytes()
    plugin.write_bytes(whole[:1000])
    assert _icount.library(qemu) is None
    assert _icount.make(qemu, lambda text: None).read_bytes() == whole


@pytest.mark.qemu
def test_wheels_that_do_not_exist_leave_nothing(cache: Path) -> None:
    from hwkit.errors import JobFailed

    with pytest.raises(JobFailed, match="installing none for aarch64") as caught:
        _userland.site("none", ["numpy==0.0.1"], lambda text: None)
    assert "check the network" in caught.value.line()
    assert not list((cache / "qemu-user").glob("site-none-*/"))


def test_python_compiles_what_the_guest_runs() -> None:
    assert sys.version_info[:2] == (3, 11)       # the userland's; else byte code is made in every guest
