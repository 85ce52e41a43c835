"""A figure that was to be reached, and the table of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

from hwkit.describe import Kind
from hwkit.errors import HwkitError

Verdict = Literal["ok", "missed", "behind, see why", "for information"]
WIDTH_WHEN_PIPED = 150


@dataclass(frozen=True)
class Line:
    """kind: how the reached figure came to be. why: what a reader needs to judge it."""

    what: str
    reached: str
    limit: str
    kind: Kind
    verdict: Verdict
    why: str = ""


def judged(met: bool) -> Verdict:
    return "ok" if met else "missed"


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH_WHEN_PIPED)


def say(text: str) -> None:
    """Progress, to stderr."""
    print(text, file=sys.stderr, flush=True)


def show(title: str, lines: Sequence[Line]) -> None:
    table = Table("figure", "reached", "limit", "kind", "verdict", "why", title=title, title_justify="left")
    for line in lines:
        table.add_row(line.what, line.reached, line.limit, line.kind, line.verdict, line.why)
    console().print(table)


def main(title: str, figures: Callable[[], Sequence[Line]]) -> int:
    """Take the figures and print them; 0 when none is missed, 1 when one is, else the error's exit code."""
    try:
        lines = figures()
    except HwkitError as e:
        say(e.line())
        return e.exit_code
    show(title, lines)
    return 1 if any(line.verdict == "missed" for line in lines) else 0
