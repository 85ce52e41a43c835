"""Runs ON the board, for tests of what fails: does one thing that goes wrong by itself elsewhere.

    python3 inject.py fill FOLDER BYTES       a file that leaves so few bytes on that disk
    python3 inject.py empty FOLDER            removes it
    python3 inject.py kill program SCRATCH N  signal N to what runs for hwkit there; prints to how many processes
    python3 inject.py kill agent LOCK N       the same to hwkit's agent that holds this lock
    python3 inject.py override FOLDER [JSON]  what the simulated sensors of a virtual board show

Standard library, Python 3.6 or newer. Comes by stdin, is not installed.
"""

import contextlib
import errno
import os
import sys

FILLER = "hwkit-injected-full-disk"


def fill(folder, leaving):
    """The room is taken without being written. Where a file system keeps some of it for itself, less is taken."""
    room = os.statvfs(folder)
    wanted = (room.f_bfree if os.geteuid() == 0 else room.f_bavail) * room.f_frsize - int(leaving)
    at, step = 0, max(wanted, 1)
    with open(os.path.join(folder, FILLER), "wb") as f:
        while at < wanted and step >= 4096:
            step = min(step, wanted - at)
            try:
                os.posix_fallocate(f.fileno(), at, step)
                at += step
            except OSError as e:
                if e.errno != errno.ENOSPC:
                    raise
                step //= 2
        if at < wanted:
            f.truncate(max(0, at - int(leaving)))


def empty(folder):
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, FILLER))


def kill(which, path, number):
    """A program works in the agent's folder; the agent has its lock open."""
    done, path = 0, os.path.realpath(path)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if which == "program":
                meant = os.readlink(f"/proc/{pid}/cwd").startswith(os.path.join(path, "hwkit-board-"))
            else:
                meant = path in [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
            if meant and int(pid) != os.getpid():
                os.kill(int(pid), int(number))
                done += 1
    print(done)


def override(folder, values=""):
    path = os.path.join(folder, "override")
    if values:
        with open(path + ".new", "w") as f:
            f.write(values)
        os.rename(path + ".new", path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


if __name__ == "__main__":
    {"fill": fill, "empty": empty, "kill": kill, "override": override}[sys.argv[1]](*sys.argv[2:])
