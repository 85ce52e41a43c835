"""Ctrl-C reaches the main thread alone: this is how it ends what the other threads wait for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_ends: dict[object, Callable[[], object]] = {}
_guard = threading.Lock()


@contextlib.contextmanager
def endable(end: Callable[[], object]) -> Iterator[None]:
    """While the block waits, `end` makes the wait end. It may be called from any thread, and more than once."""
    key = object()
    with _guard:
        _ends[key] = end
    try:
        yield
    finally:
        with _guard:
            del _ends[key]


def end_all() -> None:
    """End every wait of this process. A wait that begins a moment later is not ended: call it again."""
    with _guard:
        waiting = list(_ends.values())
    for end in waiting:
        end()
