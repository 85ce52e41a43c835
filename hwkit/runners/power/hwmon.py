"""Power that the kernel shows under hwmon: an INA226 on a ZCU104, regulators on PMBus, a mainboard's own meter.

powerK_input or powerK_average in µW; without one in1_input in mV times curr1_input in mA, which of the INA2xx are
bus voltage and current (docs.kernel.org, hwmon/sysfs-interface, hwmon/ina2xx). A PMBus device labels its powers:
"pin" goes in, "pout1" ... come out (hwmon/pmbus-core there); only what goes in is counted where it says both, and
no regulator where there are monitors, which as a rule lie before or behind one.
"""

from __future__ import annotations

import re
from collections import Counter

from hwkit.errors import BoardError
from hwkit.runners.power._samples import Reading, Sample, whole

MONITORS = "ina"                                       # how the names of power monitors begin
_POWER = re.compile(r"(hwmon[0-9]+)/(power[0-9]+)_(?:input|average)")
_VOLTS = re.compile(r"(hwmon[0-9]+)/in1_input")


def sample(reading: Reading) -> Sample:
    """Raises BoardError where no power could be read."""
    files = reading.files
    watts: dict[tuple[str, str], float] = {}                  # (device's folder, label) -> W
    for path, text in files.items():
        value = whole(text)
        if value is None:
            continue
        if found := _POWER.fullmatch(path):
            watts[found[1], (files.get(f"{found[1]}/{found[2]}_label") or "").strip()] = value / 1e6
        elif found := _VOLTS.fullmatch(path):
            milliamperes = whole(files.get(f"{found[1]}/curr1_input"))
            if milliamperes is not None:
                watts[found[1], ""] = value * milliamperes / 1e6
    fed = {folder for folder, label in watts if label.startswith("pin")}
    kept = {key: w for key, w in watts.items() if not (key[0] in fed and key[1].startswith("pout"))}
    monitors = {folder for folder, _ in kept if (files.get(f"{folder}/name") or "").startswith(MONITORS)}
    kept = {key: w for key, w in kept.items() if not monitors or key[0] in monitors}
    if not kept:
        raise BoardError("no power under hwmon could be read", "run it as root, or let its files be read by all")

    def name(folder: str, label: str) -> str:
        device = (files.get(f"{folder}/name") or folder).strip()
        return f"{device} {label}" if label.startswith(("pin", "pout")) else label or device

    said = Counter(name(*key) for key in kept)
    rails = {}
    for key, w in kept.items():
        place = (files.get(f"{key[0]}/device") or key[0]).strip()
        rails[name(*key) if said[name(*key)] == 1 else f"{name(*key)} ({place})"] = w
    return Sample(sensor="hwmon", t_s=reading.t_s, rails=rails)
