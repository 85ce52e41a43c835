"""Target: what the compiler may use. Data, in targets/<name>/target.toml."""

from __future__ import annotations

from hwkit.data import descriptions
from hwkit.describe import Figure, Frozen, Interval, Name, NonEmpty, load_named


class Cpu(Frozen):
    """The cores the network runs on."""

    core: Name                               # e.g. cortex-a72
    isa: Name                                # e.g. armv8-a
    cores: int
    clock_hz: Figure
    features: tuple[Name, ...] = ()          # as in /proc/cpuinfo: asimd, atomics, asimddp ...
    instructions_per_cycle: Interval | None = None   # sustained, one core, on neural-network kernels


class Memories(Frozen):
    """Sizes of the memories a network's weights and maps can live in."""

    dram_bytes: Figure
    l1d_bytes: Figure | None = None          # per core
    l2_bytes: Figure | None = None
    dram_bytes_per_s: Figure | None = None   # peak


HINT = "the README shows a whole one under \"Add a target\""


class Target(Frozen):
    """A part and what a backend may use of it. Every figure carries its kind and its source."""

    name: Name
    description: NonEmpty
    part: NonEmpty
    backends: tuple[Name, ...]
    precisions: tuple[Name, ...]
    cpu: Cpu | None = None
    memories: Memories


def names() -> list[str]:
    return list(descriptions("targets"))


def target(name: str) -> Target:
    """The target of that name. Raises UnknownName, BadDescription."""
    return load_named("targets", name, Target, HINT)
