"""The mode a board ran in: what `nvpmodel -q` and `jetson_clocks --show` print."""

from __future__ import annotations

import re

from hwkit.describe import Frozen

_MODE = re.compile(r"NV Power Mode:[ \t]*(\S.*?)[ \t\r]*$(?:\n[ \t]*(\d{1,3})[ \t\r]*$)?", re.MULTILINE)
_CLOCK = re.compile(r"^(cpu\d{1,3}|GPU|EMC)\b:?[ \t]+(.*MinFreq=.*)$", re.MULTILINE)
_ONLINE = re.compile(r"^Online CPUs:[ \t]*([0-9,-]+)", re.MULTILINE)


class Clock(Frozen):
    """Bounds and value of one clock. override: it was fixed regardless of its bounds (EMC, up to JetPack 6)."""

    name: str
    min_hz: float
    max_hz: float
    now_hz: float
    override: bool = False

    @property
    def locked(self) -> bool:
        return self.now_hz == self.max_hz and (self.override or self.min_hz == self.max_hz)


class Conditions(Frozen):
    """The power mode of a board and its clocks: cores that are online, GPU, EMC. Empty where it did not say."""

    mode: str | None = None
    mode_number: int | None = None
    clocks: tuple[Clock, ...] = ()

    def locked(self, kind: str) -> bool | None:
        """Are all clocks of "cpu", "GPU" or "EMC" held at their maximum? None: not known."""
        of_kind = [clock.locked for clock in self.clocks if clock.name.startswith(kind)]
        return all(of_kind) if of_kind else None

    def shown(self) -> dict[str, str]:
        """For the conditions of a measurement; empty where nothing is known."""
        said = {}
        if self.mode is not None:
            said["power_mode"] = self.mode if self.mode_number is None else f"{self.mode} ({self.mode_number})"
        state = {kind: self.locked(kind) for kind in ("cpu", "GPU", "EMC")}
        if self.clocks:
            words = {True: "locked", False: "not locked", None: "unknown"}
            told = {words[value] for value in state.values()}
            said["clocks"] = (told.pop() if len(told) == 1 else
                              ", ".join(f"{kind} {words[value]}" for kind, value in state.items()))
        return said


def power_mode(text: str) -> tuple[str | None, int | None]:
    """Name and number of the mode, of what `nvpmodel -q` printed, with or without --verbose."""
    found = _MODE.search(text)
    return (found[1], int(found[2]) if found[2] else None) if found else (None, None)


def _online(text: str) -> set[int] | None:
    found = _ONLINE.search(text)
    if not found:
        return None
    cores: set[int] = set()
    for part in found[1].strip(",-").split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            cores |= set(range(int(first), min(int(last or first), 1023) + 1))
    return cores


def clocks(text: str) -> tuple[Clock, ...]:
    """Of what `jetson_clocks --show` printed: cores in kHz, the others in Hz. Empty when it wants to be root."""
    online = _online(text)
    found = []
    for line in _CLOCK.finditer(text):
        name = line[1]
        fields = dict(re.findall(r"(\w+)=(\d{1,12})\b", line[2]))
        if fields.get("Online") == "0" or (name.startswith("cpu") and online is not None
                                           and int(name[3:]) not in online):
            continue
        try:
            least, most, now = (int(fields[key]) for key in ("MinFreq", "MaxFreq", "CurrentFreq"))
        except KeyError:
            continue
        unit = 1000 if name.startswith("cpu") else 1
        found.append(Clock(name=name, min_hz=least * unit, max_hz=most * unit, now_hz=now * unit,
                           override=fields.get("FreqOverride") == "1"))
    return tuple(found)


def conditions(nvpmodel: str, jetson_clocks: str) -> Conditions:
    """The two outputs together; "" for a tool that is not there."""
    mode, number = power_mode(nvpmodel)
    if mode is None:
        mode, number = power_mode(jetson_clocks)       # its last line, without the number
    return Conditions(mode=mode, mode_number=number, clocks=clocks(jetson_clocks))
