"""How long hwkit takes to answer: its help, and a check of a zoo network that has been opened before."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Sequence

from bench.lines import Line, judged, main
from hwkit.process import run
from hwkit.units import shown

HELP_S = 0.3
CHECK_S = 2.0
RUNS = 7
TIMEOUT_S = 300.0


def figures() -> list[Line]:
    return [_line("hwkit --help", ["--help"], HELP_S),
            _line("hwkit check --target rpi4 dsodenet, warm", ["check", "--target", "rpi4", "dsodenet"], CHECK_S)]


def _line(what: str, arguments: Sequence[str], limit_s: float) -> Line:
    _seconds(arguments)                # opens the network and fills the file system's cache
    taken = [_seconds(arguments) for _ in range(RUNS)]
    middle = statistics.median(taken)
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    return Line(what, shown(middle, "s"), shown(limit_s, "s"), "measured", judged(middle <= limit_s),
                f"median of {RUNS}, {shown(min(taken), 's')} to {shown(max(taken), 's')}; load of the machine "
                f"{busy:.1f} a core")


def _seconds(arguments: Sequence[str]) -> float:
    start = time.perf_counter()
    run([sys.executable, "-m", "hwkit", *arguments], timeout_s=TIMEOUT_S, what=f"hwkit {arguments[0]}")
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main("how long hwkit takes to answer", figures))
