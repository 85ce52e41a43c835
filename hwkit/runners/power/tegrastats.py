"""Lines of tegrastats, the monitor that comes with every Jetson; its fields by the Jetson Linux Developer Guide.

JetPack 4 prints powers as `NAME current/average` without a unit, JetPack 5 with mW, newer releases add a maximum.
Without root some leave out clocks, or all powers. A word that is not known here, or that has another unit, is
passed over.
"""

from __future__ import annotations

import re
from itertools import pairwise

from hwkit.errors import BoardError
from hwkit.runners.power._samples import UNCONNECTED, Reading, Sample

_N = r"[0-9]{1,9}"
_RAIL_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_POWERS = re.compile(rf"({_N})(mW)?/{_N}(mW)?(?:/{_N}(mW)?)?")
_BYTES = re.compile(rf"({_N})/({_N})(kB|MB|GB)")
_ENGINE = re.compile(r"(EMC|GR3D2?|VIC|APE|MSENC|OFA|(?:NVENC|NVDEC|NVJPG|NVDLA|PVA)[0-9]?)(_FREQ)?")
_BUSY = re.compile(rf"(?:({_N})%)?(?:@(?:({_N})|\[({_N}(?:,{_N})*)\]))?")
_CORES = re.compile(rf"\[([^\[\]]*)\](?:@({_N}))?")
_CORE = re.compile(rf"({_N})%(?:@({_N}))?")
_CELSIUS = r"-?[0-9]{1,4}(?:\.[0-9]{1,6})?"
_TEMPERATURE = re.compile(rf"([A-Za-z]\w*)@({_CELSIUS})C(?:/{_CELSIUS}C)?", re.ASCII)

MEMORIES = ("RAM", "SWAP", "IRAM")
BUSY_FIRST = ("EMC", "GR3D", "GR3D2")                   # printed as 12%, 12%@1300 or @1300, never as a bare number
FACTOR = {"kB": 1024, "MB": 1024**2, "GB": 1024**3}     # tegrastats divides what the kernel says by 1024
OFF_C = -256.0                                          # read from a zone whose part is powered down


def _hz(mhz: str) -> float:
    return int(mhz) * 1e6


def _share(percent: str | None) -> float | None:
    return int(percent) / 100 if percent is not None and int(percent) <= 100 else None


def _rails(words: list[str]) -> dict[str, float]:
    """W of each rail. Units must be said for all rails of a line alike, or for none: JetPack 4."""
    found: list[tuple[str, str, set[str | None]]] = []
    for name, value in pairwise(words):
        powers = _POWERS.fullmatch(value)
        if powers and _RAIL_NAME.fullmatch(name) and name not in MEMORIES:
            fields = value.count("/") + 1
            found.append((name, powers[1], {powers[k] for k in range(2, 2 + fields)}))
    line = {unit for _, _, units in found for unit in units}
    wanted = {None} if line == {None} else {"mW"}
    named = [name for name, _, _ in found]
    return {name: int(now) / 1000 for name, now, units in found
            if units == wanted and name != UNCONNECTED and named.count(name) == 1}


def _cores(text: str) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Loads and clocks of `[5%@729,off]` or `[5%,off]@729`; nothing of a list in another form."""
    cores = _CORES.fullmatch(text)
    if not cores:
        return (), ()
    each = [_CORE.fullmatch(core) for core in cores[1].split(",")]
    clocks = [core and (core[2] or cores[2]) for core in each]
    return (tuple(_share(core[1]) if core else None for core in each),
            tuple(_hz(mhz) if mhz else None for mhz in clocks))


def parse(line: str, t_s: float = 0.0) -> Sample:
    """One line, read at t_s. Raises BoardError for text that is no line of tegrastats."""
    words = re.sub(r",\s+", ",", line).split()
    memory: dict[str, tuple[int, int]] = {}
    loads: dict[str, float] = {}
    clocks: dict[str, tuple[float, ...]] = {}
    off: list[str] = []
    cpu: tuple[tuple[float | None, ...], tuple[float | None, ...]] = ((), ())
    for name, value in pairwise(words):
        engine = _ENGINE.fullmatch(name)
        if name in MEMORIES and (size := _BYTES.fullmatch(value)):
            memory[name] = int(size[1]) * FACTOR[size[3]], int(size[2]) * FACTOR[size[3]]
        elif name in ("CPU", "cpu") and value.startswith("["):
            cpu = _cores(value)
        elif engine and value == "off":
            off.append(engine[1])
        elif engine and re.fullmatch(_N, value):
            # where a load may stand as well, a number that has lost its sign could be either
            if engine[1] not in BUSY_FIRST:
                clocks[engine[1]] = (_hz(value),)
        elif engine and (busy := _BUSY.fullmatch(value)):
            if (share := _share(busy[1])) is not None:
                loads[engine[1]] = share
            if mhz := busy[2] or busy[3]:
                clocks[engine[1]] = tuple(_hz(one) for one in mhz.split(","))
    if not ("RAM" in memory or cpu[0] or "GR3D" in loads or "GR3D" in clocks):
        raise BoardError(f"not a line of tegrastats: {line.strip()[:80]!r}")
    temperatures = {found[1]: float(found[2]) for word in words if (found := _TEMPERATURE.fullmatch(word))}
    used, whole = memory.get("RAM", (None, None))
    return Sample(sensor="tegrastats", t_s=t_s, rails=_rails(words),
                  temperatures_c={zone: c for zone, c in temperatures.items() if c != OFF_C},
                  loads=loads, clocks_hz=clocks, off=tuple(off), cpu_load=cpu[0], cpu_clock_hz=cpu[1],
                  ram_used_bytes=used, ram_total_bytes=whole, swap_used_bytes=memory.get("SWAP", (None,))[0])


def sample(reading: Reading) -> Sample:
    return parse(reading.text, reading.t_s)
