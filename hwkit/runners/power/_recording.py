"""The file that boards/payloads/sense.py writes, as samples."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from pydantic import ValidationError

from hwkit.describe import Frozen
from hwkit.errors import BoardError, UnknownName
from hwkit.runners.power._clocks import Conditions, conditions
from hwkit.runners.power._samples import Reading, Sample, total

NOTES = 20                         # of damaged lines, that are told one by one
RANK = ("board", "rails", "card")


class Sensor(Protocol):
    """A module in this folder.

    It may also have joined(readings) -> list[Sample], where a reading means something only beside the others.
    """

    def sample(self, reading: Reading) -> Sample:
        """Raises BoardError for text that its sensor does not write."""
        ...


class Window(Frozen):
    """A stretch of time that the program on the board named, on the clock of the samples."""

    start_s: float
    end_s: float
    inferences: int = 0


class Recording(Frozen):
    """What was recorded beside a run.

    samples    by sensor, those that gave none left out
    mode       power mode and clocks of the board before the run
    facts      of a graphics card: name, driver ... for a measurement's conditions
    windows    by name
    notes      what was missing or went wrong, in the order it was said
    """

    samples: dict[str, tuple[Sample, ...]] = {}
    mode: Conditions = Conditions()
    facts: dict[str, str] = {}
    windows: dict[str, Window] = {}
    notes: tuple[str, ...] = ()

    @property
    def power(self) -> tuple[Sample, ...]:
        """Samples of the sensor that sees most of the board and, among those, reads most often; () without one."""
        def order(name: str) -> tuple[int, int, str]:
            rails = total({rail for one in self.samples[name] for rail in one.rails})
            return (RANK.index(rails.of) if rails else len(RANK), -len(self.samples[name]), name)

        best = min(self.samples, key=order, default=None)
        found = self.samples[best] if best else ()
        return found if any(one.rails for one in found) else ()

    @property
    def conditions(self) -> dict[str, Any]:
        return {**self.mode.shown(), **self.facts}


class _Line(Frozen):
    """One record, as the payload's docstring has it."""

    t_s: float
    kind: Literal["start", "text", "fixed", "reading", "note", "window", "end"]
    sensor: str = ""
    text: str = ""
    files: dict[str, str | None] = {}
    values: dict[str, float | str | bool | None] = {}


def names() -> list[str]:
    """All sensors that can be read."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.name.startswith("_"))


def sensor(name: str) -> Sensor:
    """The sensor of that name. Raises UnknownName."""
    if name not in names():
        raise UnknownName("sensor", name, names(), "use one of those")
    return cast(Sensor, importlib.import_module(f"hwkit.runners.power.{name}"))


def read(path: Path) -> Recording:
    """A recording from disk; damaged lines are passed over and noted. Raises BoardError when it is none."""
    again = "record it again with boards/payloads/sense.py"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as e:
        raise BoardError(f"{path} cannot be read: {e.strerror}", again) from None
    lines: list[_Line] = []
    notes: list[str] = []
    for number, written in enumerate(text.splitlines(), 1):
        try:
            lines.append(_Line.model_validate(json.loads(written)))
        except (ValueError, ValidationError, RecursionError):
            notes.append(f"line {number} of the recording is damaged")
    if not any(line.kind == "start" for line in lines):
        raise BoardError(f"{path} is no recording of a board's sensors", again)
    readings: dict[str, list[Reading]] = {}
    fixed: dict[str, _Line] = {}
    said: dict[tuple[str, str], str] = {}
    windows: dict[str, Window] = {}
    for line in lines:
        if line.kind == "fixed":
            fixed[line.sensor] = line
        elif line.kind == "text":
            said[line.sensor, str(line.values.get("when"))] = line.text
        elif line.kind == "note":
            notes.append(f"{line.sensor}: {line.text}" if line.sensor else line.text)
        elif line.kind == "window":
            try:
                windows[line.text] = Window.model_validate(line.values)
            except ValidationError:
                notes.append(f"the window {line.text!r} has no times")
        elif line.kind == "reading":
            readings.setdefault(line.sensor, []).append(_reading(line, fixed))
    samples = {name: _samples(name, found, notes) for name, found in readings.items()}
    if not any(line.kind == "end" for line in lines):
        notes.append("the recorder did not come to its end")
    before, after = (conditions(said.get(("nvpmodel", when), ""), said.get(("jetson_clocks", when), ""))
                     for when in ("start", "end"))
    if after.mode is not None and after.mode != before.mode:
        notes.append(f"the power mode changed from {before.mode} to {after.mode} while it was recorded")
    return Recording(samples={name: tuple(found) for name, found in samples.items() if found}, mode=before,
                     facts=_facts(fixed), windows=windows, notes=_few(notes))


def _samples(name: str, readings: list[Reading], notes: list[str]) -> list[Sample]:
    """What the sensor's own module makes of its readings; what it cannot read goes into `notes`."""
    try:
        module = sensor(name)
        if joined := getattr(module, "joined", None):
            return cast(list[Sample], joined(readings))
    except (BoardError, UnknownName) as e:
        notes.append(e.message)
        return []
    found = []
    for reading in readings:
        try:
            found.append(module.sample(reading))
        except BoardError as e:
            notes.append(e.message)
    return found


def _reading(line: _Line, fixed: dict[str, _Line]) -> Reading:
    labels = fixed[line.sensor].files if line.sensor in fixed else {}
    return Reading(t_s=line.t_s, text=line.text, files={**labels, **line.files}, values=line.values)


def _facts(fixed: dict[str, _Line]) -> dict[str, str]:
    """As the recorder wrote them; the name of a number holds its unit."""
    return {key: value if isinstance(value, str) else f"{value:.0f}"
            for line in fixed.values() for key, value in line.values.items() if value is not None}


def _few(notes: list[str]) -> tuple[str, ...]:
    """Each note once, and no more than a reader takes in."""
    different = list(dict.fromkeys(notes))
    more = len(different) - NOTES
    return (*different[:NOTES], f"and {more} more") if more > 0 else tuple(different)
