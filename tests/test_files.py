"""Written whole or not at all, under every kind of interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwkit.errors import NoSpace
from hwkit.files import new_folder, unwritable, write, write_json


def leftovers(folder: Path, *expected: str) -> list[str]:
    return sorted(set(os.listdir(folder)) - set(expected))


def fails_half_way(place: Path) -> None:
    with new_folder(place) as scratch:
        write(scratch / "x", "new")
        raise RuntimeError


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"new": float("nan")})
    assert '"old": 1' in path.read_text()
    assert leftovers(tmp_path, "a.json") == []


def test_a_failed_build_leaves_the_old_folder(tmp_path: Path) -> None:
    place = tmp_path / "artifact"
    with new_folder(place) as scratch:
        write(scratch / "x", "old")
    with pytest.raises(RuntimeError):
        fails_half_way(place)
    assert (place / "x").read_text() == "old"
    assert leftovers(tmp_path, "artifact") == []


def test_a_finished_build_replaces_the_whole_folder(tmp_path: Path) -> None:
    place = tmp_path / "artifact"
    with new_folder(place) as scratch:
        write(scratch / "stale", "old")
    with new_folder(place) as scratch:
        write(scratch / "x", "new")
    assert os.listdir(place) == ["x"]
    assert leftovers(tmp_path, "artifact") == []


def test_ctrl_c_in_the_middle_leaves_the_old_folder(tmp_path: Path) -> None:
    place = tmp_path / "artifact"
    with new_folder(place) as scratch:
        write(scratch / "x", "old")
    program = ("import sys, time; from pathlib import Path; from hwkit.files import new_folder, write\n"
               "with new_folder(Path(sys.argv[1])) as s:\n"
               "    write(s / 'x', 'new'); print('half', flush=True); time.sleep(60)\n")
    child = subprocess.Popen([sys.executable, "-c", program, str(place)], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "half\n"
    child.send_signal(signal.SIGINT)
    assert child.wait(20) != 0
    child.stdout.close()
    assert (place / "x").read_text() == "old"
    assert leftovers(tmp_path, "artifact") == []


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for the full disk: the kernel refuses the write in the same place."""
    path = tmp_path / "a.bin"
    write(path, b"old")
    program = ("import resource, signal, sys; from pathlib import Path\n"
               "from hwkit.files import write, unwritable\n"
               "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
               "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
               "try:\n    write(Path(sys.argv[1]), b'n' * 5000)\n"
               "except OSError as e:\n    print(unwritable(e).line())\n")
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert "cannot write" in done.stdout
    assert "free some space" in done.stdout
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path, "a.bin") == []


def test_only_storage_errors_become_lines() -> None:
    assert isinstance(unwritable(OSError(28, "No space left on device", "/x")), NoSpace)
    assert unwritable(OSError(5, "Input/output error")) is None


def test_two_builders_at_once_both_end_with_a_whole_folder(tmp_path: Path) -> None:
    program = ("import sys; from pathlib import Path; from hwkit.files import new_folder, write\n"
               "for k in range(40):\n"
               "    with new_folder(Path(sys.argv[1])) as s:\n"
               "        write(s / 'a', sys.argv[2]); write(s / 'b', sys.argv[2])\n")
    place = tmp_path / "artifact"
    argv = [sys.executable, "-c", program, str(place)]
    children = [subprocess.Popen([*argv, tag], stderr=subprocess.PIPE, text=True) for tag in ("one", "two")]
    deadline = time.monotonic() + 60
    for child in children:
        _, err = child.communicate(timeout=max(1, deadline - time.monotonic()))
        assert child.returncode == 0, err
    assert (place / "a").read_text() == (place / "b").read_text()
    assert leftovers(tmp_path, "artifact") == []
