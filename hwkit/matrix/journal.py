"""The journal of a long job: what was begun, what went wrong and what is done, a JSON line each.

A line is on the disk before the job goes on. Lines are only appended; one that a crash left unfinished is cut off
when the journal is opened again. While it is open the file is locked: one process at a time works on a job.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from hwkit.describe import Frozen
from hwkit.errors import BadDescription, BadInput
from hwkit.faults import Fault

Event = Literal["opened", "built", "started", "attempt", "failed", "not-run", "finished", "interrupted"]
ANOTHER = "choose another folder with -o DIR"


class Record(Frozen):
    """One line. Which fields it has depends on its event.

    at          UTC, ISO 8601
    opened      cells (name -> model) of this invocation; `again` when what was finished before is not to count
    built       artifact (name) and its digest
    started     cell and its key: everything that its result depends on
    attempt     cell, attempt (1, 2, ...)
    failed      cell, attempt, message, fault (where a board's), transient; wait_s when it is tried again
    not-run     cell, fault and message of the one for which its board was given up
    finished    cell, key, attempt, seconds, report (path in the folder), sha256 of that file
    interrupted by the user
    """

    event: Event
    at: str
    cells: dict[str, str] = {}
    again: bool = False
    artifact: str = ""
    digest: str = ""
    cell: str = ""
    key: str = ""
    attempt: int = 0
    fault: Fault | None = None
    transient: bool = False
    message: str = ""
    wait_s: float | None = None
    report: str = ""
    sha256: str = ""
    seconds: float = 0.0


class Journal:
    """An open journal; see `opened`. `records` are those of earlier times, `torn_bytes` what was cut off."""

    def __init__(self, fd: int, records: tuple[Record, ...], torn_bytes: int) -> None:
        self.records, self.torn_bytes = records, torn_bytes
        self._fd, self._guard = fd, threading.Lock()

    def close(self) -> None:
        """What is added later, by a thread that did not end in time, is an OSError."""
        with self._guard:
            self._fd = -1

    def add(self, event: Event, **about: Any) -> None:
        """Append a record; it is on the disk when this returns. From any thread. Raises OSError on a full disk."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        record = Record(event=event, at=now, **about)
        line = json.dumps({"event": event, "at": now, **record.model_dump(mode="json", exclude_defaults=True)})
        data = line.encode() + b"\n"
        with self._guard:
            size = os.fstat(self._fd).st_size
            try:
                while data:
                    data = data[os.write(self._fd, data):]
                os.fsync(self._fd)
            except OSError:
                os.ftruncate(self._fd, size)
                raise


@contextmanager
def opened(path: Path) -> Iterator[Journal]:
    """The journal at `path`, made when there is none, ours alone until the block ends.

    Raises BadInput when another process has it, BadDescription when a line in the middle cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"another hwkit is at work in {path.parent}", f"wait for it, or {ANOTHER}") from None
        durable(path)
        data = path.read_bytes()
        records, good = _read(data, path)
        os.ftruncate(fd, good)
        log = Journal(fd, records, len(data) - good)
        try:
            yield log
        finally:
            log.close()
    finally:
        os.close(fd)


def durable(path: Path) -> None:
    """Return when a file and its name are on the disk: what the journal says must be true after a power cut."""
    for one in (path, path.parent):
        fd = os.open(one, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _read(data: bytes, path: Path) -> tuple[tuple[Record, ...], int]:
    """All records and the bytes that they take: what follows them is the torn end of a write."""
    records: list[Record] = []
    good = start = 0
    wrong = ""
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        start += len(line)
        try:
            record = Record.model_validate_json(line)
        except ValidationError:
            wrong = wrong or f"line {number}"
            continue
        if wrong:
            raise BadDescription(path, wrong, "is damaged, and it is not the last", ANOTHER)
        if line.endswith(b"\n"):
            records.append(record)
            good = start
        else:
            wrong = f"line {number}"
    return tuple(records), good
