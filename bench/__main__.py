"""All figures, one table."""

from __future__ import annotations

import sys

from bench import boards, conversion, cuda, engine, files, onnx_files, peers, startup
from bench.lines import Line, main, say


def figures() -> list[Line]:
    taken: list[Line] = []
    for subject in (startup, files, conversion, onnx_files, cuda, engine, boards, peers):
        say(f"bench: {subject.__name__}")
        taken += subject.figures()
    return taken


if __name__ == "__main__":
    sys.exit(main("hwkit's figures", figures))
