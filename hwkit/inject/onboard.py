"""Faults on a board, over ssh and beside the agent: they can be made while a run is going on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Literal

from hwkit.data import shipped
from hwkit.errors import BoardFault
from hwkit.faults import Fault
from hwkit.lab import Place
from hwkit.runners import _ssh

OVERRIDES = ("power_w", "temperature_c", "clock_hz")           # of boards/payloads/rails.py
WORK_S = 30.0


def fill_disk(place: Place, leaving_bytes: int) -> None:
    """Leave so few bytes where runs have their scratch. Raises BoardFault."""
    _run(place, "fill", _scratch(place), str(leaving_bytes))


def empty_disk(place: Place) -> None:
    """Undo `fill_disk`. Raises BoardFault."""
    _run(place, "empty", _scratch(place))


@contextlib.contextmanager
def full_disk(place: Place, leaving_bytes: int = 100_000) -> Iterator[None]:
    """Until the block ends. Raises BoardFault."""
    try:
        fill_disk(place, leaving_bytes)
        yield
    finally:
        empty_disk(place)


def kill(place: Place, which: Literal["program", "agent"], signal: int = 9) -> int:
    """What runs there for hwkit: how many processes got the signal. Raises BoardFault."""
    return int(_run(place, "kill", which, place.lock if which == "agent" else _scratch(place), str(signal)))


def override(place: Place, values: Mapping[str, float]) -> None:
    """What a virtual board's sensors show from now on (OVERRIDES); {} as simulated. Raises BoardFault."""
    _run(place, "override", place.sensors_root, *([json.dumps(dict(values))] if values else []))


def _scratch(place: Place) -> str:
    return place.scratch or "/tmp"


def _run(place: Place, *words: str) -> str:
    """boards/payloads/inject.py on the board, to its end. Raises BoardFault."""
    source = shipped("boards", "payloads", "inject.py").read_text()
    code, said, complaint = asyncio.run(_ssh.said(place, shlex.join([place.python, "-", *words]), WORK_S, source))
    if code != 0:
        last = (complaint.strip().splitlines() or ["no reason told"])[-1]
        raise BoardFault(Fault.PROCESS_FAILED, f"{place.text}: {last:.300}", log=complaint)
    return said.strip()
