"""Everything hwkit raises on purpose, and the exit code the command line gives for it.

    HwkitError                     exit
    ├── OverBudget                  1    a budget line or the accuracy floor was broken
    ├── BadInput                    2    the user's words, files or models
    │   ├── UnknownName             2    no such target, board, network, data set ...
    │   ├── BadDescription          2    a TOML file: which file, which key, what was nearly right
    │   ├── BadModel                2    a model file or factory that cannot be deployed
    │   └── NoSpace                 2    the disk is full, or a folder cannot be written
    ├── ToolMissing                 3    an extra, a program or a toolchain that is not installed
    └── BoardError                  4    a board is unreachable or failed while running
        ├── BoardFault              4    ... over ssh: says which of hwkit.faults it was
        └── JobFailed               4    a child process of ours died, timed out or ran out of memory

A user's mistake is one line: what is wrong, then the next command. Anything else that escapes
is a bug of hwkit and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from hwkit.faults import Fault


class HwkitError(Exception):
    """Base of all deliberate errors. `hint` is the next command or action, shown after the message."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def line(self) -> str:
        """The error as the one line a user sees."""
        text = " ".join(self.message.split())
        return f"{text} -> {' '.join(self.hint.split())}" if self.hint else text


class OverBudget(HwkitError):
    exit_code = 1


class BadInput(HwkitError):
    exit_code = 2


class UnknownName(BadInput):
    """`name` is not among `known`; says which known names are close."""

    def __init__(self, noun: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        also = f"; nearest: {', '.join(near)}" if near else (f"; known: {', '.join(names)}" if names else "")
        super().__init__(f"no {noun} named {name!r}{also}", hint or f"hwkit list {noun.replace(' ', '')}s")


class BadDescription(BadInput):
    """A description file is wrong at `key`."""

    def __init__(self, path: Path | str, key: str, problem: str, hint: str = "") -> None:
        where = f"{path}: {key}" if key else str(path)
        super().__init__(f"{where}: {problem}", hint)


class BadModel(BadInput):
    """A model cannot be opened, converted or deployed."""


class NoSpace(BadInput):
    """Nothing can be written where the output should go; what was there before is still there."""


class ToolMissing(HwkitError):
    """A tool or an extra is not installed; `hint` says how to install it."""

    exit_code = 3


class BoardError(HwkitError):
    """A board is unreachable, or failed while running. `log` is the end of what it printed."""

    exit_code = 4

    def __init__(self, message: str, hint: str = "", log: str = "") -> None:
        super().__init__(message, hint)
        self.log = log


class BoardFault(BoardError):
    """A board in the loop failed, in the way `fault`."""

    def __init__(self, fault: Fault, message: str, hint: str = "", log: str = "") -> None:
        super().__init__(message, hint, log)
        self.fault = fault


class JobFailed(BoardError):
    """A child process died, timed out or ran out of memory."""
