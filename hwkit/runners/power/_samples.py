"""One reading of a sensor, and which of its rails is the whole board."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from hwkit.describe import Frozen

# Rails that carry all the others. POM_5V_IN: 5 V input of the Nano (forums.developer.nvidia.com, thread 73608);
# VDD_IN: module input of TX2, Xavier NX, Orin Nano and NX (threads 200883, 242804); VIN: input of the Thor carrier
# (rbonghi/jetson_stats, pull request 900).
INPUTS = ("POM_5V_IN", "VDD_IN", "VIN")
METER = "METER"                   # the one rail of an external meter, see hwkit.runners.power.meter

# Rails that are measured behind another one; adding both would count them twice. AGX Orin: Jetson Linux Developer
# Guide R36.4, "Software-Based Power Consumption Modeling"; thread 223111.
BEHIND = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}

UNCONNECTED = "NC"                # what the AGX Orin calls the channels of its power monitor that measure nothing
CARD = "GPU"                      # the one rail of a graphics card, see hwkit.runners.power.nvml


class Reading(Frozen):
    """What the recorder wrote down of a sensor at one moment; a sensor uses the fields it needs.

    t_s      of the board's monotonic clock, seconds
    text     a line that a program printed
    files    path -> text of small files, those that never change among them; None where one could not be read
    values   name_unit -> number as a library gave it; None where it gave none
    """

    t_s: float
    text: str = ""
    files: dict[str, str | None] = {}
    values: dict[str, float | str | None] = {}


class Sample(Frozen):
    """A reading in SI units. What the sensor did not say, or said in a form not known here, is absent or None.

    t_s             of the board's monotonic clock
    rails           power by the sensor's own name of the rail, W
    temperatures_c  by the sensor's own name of the zone, °C; zones that are switched off are left out
    loads           share of the time an engine was busy, 0..1: "GR3D" is the GPU, "EMC" the memory controller
    clocks_hz       of an engine, one for each of its parts ("GR3D" has one for every cluster)
    off             engines that are switched off
    cpu_load        0..1 of each core, None for one that is offline
    cpu_clock_hz    of each core
    counter_j       energy since some moment before
    throttled       reasons for which clocks are lowered
    limits_hz       of a clock: what it may rise to now
    most_hz         of a clock: what it could rise to; absent where only its hardware knows how far and how long
    governor        what chooses the processor's clocks
    trips_c         of a zone: the temperature from which the kernel lowers clocks
    """

    sensor: str
    t_s: float
    rails: dict[str, float] = {}
    temperatures_c: dict[str, float] = {}
    loads: dict[str, float] = {}
    clocks_hz: dict[str, tuple[float, ...]] = {}
    off: tuple[str, ...] = ()
    cpu_load: tuple[float | None, ...] = ()
    cpu_clock_hz: tuple[float | None, ...] = ()
    ram_used_bytes: int | None = None
    ram_total_bytes: int | None = None
    swap_used_bytes: int | None = None
    counter_j: float | None = None
    throttled: tuple[str, ...] = ()
    limits_hz: dict[str, float] = {}
    most_hz: dict[str, float] = {}
    governor: str = ""
    trips_c: dict[str, float] = {}

    @property
    def gpu_load(self) -> float | None:
        return self.loads.get("GR3D")


class Total(Frozen):
    """Which rails together are the power of the board.

    of     "board": one rail is its input; "rails": only the sum of those measured; "card": a graphics card alone
    text   the same in words
    """

    rails: tuple[str, ...]
    of: Literal["board", "rails", "card"]
    text: str

    def w(self, rails: Mapping[str, float]) -> float | None:
        """Their sum; None where one of them is missing: a part is never shown as the whole."""
        return sum(rails[name] for name in self.rails) if all(name in rails for name in self.rails) else None


def total(names: Iterable[str]) -> Total | None:
    """The rails to add up, of those a board has; None where it has none."""
    found = sorted(name for name in set(names) if name != UNCONNECTED)
    if METER in found:
        return Total(rails=(METER,), of="board", text="the meter in the board's supply")
    for name in INPUTS:
        if name in found:
            return Total(rails=(name,), of="board", text=f"rail {name}, the input that feeds all others")
    if found == [CARD]:
        return Total(rails=(CARD,), of="card", text=f"rail {CARD}, the graphics card without its host")
    behind = [name for name in found if BEHIND.get(name) in found]
    added = tuple(name for name in found if name not in behind)
    if not added:
        return None
    if len(found) == 1:
        return Total(rails=added, of="rails", text=f"rail {added[0]}, which may not feed the whole board")
    left_out = "".join(f", {name} left out as it is behind {BEHIND[name]}" for name in behind)
    return Total(rails=added, of="rails",
                 text=f"sum of the rails {', '.join(added)}{left_out}; none of them is the input of the board")


def whole(text: str | None) -> int | None:
    """The whole number that a file of the kernel holds; None where it holds something else."""
    return int(text) if text is not None and re.fullmatch(r"\s*-?[0-9]{1,18}\s*", text, re.ASCII) else None


def total_w(sample: Sample) -> float | None:
    """Power of the board by the rails of this sample, W."""
    chosen = total(sample.rails)
    return chosen.w(sample.rails) if chosen else None
