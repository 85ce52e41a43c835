"""Whether what is stored on a device can fit into its memory."""

from __future__ import annotations

from hwkit.artifact import Problem
from hwkit.measurement import Measurement
from hwkit.target import Target
from hwkit.units import shown


def too_large(name: str, flash: Measurement | None, target: Target) -> list[Problem]:
    """A problem where the estimated files may be more than the target's memory; fatal where they surely are."""
    memory = target.memories.dram_bytes.value
    if flash is None or flash.high is None or flash.high <= memory:
        return []
    return [Problem(message=f"{name} is about {shown(flash.value, 'bytes')}, {target.name} has "
                            f"{shown(memory, 'bytes')} of memory", fatal=(flash.low or 0) > memory)]
