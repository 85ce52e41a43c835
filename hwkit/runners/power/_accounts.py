"""From a recording beside a run to what the run says of power and energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwkit.artifact import Finding
from hwkit.describe import Frozen, Kind
from hwkit.errors import BoardError
from hwkit.measurement import Measurement
from hwkit.runners import OperatorEnergy
from hwkit.runners.power._differential import Differential, operator_energies
from hwkit.runners.power._energy import Account, both, energy, idle
from hwkit.runners.power._recording import Recording, read
from hwkit.runners.power._throttling import cpu_throttling, throttling

DRIFT = 0.05                      # of the idle power, from before to after, that is worth saying


class Accounts(Frozen):
    """Idle power, power and energy of an inference, or why not; and what the sensors said otherwise."""

    measurements: tuple[Measurement, ...] = ()
    not_measured: dict[str, str] = {}
    findings: tuple[Finding, ...] = ()
    operators: tuple[OperatorEnergy, ...] = ()


def accounts(path: Path, problem: str, conditions: Mapping[str, Any], kind: Kind = "measured") -> Accounts:
    """Of the recording at `path`, with the windows "idle", "timed" and, where there is one, "idle-after".

    problem   why the payload took none, "" where it did
    kind      "simulated" where the board's sensors are
    Raises BoardError for a file that is no recording.
    """
    if problem or not path.is_file():
        return Accounts(not_measured={"energy": problem or "the board recorded nothing"})
    recording = read(path)
    timed = recording.windows.get("timed")
    known = {**conditions, **recording.conditions}
    if not recording.power or timed is None:
        why = "; ".join(recording.notes) or "no sensor of this machine tells its power"
        return Accounts(not_measured={"energy": why})
    resting = _resting(recording, known, kind)
    before = next(iter(resting.measurements), None)
    found = energy(recording.power, timed.start_s, timed.end_s, timed.inferences, before, known, kind)
    hot = throttling(recording.power, timed.start_s, timed.end_s)
    return Accounts(measurements=(*resting.measurements, *found.measurements),
                    not_measured={**resting.not_measured, **found.not_measured},
                    findings=(*_notes(recording), *_drift(before), *((hot,) if hot else ()),
                              *_mode(recording.conditions)))


def energies_of_operators(path: Path, problem: str, ran: Sequence[Differential], kind: Kind) -> Accounts:
    """Of the recording at `path`, with windows as `operator_energies` wants them, idle ones around them."""
    if problem or not path.is_file():
        return Accounts(not_measured={"energy of operators": problem or "the board recorded nothing"})
    recording = read(path)
    resting = _resting(recording, {}, kind)
    if not resting.measurements:
        return Accounts(not_measured={"energy of operators": resting.not_measured.get(
            "idle_power", "no sensor of this machine tells its power")})
    found = operator_energies(recording, resting.measurements[0], ran, kind)
    return Accounts(operators=found.energies, findings=(found.finding,) if found.finding else ())


def clocks(path: Path) -> tuple[Finding, ...]:
    """What a recording beside the timed pass shows of throttling; its windows are the parts of that pass."""
    try:
        recording = read(path)
    except BoardError:
        return ()
    found = cpu_throttling(recording.samples.get("cpu", ()),
                           [(w.start_s, w.end_s) for w in recording.windows.values()])
    return (found,) if found else ()


def _resting(recording: Recording, conditions: Mapping[str, Any], kind: Kind) -> Account:
    """Idle power of the windows before and after what ran."""
    windows = [w for name in ("idle", "idle-after") if (w := recording.windows.get(name))]
    found = [idle(recording.power, w.start_s, w.end_s, conditions, kind) for w in windows]
    told = [m for account in found for m in account.measurements]
    if len(told) == 2 and told[0].conditions == told[1].conditions:
        return Account(measurements=(both(*told),))
    return found[0] if found else Account()


def _notes(recording: Recording) -> tuple[Finding, ...]:
    """What went wrong; of sensors that this board simply does not have, nothing."""
    return tuple(Finding(name="sensors", ok=None, text=note) for note in recording.notes
                 if ": " not in note or note.split(": ")[0] in recording.samples)


def _drift(resting: Measurement | None) -> tuple[Finding, ...]:
    if resting is None or len(resting.samples) < 2 or not resting.samples[0]:
        return ()
    before, after = resting.samples
    if abs(after / before - 1) <= DRIFT:
        return ()
    return (Finding(name="idle power", ok=None, text=f"{before:.4g} W before, {after:.4g} W after: the board was "
                                                     "not at rest; the energy's interval holds the difference"),)


def _mode(conditions: Mapping[str, Any]) -> tuple[Finding, ...]:
    if not conditions:
        return ()
    return (Finding(name="power mode", ok=None, text=", ".join(f"{k} {v}" for k, v in conditions.items())),)
