"""Virtual boards: Debian's own aarch64 kernel and OpenSSH under qemu-system-aarch64, on this machine.

They are reached as a real board is, over ssh, and what runs on them is real ARM code; they say nothing of any
device's time. `image` is what all of them share, `machine` is one of them.
"""

from __future__ import annotations

from hwkit.board import Board
from hwkit.errors import BoardError
from hwkit.jobs import Say
from hwkit.lab import Place
from hwkit.virtual import machine
from hwkit.virtual.image import SITE
from hwkit.virtual.machine import Clock

SILENCE_S = 30.0
SLOW_CLOCK_S = 300.0          # a guest whose clock counts instructions beats the slower the busier this machine is


def place(board: Board) -> Place:
    """Where a running board is reached. Raises BoardError when it does not run."""
    found = machine.state(board.name)
    if found is None:
        raise BoardError(f"board {board.name} does not run", f"hwkit board start {board.name}")
    folder = machine.folder(board.name)
    return Place(host=machine.LOOPBACK, port=found.port, user="root", key=folder / machine.KEY,
                 known_hosts=folder / machine.KNOWN_HOSTS, site=SITE, sensors_root=machine.SENSORS,
                 silence_s=SLOW_CLOCK_S if found.clock == "instructions" else SILENCE_S)


def started(board: Board, say: Say, deterministic: bool | None = None) -> Place:
    """Where a board is reached that is started now unless it runs. None: in whatever mode it runs in.

    Raises ToolMissing when it is not made, BadInput when it runs in the other mode, JobFailed.
    """
    found = machine.state(board.name)
    if deterministic is None and found is not None:
        return place(board)
    machine.start(board, say, deterministic=bool(deterministic))
    return place(board)


def mode(board: Board) -> Clock | None:
    """What a running board's clock counts; None when it does not run."""
    found = machine.state(board.name)
    return found.clock if found else None
