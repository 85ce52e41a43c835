"""Open many files in one child process, which costs an import of torch, and look at what came of them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwkit.errors import HwkitError
from hwkit.jobs import Say, call, told, untold
from hwkit.model import Model
from hwkit.sources import Opening, _child, open_sources, read_model, resolve

os.environ.setdefault("OMP_NUM_THREADS", "1")
Outcomes = dict[str, Model | HwkitError]


Cases = Mapping[str, str | tuple[str, dict[str, Any]]]


def openings(cases: Cases, folder: Path) -> list[tuple[Opening, Path]]:
    found = []
    for name, case in cases.items():
        word, options = (case, {}) if isinstance(case, str) else case
        found.append((Opening(source=resolve(word), cwd=Path.cwd(), **options), folder / name))
    return found


def opened(cases: Cases, folder: Path, **limits: Any) -> Outcomes:
    """What each case opens to, into folder/<case>. A case is a MODEL word, or that with options of the Opening."""
    return dict(zip(cases, open_sources(openings(cases, folder), **limits), strict=True))


def opened_in_one_process(cases: Cases, folder: Path) -> Outcomes:
    """The same without forks, for a framework that each fork would import anew."""
    spec = {"cases": [(o.model_dump(mode="json"), str(place)) for o, place in openings(cases, folder)]}
    said = call("tests.sources.opening:job", spec, what="opening", timeout_s=300)
    return {name: untold(failure, f"opening {name}") if failure else read_model(folder / name)
            for name, failure in zip(cases, said, strict=True)}


def job(spec: dict[str, Any], say: Say) -> list[dict[str, str] | None]:
    """For every case: what went wrong, or None."""
    failures: list[dict[str, str] | None] = []
    for given, place in spec["cases"]:
        opening = Opening.model_validate(given)
        Path(place).mkdir(parents=True)
        module: Any = importlib.import_module(f"hwkit.sources.{opening.source.kind}")
        try:
            _child._open(module, opening, Path(place), say)
            failures.append(None)
        except Exception as e:
            failures.append(told(e))
    return failures


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
