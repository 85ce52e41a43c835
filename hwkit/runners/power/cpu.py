"""Clocks and temperatures of a processor, and what a Raspberry Pi's firmware says of its throttling; no power.

Clocks in kHz (docs.kernel.org, admin-guide/pm/cpufreq), temperatures in m°C (driver-api/thermal/sysfs-api).
"""

from __future__ import annotations

import re

from hwkit.errors import BoardError
from hwkit.runners.power._samples import Reading, Sample, whole

# bits of `vcgencmd get_throttled` that hold now; those that hold since the start lie 16 higher (Raspberry Pi
# documentation, "get_throttled")
FIRMWARE = {0x1: "under-voltage", 0x2: "clock capped", 0x4: "throttled", 0x8: "soft temperature limit"}
# Drivers whose greatest clock is one that the hardware reaches as long as it likes: being below it means nothing.
BOOSTING = ("intel_pstate", "intel_cpufreq", "acpi-cpufreq", "amd-pstate", "amd-pstate-epp")
_BITS = re.compile(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})")
TRIP = "passive"                                       # from here on the kernel lowers clocks
TRIP_C = (40.0, 130.0)                                 # a trip outside is none of a processor


def sample(reading: Reading) -> Sample:
    """Raises BoardError where neither a clock nor a temperature could be read."""
    files = reading.files
    clocks: dict[str, tuple[float, ...]] = {}
    limits, most, temperatures, trips = {}, {}, {}, {}
    governors = set()
    throttled: tuple[str, ...] = ()

    def hz(path: str) -> float | None:
        khz = whole(files.get(path))
        return khz * 1e3 if khz is not None and khz > 0 else None

    for path, text in files.items():
        folder, _, file = path.rpartition("/")
        name = folder.removesuffix("/cpufreq").rpartition("/")[2]
        if file == "scaling_cur_freq" and (now := hz(path)):
            clocks[name] = (now,)
            limit, greatest = hz(f"{folder}/scaling_max_freq"), hz(f"{folder}/cpuinfo_max_freq")
            if (files.get(f"{folder}/scaling_driver") or "").strip() in BOOSTING:
                limit = greatest = hz(f"{folder}/base_frequency")
            if limit:
                limits[name] = limit
            if greatest:
                most[name] = greatest
            governors.add((files.get(f"{folder}/scaling_governor") or "").strip())
        elif file == "temp" and (millidegrees := whole(text)) is not None:
            zone = (files.get(f"{folder}/type") or "").strip() or name
            zone = zone if zone not in temperatures else f"{zone} ({name})"
            temperatures[zone] = millidegrees / 1e3
            if (trip := _trip_c(reading, folder)) is not None:
                trips[zone] = trip
        elif file.endswith("get_throttled") and (found := _BITS.fullmatch((text or "").strip())):
            throttled = tuple(word for bit, word in FIRMWARE.items() if int(found[1], 16) & bit)
    if not clocks and not temperatures and not any("get_throttled" in path for path in files):
        raise BoardError("neither a clock nor a temperature of the processor could be read")
    return Sample(sensor="cpu", t_s=reading.t_s, temperatures_c=temperatures, clocks_hz=clocks, limits_hz=limits,
                  most_hz=most, governor="/".join(sorted(governors - {""})), trips_c=trips, throttled=throttled)


def _trip_c(reading: Reading, zone: str) -> float | None:
    """The lowest temperature from which the kernel lowers clocks."""
    found = []
    for path, text in reading.files.items():
        if path.startswith(f"{zone}/trip_point_") and path.endswith("_type") and (text or "").strip() == TRIP:
            millidegrees = whole(reading.files.get(path.removesuffix("_type") + "_temp"))
            if millidegrees is not None and TRIP_C[0] <= millidegrees / 1e3 <= TRIP_C[1]:
                found.append(millidegrees / 1e3)
    return min(found, default=None)
