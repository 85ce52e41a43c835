"""A graphics card through NVML, the library of NVIDIA's driver; its units are in the names of the values.

Its power covers the card with its memory. From Ampere on (GA100 excepted) it is an average over one second, so
energy is taken from the counter where the card has one, Volta or newer (docs.nvidia.com, NVML API reference:
nvmlDeviceGetPowerUsage, nvmlDeviceGetTotalEnergyConsumption).
"""

from __future__ import annotations

from hwkit.errors import BoardError
from hwkit.runners.power._samples import CARD, Reading, Sample

# bits of nvmlDeviceGetCurrentClocksEventReasons, NVML API reference; idling and the user's settings are left out
REASONS = {0x004: "power cap", 0x008: "hardware slowdown", 0x020: "temperature, by software",
           0x040: "temperature, by hardware", 0x080: "external power brake"}


def sample(reading: Reading) -> Sample:
    """Raises BoardError where the card gave no value at all."""

    def value(name: str, factor: float = 1.0) -> float | None:
        found = reading.values.get(name)
        return found * factor if isinstance(found, int | float) and found >= 0 else None

    w, celsius, busy = value("power_mw", 1e-3), value("temperature_c"), value("gpu_percent", 0.01)
    clocks = {"GR3D": value("graphics_mhz", 1e6), "MEM": value("memory_mhz", 1e6)}
    counter_j, reasons = value("energy_mj", 1e-3), value("reasons")
    if all(one is None for one in (w, celsius, busy, counter_j, *clocks.values())):
        raise BoardError("NVML gave no value of the GPU")
    return Sample(sensor="nvml", t_s=reading.t_s,
                  rails={} if w is None else {CARD: w},
                  temperatures_c={} if celsius is None else {CARD: celsius},
                  loads={} if busy is None or busy > 1 else {"GR3D": busy},
                  clocks_hz={name: (hz,) for name, hz in clocks.items() if hz is not None},
                  counter_j=counter_j,
                  throttled=tuple(text for bit, text in REASONS.items() if int(reasons or 0) & bit))
