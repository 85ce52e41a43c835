"""Memory: which on-chip memory of an FPGA holds which buffer. Pure: no files, no tools.

Every buffer gets LUTRAM, block RAM or UltraRAM as primitives of one shape (those of UltraScale+), side by side
for its width, stacked for its depth, and copied for more reads a cycle than a primitive has ports. What `place`
returns is wholly on chip; what cannot be is refused, with the buffer that breaks it and the nearest change that
would fit.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from hwkit.describe import Frozen, NonEmpty
from hwkit.errors import BadInput

Memory = Literal["LUTRAM", "BRAM", "URAM"]
MEMORIES: tuple[Memory, ...] = get_args(Memory)
UNIT: Mapping[Memory, str] = {"LUTRAM": "LUT", "BRAM": "BRAM_18K", "URAM": "URAM"}
UNIT_BITS: Mapping[Memory, int] = {"LUTRAM": 64, "BRAM": 18 * 1024, "URAM": 288 * 1024}
Count = Annotated[int, Field(ge=1)]
Shape = tuple[int, int]                      # depth in words, width in bits


@dataclass(frozen=True)
class Primitive:
    """A memory primitive, read and written through two ports.

    units   LUTs, BRAM_18K or URAM that one takes
    simple  shapes with one read and one write a cycle
    dual    shapes with two reads a cycle, for what is never written
    """

    name: str
    memory: Memory
    units: int
    simple: tuple[Shape, ...]
    dual: tuple[Shape, ...] = ()


# UG573 (block RAM, UltraRAM), UG574 (distributed RAM: one of eight LUTs serves the write address, seven are read).
# A block RAM gives its widest shape only with one port to read and one to write.
_RAMB18 = ((1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
_RAMB36 = ((1024, 36), (2048, 18), (4096, 9), (8192, 4), (16384, 2), (32768, 1))
PRIMITIVES = (
    Primitive("RAM32M16", "LUTRAM", 8, ((32, 14),)),
    Primitive("RAM64M8", "LUTRAM", 8, ((64, 7),)),
    Primitive("RAMB18E2", "BRAM", 1, ((512, 36), *_RAMB18), _RAMB18),
    Primitive("RAMB36E2", "BRAM", 2, ((512, 72), *_RAMB36), _RAMB36),
    Primitive("URAM288", "URAM", 1, ((4096, 72),)),
)


class Buffer(Frozen):
    """Something to be stored: `words` addresses, `width_bits` of one address in a cycle.

    contents       weights, bias, feature map, line buffer ...
    reads, writes  ports needed in one cycle; no write at all for what never changes
    initialised    its contents come with the bitstream, which a URAM cannot
    preferred      the only memories the design can use for it, the first before the second; () for any
    bank_bits      the design splits the width into banks of so many bits, each in primitives of its own
    """

    name: NonEmpty
    words: Count
    width_bits: Count
    contents: NonEmpty
    reads: Count = 1
    writes: Annotated[int, Field(ge=0, le=1)] = 1
    initialised: bool = False
    preferred: tuple[Memory, ...] = ()
    bank_bits: Count | None = None

    @model_validator(mode="after")
    def _filled(self) -> Self:
        if not self.writes and not self.initialised:
            raise ValueError(f"{self.name} is never written and not initialised: nothing could be read from it")
        return self

    @property
    def bits(self) -> int:
        return self.words * self.width_bits

    @property
    def bank(self) -> int:
        return min(self.bank_bits or self.width_bits, self.width_bits)


class Capacity(Frozen):
    """LUTs that can be memory, BRAM_18K and URAM: what a design may take, and what the chip has."""

    limit: dict[Memory, int]
    chip: dict[Memory, int]


class MemoryRow(Frozen):
    """Where one buffer lies.

    words, width_bits   the buffer: `words` addresses of `width_bits`, all of which are read in one cycle
    primitive           RAM64M8, RAM32M16, RAMB18E2, RAMB36E2 or URAM288, used as `depth` x `width`
    primitives          how many of them: partition x those stacked in depth x copies
    partition           primitives side by side, read in the same cycle
    copies              of the whole buffer, for more reads a cycle than a primitive has ports
    data_bits           words x width_bits, counted once
    allocated_bits      what the primitives hold in that shape
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
        return self.taken / self.available if self.available else 0.0


