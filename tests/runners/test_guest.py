"""Any program on an emulated core: what it sees there, and that its instructions are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwkit.board import Board
from hwkit.errors import BoardError, JobFailed, UnknownName
from hwkit.runners import _guest, _icount, _userland

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("emulated")]
CPU = "cortex-a72"

MARKED = """
import ctypes
libc = ctypes.CDLL(None)
def work(n):
    for _ in range(n):
        pass
for _ in range(20):
    work(1); libc.getpriority(0x4857, 0)
for label, n in ((1, 1000), (2, 1000), (3, 2000)):
    work(n); libc.getpriority(0x4857, label)
"""


def guest(tmp_path: Path, code: str, marks: bool = False) -> _guest.Finished:
    return _guest.run_guest(CPU, ["python", "-c", code], cwd=tmp_path, timeout_s=60, what="guest",
                            marks_file=tmp_path / "marks" if marks else None)


def test_it_is_the_named_core(tmp_path: Path) -> None:
    code = ("import os, platform, json; print(json.dumps([platform.machine(), os.cpu_count(), "
            "open('/proc/cpuinfo').read(), dict(os.environ)]))")
    machine, cores, cpuinfo, environment = json.loads(guest(tmp_path, code).output)
    assert (machine, cores) == ("aarch64", 4)
    assert "CPU part\t: 0xd08" in cpuinfo
    assert cpuinfo.count("processor") == 4
    assert "HOME" not in environment


def test_marks_count_the_work_between_them(tmp_path: Path) -> None:
    finished = guest(tmp_path, MARKED, marks=True)
    assert finished.marks is not None
    once, twice = finished.marks.between([1, 2, 3])
    assert 1.8 < twice / once < 2.1
    assert finished.marks.end > finished.marks.at[3]


def test_marks_repeat_exactly(tmp_path: Path) -> None:
    a, b = (guest(tmp_path, MARKED, marks=True).marks for _ in range(2))
    assert a is not None
    assert b is not None
    assert a.between([1, 2, 3]) == b.between([1, 2, 3])


def test_a_crash_says_how_it_ended(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="SIGSEGV"):
        guest(tmp_path, "import ctypes; print('before', flush=True); ctypes.string_at(0)")


def test_further_wheels_go_into_a_site_of_their_own(tmp_path: Path, emulated: Board) -> None:
    extra = _userland.site("test-extra", ["flatbuffers==25.12.19"], lambda text: None)
    finished = _guest.run_guest(CPU, ["python", "-c", "import flatbuffers; print(flatbuffers.__file__)"],
                                sites=[extra], cwd=tmp_path, timeout_s=60, what="guest", marks_file=None)
    assert str(extra) in finished.output


def test_a_core_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"nearest: .*cortex-a72"):
        _guest.run_guest("cortex-a71", ["python"], cwd=tmp_path, timeout_s=1, what="guest", marks_file=None)


def test_a_guest_ended_from_outside_has_no_count(tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_text("1 100\n2 250\n")
    with pytest.raises(BoardError, match="ended from outside"):
        _icount.read(cut)
    assert _icount.read(cut, whole=False).between([1, 2]) == [150]
    with pytest.raises(BoardError, match="no mark 3"):
        _icount.read(cut, whole=False).between([2, 3])
