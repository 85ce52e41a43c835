"""Errors of a child process arrive as what they were; its death is told, never swallowed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hwkit.errors import BadModel, JobFailed, UnknownName
from hwkit.jobs import call

JOBS = '''
import os, time
from hwkit.errors import BadModel, UnknownName

def fine(spec, say):
    say("step 1 of 2"); print("noise of a library"); say("step 2 of 2")
    return {"sum": spec["a"] + spec["b"]}
def bad(spec, say):
    raise BadModel("conv1.weight has NaN", "train it again")
def unknown(spec, say):
    raise UnknownName("target", "rpi44", ["rpi3", "rpi4"])
def bug(spec, say):
    return {}["no such key"]
def crash(spec, say):
    os.abort()
def leave(spec, say):
    os._exit(7)
def hang(spec, say):
    time.sleep(60)
def full(spec, say):
    raise OSError(28, "No space left on device", "/somewhere")
def nan(spec, say):
    return {"x": float("nan")}
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "these_jobs.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def do(name: str, **more: Any) -> Any:
    return call(f"these_jobs:{name}", {"a": 1, "b": 2}, what="the job", **more)


def test_the_result_and_the_progress_come_back() -> None:
    said: list[str] = []
    assert do("fine", progress=said.append) == {"sum": 3}
    assert said == ["step 1 of 2", "step 2 of 2"]


def test_a_users_mistake_is_the_same_error_here() -> None:
    with pytest.raises(BadModel) as caught:
        do("bad")
    assert caught.value.line() == "conv1.weight has NaN -> train it again"
    with pytest.raises(UnknownName) as caught_too:
        do("unknown")
    assert "nearest: rpi4" in caught_too.value.line()


def test_a_bug_keeps_its_traceback_in_the_log() -> None:
    with pytest.raises(JobFailed, match="the job: KeyError") as caught:
        do("bug")
    assert "Traceback" in caught.value.log
    assert "Traceback" not in caught.value.line()


@pytest.mark.parametrize(("name", "expected"), [("crash", "ended|code -6"), ("leave", "code 7")])
def test_a_death_without_a_word(name: str, expected: str) -> None:
    with pytest.raises(JobFailed, match=expected):
        do(name)


def test_a_time_limit() -> None:
    with pytest.raises(JobFailed, match="took longer"):
        do("hang", timeout_s=2.0)


def test_a_full_disk() -> None:
    from hwkit.errors import NoSpace
    with pytest.raises(NoSpace, match="the disk is full"):
        do("full")


def test_a_result_that_is_no_json_is_refused() -> None:
    with pytest.raises(JobFailed, match="Out of range float"):
        do("nan")


def test_no_scratch_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    do("fine")
    with pytest.raises(JobFailed):
        do("leave")
    assert os.listdir(tmp_path / "scratch") == []
