"""From a recording beside a run to what the run says of power and energy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwkit.artifact import Finding
from hwkit.describe import Frozen
from hwkit.measurement import Measurement
from hwkit.runners.power._energy import energy, idle
from hwkit.runners.power._recording import read
from hwkit.runners.power._throttling import throttling


class Accounts(Frozen):
    """Idle power, power and energy of an inference, or why not; and what the sensors said otherwise."""

    measurements: tuple[Measurement, ...] = ()
    not_measured: dict[str, str] = {}
    findings: tuple[Finding, ...] = ()


def accounts(path: Path, problem: str, conditions: Mapping[str, Any]) -> Accounts:
    """Of the recording at `path`, with the windows "idle" and "timed".

    problem   why the payload took none, "" where it did. Raises BoardError for a file that is no recording.
    """
    if problem or not path.is_file():
        return Accounts(not_measured={"energy": problem or "the board recorded nothing"})
    recording = read(path)
    still, timed = recording.windows.get("idle"), recording.windows.get("timed")
    known = {**conditions, **recording.conditions}
    if not recording.power or timed is None:
        why = "; ".join(recording.notes) or "no sensor of this machine tells its power"
        return Accounts(not_measured={"energy": why})
    resting = idle(recording.power, still.start_s, still.end_s, known) if still else None
    before = next(iter(resting.measurements), None) if resting else None
    found = energy(recording.power, timed.start_s, timed.end_s, timed.inferences, before, known)
    notes = (Finding(name="sensors", ok=None, text=note) for note in recording.notes)
    hot = throttling(recording.power, timed.start_s, timed.end_s)
    return Accounts(measurements=(*(resting.measurements if resting else ()), *found.measurements),
                    not_measured={**(resting.not_measured if resting else {}), **found.not_measured},
                    findings=(*notes, *((hot,) if hot else ()), *_mode(recording.conditions)))


def _mode(conditions: Mapping[str, Any]) -> tuple[Finding, ...]:
    if not conditions:
        return ()
    return (Finding(name="power mode", ok=None, text=", ".join(f"{k} {v}" for k, v in conditions.items())),)
