"""Memory: which on-chip memory of an FPGA holds which buffer. Pure: no files, no tools."""

from __future__ import annotations

from typing import Literal, get_args

from hwkit.describe import Frozen

Memory = Literal["LUTRAM", "BRAM", "URAM"]
MEMORIES: tuple[Memory, ...] = get_args(Memory)


class MemoryRow(Frozen):
    """Where one buffer lies.

    words, width_bits   the buffer: `words` addresses of `width_bits`, all of which are read in one cycle
    primitive           RAM64M8, RAM32M16, RAMB18E2, RAMB36E2 or URAM288, used as `depth` x `width`
    primitives          how many of them: partition x those stacked in depth x copies
    partition           primitives side by side, read in the same cycle
    copies              of the whole buffer, for more reads a cycle than a primitive has ports
    data_bits           words x width_bits, counted once
    allocated_bits      what the primitives hold
    taken, available    LUTs, BRAM_18K or URAM taken by it, and those on the whole chip
    """

    buffer: str
    contents: str
    words: int
    width_bits: int
    memory: Memory
    primitive: str
    depth: int
    width: int
    primitives: int
    partition: int
    copies: int
    data_bits: int
    allocated_bits: int
    taken: int
    available: int

    @property
    def share(self) -> float:
        """Of the chip's memory of this kind, 0..1."""
        return self.taken / self.available