@dataclass(frozen=True)
class Placed:
    """One buffer in primitives of one shape."""

    buffer: Buffer
    primitive: Primitive
    depth: int
    width: int
    copies: int

    @property
    def partition(self) -> int:
        """Primitives side by side."""
        whole, rest = divmod(self.buffer.width_bits, self.buffer.bank)
        return whole * -(-self.buffer.bank // self.width) + -(-rest // self.width)

    @property
    def stacked(self) -> int:
        """Primitives on top of each other."""
        return -(-self.buffer.words // self.depth)

    @property
    def primitives(self) -> int:
        return self.partition * self.stacked * self.copies

    @property
    def taken(self) -> int:
        """In units of the memory; LUTRAM with the LUTs that choose among stacked ones (four inputs a LUT)."""
        choosing = 0
        if self.primitive.memory == "LUTRAM":
            choosing = math.ceil((self.stacked - 1) / 3) * self.buffer.width_bits * self.copies
        return self.primitives * self.primitive.units + choosing

    def where(self, word: int, bit: int, copy: int = 0) -> tuple[int, int, int]:
        """(primitive, address in it, bit in it) that holds one bit of the buffer."""
        bank, within = divmod(bit, self.buffer.bank)
        column, row = bank * -(-self.buffer.bank // self.width) + within // self.width, word // self.depth
        return (copy * self.stacked + row) * self.partition + column, word % self.depth, within % self.width


@dataclass(frozen=True)
class Placement:
    """Every buffer in its place, in the order they were given."""

    placed: tuple[Placed, ...]
    capacity: Capacity

    @property
    def taken(self) -> dict[Memory, int]:
        """LUTs, BRAM_18K and URAM taken."""
        return {m: sum(p.taken for p in self.placed if p.primitive.memory == m) for m in MEMORIES}

    @property
    def on_chip_bytes(self) -> float:
        """All buffers, each once; copies and unused places are not counted."""
        return sum(p.buffer.bits for p in self.placed) / 8

    @property
    def off_chip_bytes(self) -> float:
        """0: a buffer is in a primitive of the chip, or there is no placement."""
        return sum(p.buffer.bits for p in self.placed if p.primitives == 0) / 8

    @property
    def allocated_bytes(self) -> float:
        """What the primitives hold in the shapes they are used in."""
        return sum(p.primitives * p.depth * p.width for p in self.placed) / 8

    @property
    def available_bytes(self) -> float:
        """What all memories of the chip hold."""
        return sum(self.capacity.chip[m] * UNIT_BITS[m] for m in MEMORIES) / 8

    def rows(self) -> tuple[MemoryRow, ...]:
        """For a report (hwkit.artifact.Built.memory)."""
        return tuple(
            MemoryRow(buffer=p.buffer.name, contents=p.buffer.contents, words=p.buffer.words,
                      width_bits=p.buffer.width_bits, memory=p.primitive.memory, primitive=p.primitive.name,
                      depth=p.depth, width=p.width, primitives=p.primitives, partition=p.partition,
                      copies=p.copies, data_bits=p.buffer.bits,
                      allocated_bits=p.primitives * p.depth * p.width, taken=p.taken,
                      available=self.capacity.chip[p.primitive.memory])
            for p in self.placed)


def options(buffer: Buffer) -> tuple[Placed, ...]:
    """The cheapest way to hold `buffer` in each memory that can, the preferred one first.

    Cheapest: fewest units, then fewest primitives, then fewest of them stacked.
    """
    found = []
    for memory in buffer.preferred or MEMORIES:
        if memory == "URAM" and buffer.initialised:
            continue
        ways = [Placed(buffer, p, depth, width, buffer.reads)
                for p in PRIMITIVES if p.memory == memory for depth, width in p.simple]
        if not buffer.writes:
            ways += [Placed(buffer, p, depth, width, -(-buffer.reads // 2))
                     for p in PRIMITIVES if p.memory == memory for depth, width in p.dual]
        found.append(min(ways, key=lambda w: (w.taken, w.primitives, w.stacked)))
    return tuple(found)


_State = tuple[int, int]                     # BRAM_18K and URAM taken
_Front = dict[_State, tuple[int, tuple[Placed, ...]]]      # -> fewest LUTs with which that is possible, and how


def _fronts(buffers: Sequence[Buffer], limit: Mapping[Memory, int]) -> list[_Front]:
    """After each buffer, every way of holding it and those before it that no other way beats in all three."""
    front: _Front = {(0, 0): (0, ())}
    fronts = []
    for buffer in buffers:
        ways = [(option, *_more(option)) for option in options(buffer)]
        grown: _Front = {}
        for (bram, uram), (luts, chosen) in front.items():
            for option, more_luts, more_bram, more_uram in ways:
                state, total = (bram + more_bram, uram + more_uram), luts + more_luts
                if total > limit["LUTRAM"] or state[0] > limit["BRAM"] or state[1] > limit["URAM"]:
                    continue
                if state not in grown or total < grown[state][0]:
                    grown[state] = (total, (*chosen, option))
        front = _unbeaten(grown, limit["URAM"])
        fronts.append(front)
    return fronts


def _more(option: Placed) -> tuple[int, int, int]:
    """LUTs, BRAM_18K and URAM that it takes."""
    luts, bram, uram = (option.taken if option.primitive.memory == m else 0 for m in MEMORIES)
    return luts, bram, uram


def _unbeaten(front: _Front, most_uram: int) -> _Front:
    """Without the states that another one with as few BRAM_18K beats or equals in URAM and LUTs."""
    kept: _Front = {}
    fewest = [math.inf] * (most_uram + 1)    # LUTs with at most so many URAM, among the states kept
    for state in sorted(front):
        luts, uram = front[state][0], state[1]
        if luts < fewest[uram]:
            kept[state] = front[state]
            for more in range(uram, most_uram + 1):
                if fewest[more] <= luts:
                    break
                fewest[more] = luts
    return kept


def place(buffers: Sequence[Buffer], capacity: Capacity,
          changes: Iterable[tuple[str, Sequence[Buffer]]] = ()) -> Placement:
    """The placement that leaves most of the scarcest memory, exactly; then the one that takes least of all.

    changes  ("48 channels instead of 64", the buffers that would need), from the nearest on; made and tried only
             where `buffers` do not fit, to say which of them would

    Raises BadInput when they do not fit: which buffer breaks it, by how much, and the nearest change that fits.
    """
    names = [b.name for b in buffers]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"two buffers have the name {twice[0]}")
    if not fits(buffers, capacity):
        raise _refusal(buffers, capacity, changes)

    def cost(item: tuple[_State, tuple[int, tuple[Placed, ...]]]) -> tuple[float, float]:
        (bram, uram), (luts, _) = item
        limit = capacity.limit
        shares = [used / limit[m] if limit[m] else 0.0
                  for m, used in zip(MEMORIES, (luts, bram, uram), strict=True)]
        return max(shares), sum(shares)

    fronts = _fronts(buffers, _greedy(buffers, capacity.limit))
    chosen = min(fronts[-1].items(), key=cost)[1][1] if buffers else ()
    return Placement(chosen, capacity)


def _greedy(buffers: Sequence[Buffer], limit: Mapping[Memory, int]) -> Mapping[Memory, int]:
    """Limits that the best placement keeps: tighter ones where a simple placement does, for less to search."""
    taken = dict.fromkeys(MEMORIES, 0)

    def share(memory: Memory, more: int) -> float:
        return (taken[memory] + more) / limit[memory] if limit[memory] else math.inf

    for buffer in sorted(buffers, key=lambda b: -b.bits):
        ways = options(buffer)
        if not ways:
            return limit
        best = min(ways, key=lambda o: share(o.primitive.memory, o.taken))
        taken[best.primitive.memory] += best.taken
    most = max(share(m, 0) if taken[m] else 0.0 for m in MEMORIES)
    return {m: math.floor(limit[m] * most + 1e-6) for m in MEMORIES} if most < 1 else limit


def fits(buffers: Sequence[Buffer], capacity: Capacity) -> bool:
    """Whether there is any placement."""
    return not buffers or bool(_fronts(buffers, _greedy(buffers, capacity.limit))[-1])


def _refusal(buffers: Sequence[Buffer], capacity: Capacity,
             changes: Iterable[tuple[str, Sequence[Buffer]]]) -> BadInput:
    """Smaller buffers come first: the one that breaks it is the smallest that has no place beside them."""
    ordered = sorted(buffers, key=lambda b: b.bits)
    fronts = _fronts(ordered, capacity.limit)
    index = next(i for i, front in enumerate(fronts) if not front)
    broken, before = ordered[index], fronts[index - 1] if index else {(0, 0): (0, ())}
    what = f"{broken.name} ({broken.contents}, {broken.words} x {broken.width_bits} bits, {broken.reads} read"
    what += f"{'s' if broken.reads > 1 else ''} a cycle)"
    if not options(broken):
        return BadInput(f"{what} cannot be placed: its contents come with the bitstream, and a URAM starts empty",
                        "let the design load it, or allow BRAM or LUTRAM for it")
    lacking = []
    for (bram, uram), (luts, _) in before.items():
        for option in options(broken):
            memory = option.primitive.memory
            used = {"LUTRAM": luts, "BRAM": bram, "URAM": uram}[memory]
            over = used + option.taken - capacity.limit[memory]
            lacking.append((over / max(1, capacity.limit[memory]), over, memory, option.taken))
    _, over, memory, needed = min(lacking)
    beside = f"beside {index} smaller buffer{'s' if index > 1 else ''}" if index else "even alone"
    message = (f"{what} does not fit on the chip {beside}: as {memory} it takes {needed:,} {UNIT[memory]}, "
               f"{over:,} more than are left of the {capacity.limit[memory]:,} that may be used")
    would = next((text for text, changed in changes if fits(changed, capacity)), "")
    return BadInput(message, _nearest(buffers, broken, capacity, would))


def _nearest(buffers: Sequence[Buffer], broken: Buffer, capacity: Capacity, change: str) -> str:
    """The nearest change that fits: the caller's, and of the buffer itself the most words or bits that do."""

    def most(field: str) -> int:
        """The largest value of one field of `broken` with which everything fits; 0 for none."""

        def fit(value: int) -> bool:
            smaller = broken.model_copy(update={field: value})
            return fits([smaller if b.name == broken.name else b for b in buffers], capacity)

        low, high = 0, getattr(broken, field)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fit(middle) else (low, middle)
        return low

    words, bits = most("words"), most("width_bits")
    found = [f"{words} words instead of {broken.words}"] if words else []
    found += [f"{bits} bits instead of {broken.width_bits}"] if bits else []
    own = f"{broken.name} fits with {' or '.join(found)}" if found else f"nothing is left for {broken.name}"
    return f"{change} fits; {own}" if change else own


MARKS = string.ascii_uppercase + string.ascii_lowercase + string.digits


def draw(rows: Sequence[MemoryRow], chip: Mapping[Memory, int], width: int = 60) -> list[str]:
    """The chip's memories as bars: a letter for each buffer, by its share; dots for what is free.

    A buffer has at least one cell, so a bar can look fuller than it is: the shares beside it are exact.
    """
    lines = []
    for memory in MEMORIES:
        if not chip[memory]:
            continue
        here = [(MARKS[i % len(MARKS)], row) for i, row in enumerate(rows) if row.memory == memory]
        bar = "".join(mark * max(1, round(row.share * width)) for mark, row in here)[:width]
        taken = sum(row.taken for _, row in here)
        lines.append(f"{memory:<7}[{bar:.<{width}}] {taken:,} of {chip[memory]:,} {UNIT[memory]}, "
                     f"{100 * taken / chip[memory]:.1f} %")
        lines += [f"         {mark} {row.buffer}: {100 * row.share:.1f} %" for mark, row in here]
    return lines
