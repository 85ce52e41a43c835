"""The journal: what it was told is there after any end, and nothing else is."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hwkit.errors import BadDescription, BadInput
from hwkit.faults import Fault
from hwkit.matrix import journal

TEXT = 'é "quoted"\nline'


def written(path: Path, cells: int = 4) -> bytes:
    with journal.opened(path) as log:
        log.add("opened", cells={f"c{i}": "net" for i in range(cells)})
        for i in range(cells):
            log.add("failed", cell=f"c{i}", fault=Fault.BUSY, transient=True, message=TEXT, wait_s=0.5)
            log.add("finished", cell=f"c{i}", sha256="0" * 64, seconds=1.25)
    return path.read_bytes()


def test_what_is_added_is_read_again(tmp_path: Path) -> None:
    written(tmp_path / "new" / "j")
    with journal.opened(tmp_path / "new" / "j") as log:
        assert [r.event for r in log.records] == ["opened", *["failed", "finished"] * 4]
        assert log.records[1].fault is Fault.BUSY
        assert log.records[1].message == TEXT
        assert log.records[2].seconds == 1.25
        assert log.torn_bytes == 0


def test_wherever_it_is_torn_the_whole_lines_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)      # the disk would be most of the time
    data = written(tmp_path / "j", cells=2)
    for length in range(len(data)):
        torn = tmp_path / "torn"
        torn.write_bytes(data[:length])
        whole = data[:length].count(b"\n")
        with journal.opened(torn) as log:
            assert len(log.records) == whole
            assert log.torn_bytes == length - data[:length].rfind(b"\n") - 1
            log.add("interrupted")
        with journal.opened(torn) as log:
            assert [r.event for r in log.records][whole:] == ["interrupted"]
            assert log.torn_bytes == 0


def test_zeros_that_a_power_cut_left_are_cut_off(tmp_path: Path) -> None:
    data = written(tmp_path / "j")
    (tmp_path / "j").write_bytes(data + b"\0" * 300)
    with journal.opened(tmp_path / "j") as log:
        assert log.torn_bytes == 300
    assert (tmp_path / "j").read_bytes() == data


def test_damage_in_the_middle_is_said_and_left(tmp_path: Path) -> None:
    data = written(tmp_path / "j").replace(b'"cell": "c1"', b'"cell": "c1', 1)
    (tmp_path / "j").write_bytes(data)
    with pytest.raises(BadDescription, match="line 4: is damaged"), journal.opened(tmp_path / "j"):
        pass
    assert (tmp_path / "j").read_bytes() == data


def test_one_process_at_a_time(tmp_path: Path) -> None:
    program = ("import pathlib, sys; from hwkit.matrix import journal\n"
               "with journal.opened(pathlib.Path(sys.argv[1])): print('open', flush=True); sys.stdin.read()")
    path = tmp_path / "j"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(BadInput, match="another hwkit is at work"), journal.opened(path):
            pass
        other.kill()                               # a lock that outlives its owner would stop all resuming
        other.wait()
        with journal.opened(path):
            pass


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    with journal.opened(tmp_path / "j") as log:
        threads = [threading.Thread(target=lambda i=i: [log.add("attempt", cell=f"c{i}", attempt=k + 1)
                                                        for k in range(20)]) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    lines = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]
    for i in range(4):
        assert [one["attempt"] for one in lines if one["cell"] == f"c{i}"] == list(range(1, 21))


def test_a_line_that_finds_no_space_leaves_nothing_behind(tmp_path: Path) -> None:
    """The file-size limit stands for a full disk: the write gets half of the line out, then fails."""
    before = written(tmp_path / "j")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with journal.opened(tmp_path / "j") as log:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 30, hard))
            with pytest.raises(OSError, match="too large"):
                log.add("started", cell="c9", key="k" * 32)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (tmp_path / "j").read_bytes() == before
        log.add("interrupted")
    assert (tmp_path / "j").read_bytes().startswith(before)


def test_what_comes_after_the_end_is_not_written_into_another_file(tmp_path: Path) -> None:
    with journal.opened(tmp_path / "j") as log:
        pass
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)       # takes the number of the closed file
    try:
        with pytest.raises(OSError, match="descriptor"):
            log.add("interrupted")
    finally:
        os.close(other)
    assert (tmp_path / "other").read_bytes() == b""
