"""Energy counters of Intel's and AMD's processors (RAPL), as the kernel's powercap shows them.

Each zone counts µJ in energy_uj and starts again at zero after max_energy_range_uj (docs.kernel.org,
power/powercap). The packages are added up; cores and graphics are parts of them. Memory is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwkit.errors import BoardError
from hwkit.runners.power._samples import Reading, Sample, whole

PACKAGE = "package"


def _packages(reading: Reading) -> dict[str, tuple[int, int]]:
    """(µJ, µJ at which it starts again) of each package."""
    found = {}
    for path, text in reading.files.items():
        zone, _, file = path.rpartition("/")
        name = (reading.files.get(f"{zone}/name") or "").strip()
        value, most = whole(text), whole(reading.files.get(f"{zone}/max_energy_range_uj"))
        if file == "energy_uj" and name.startswith(PACKAGE) and value is not None and most:
            found[name] = (value, most)
    return found


def sample(reading: Reading) -> Sample:
    """One reading alone: its counter, without the power that only two tell. Raises BoardError."""
    return joined([reading])[0]


def joined(readings: Sequence[Reading]) -> list[Sample]:
    """Readings in the order of time. The power of each package is that since the reading before.

    Raises BoardError where no package can be read; a reading without all of them is passed over.
    """
    known = [(one.t_s, _packages(one)) for one in readings]
    wanted = set().union(*(found for _, found in known))
    if not wanted:
        raise BoardError("no energy counter of a package could be read",
                         "run it as root: since 2020 the kernel lets nobody else read energy_uj")
    complete = [(t_s, found) for t_s, found in known if found.keys() == wanted]
    samples: list[Sample] = []
    counted = 0.0
    for k, (t_s, found) in enumerate(complete):
        rails = {}
        if k:
            before_s, before = complete[k - 1]
            spent = {name: (uj - before[name][0]) % most / 1e6 for name, (uj, most) in found.items()}
            counted += sum(spent.values())
            rails = {name: joules / (t_s - before_s) for name, joules in spent.items()} if t_s > before_s else {}
        samples.append(Sample(sensor="rapl", t_s=t_s, rails=rails, counter_j=counted))
    return samples
