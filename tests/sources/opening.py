"""Open many files in one child process, which costs an import of torch, and look at what came of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwkit.errors import HwkitError
from hwkit.model import Model
from hwkit.sources import Opening, open_sources, resolve

os.environ.setdefault("OMP_NUM_THREADS", "1")
Outcomes = dict[str, Model | HwkitError]


def opened(cases: Mapping[str, str | tuple[str, dict[str, Any]]], folder: Path, **limits: Any) -> Outcomes:
    """What each case opens to, into folder/<case>. A case is a MODEL word, or that with options of the Opening."""
    openings = []
    for name, case in cases.items():
        word, options = (case, {}) if isinstance(case, str) else case
        openings.append((Opening(source=resolve(word), cwd=Path.cwd(), **options), folder / name))
    return dict(zip(cases, open_sources(openings, **limits), strict=True))


def refusal(outcome: Model | HwkitError) -> str:
    """The one line of an error."""
    assert isinstance(outcome, HwkitError), f"was not refused: {outcome}"
    line = outcome.line()
    assert "\n" not in line
    assert "Traceback" not in line
    return line


def model(outcome: Model | HwkitError) -> Model:
    assert isinstance(outcome, Model), outcome.line() + getattr(outcome, "log", "")
    return outcome
