"""The INA3221 power monitors of a Jetson, as the kernel shows them in small files.

JetPack 5 and later, in <device>/hwmon/hwmonN: inK_label, inK_input in mV, currK_input in mA; channel 7 is a sum of
shunt voltages (kernel.org, hwmon/ina3221). JetPack 4, in <device>/iio:deviceN: rail_name_K, in_powerK_input in mW,
in_voltageK_input in mV, in_currentK_input in mA (Jetson Linux Developer Guide 32.7, power management).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from hwkit.errors import BoardError
from hwkit.runners.power._samples import UNCONNECTED, Reading, Sample, whole

SUM_CHANNEL = 7
_LABEL = re.compile(r"in(\d{1,2})_label|rail_name_(\d{1,2})")


def _product_w(millivolts: int | None, milliamperes: int | None) -> float | None:
    return millivolts * milliamperes / 1e6 if millivolts is not None and milliamperes is not None else None


def rails(files: Mapping[str, str | None]) -> dict[str, float]:
    """W of each rail, of path -> text. A rail whose files are missing or hold no number is left out."""
    found: dict[str, float] = {}
    for path, label in files.items():
        channel = _LABEL.fullmatch(PurePosixPath(path).name)
        name = (label or "").strip()
        if not channel or not name or name == UNCONNECTED or channel[1] == str(SUM_CHANNEL):
            continue

        def read(file: str, beside: str = path) -> int | None:
            return whole(files.get(str(PurePosixPath(beside).with_name(file))))

        if k := channel[1]:
            w = _product_w(read(f"in{k}_input"), read(f"curr{k}_input"))
        else:
            k = channel[2]
            mw = read(f"in_power{k}_input")
            w = _product_w(read(f"in_voltage{k}_input"), read(f"in_current{k}_input")) if mw is None else mw / 1000
        if w is not None:
            # two monitors may give a channel the same name: neither may hide the other
            found[name if name not in found else f"{name} ({path})"] = w
    return found


def sample(reading: Reading) -> Sample:
    """Raises BoardError where the recorder could read no rail at all."""
    found = rails(reading.files)
    if not found:
        raise BoardError("no rail of the INA3221 could be read", "run it as root, or let its files be read by all")
    return Sample(sensor="ina3221", t_s=reading.t_s, rails=found)
