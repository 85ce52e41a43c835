"""The engine's buffers, and which memory of the chip each of them gets."""

from __future__ import annotations

from collections.abc import Iterator

from hwkit.backends.dsode.engine import Engine, Style
from hwkit.memory import Buffer, Capacity, Memory, Placement, place

CONFIGURATION_BITS = 64          # a word of the configuration bus: tables are banks of so many bits
PASS_BITS = 192
# URAM answers later than its clock allows without more registers than the weight tables have.
TABLES: tuple[Memory, ...] = ("LUTRAM", "BRAM")
STATES: tuple[Memory, ...] = ("BRAM", "URAM")


def buffers(engine: Engine) -> tuple[Buffer, ...]:
    """Every memory of the design, held once for all solver steps. All are written by the host or by the engine."""
    return tuple(_buffers(engine))


def _buffers(engine: Engine) -> Iterator[Buffer]:
    bank = 16 * engine.granule
    state = 16 * engine.pe
    yield Buffer(name="state", words=engine.rows, width_bits=state, contents="feature map", preferred=STATES,
                 bank_bits=bank)
    yield Buffer(name="state copy", words=engine.rows, width_bits=state, contents="feature map", preferred=STATES,
                 bank_bits=bank)
    if engine.middle_rows:
        yield Buffer(name="middle", words=engine.middle_rows, width_bits=state, contents="feature map",
                     preferred=STATES, bank_bits=bank)
    # eight tables, one a position in a chain, and nine, one a tap: each in banks of its own
    position, tap = 4 * engine.pe * engine.simd // 8, 4 * engine.pe
    yield Buffer(name="pointwise weights", words=engine.weight_rows, width_bits=8 * position, contents="weights",
                 preferred=TABLES, bank_bits=min(position, CONFIGURATION_BITS))
    yield Buffer(name="depthwise weights", words=engine.lane_rows, width_bits=9 * tap, contents="weights",
                 preferred=TABLES, bank_bits=min(tap, CONFIGURATION_BITS))
    # 16 bits of bias and 3 of shift, 20 and 3: what a word holds beyond is dropped by synthesis
    yield Buffer(name="depthwise biases", words=engine.lane_rows, width_bits=32 * engine.pe, contents="biases",
                 preferred=TABLES, bank_bits=CONFIGURATION_BITS)
    yield Buffer(name="pointwise biases", words=engine.bias_rows, width_bits=32 * engine.pe, contents="biases",
                 preferred=TABLES, bank_bits=CONFIGURATION_BITS)
    yield Buffer(name="program", words=engine.passes, width_bits=PASS_BITS, contents="program",
                 preferred=("LUTRAM",), bank_bits=CONFIGURATION_BITS)


# A group of buffers is one parameter of the design: they all lie in the same kind of memory.
GROUPS = {"state_style": ("state", "state copy", "middle"), "weight_style": ("pointwise weights",),
          "lane_style": ("depthwise weights", "depthwise biases"), "bias_style": ("pointwise biases",)}


def placed(engine: Engine, capacity: Capacity, spare_luts: bool = False) -> tuple[Engine, Placement]:
    """The engine with its memories chosen, and where each buffer lies. Raises BadInput when they do not fit.

    spare_luts   tables go to block RAM, not where they take the least share of a memory
    """
    wanted = buffers(engine)
    if spare_luts:
        wanted = tuple(b.model_copy(update={"preferred": ("BRAM",)}) if b.preferred == TABLES else b
                       for b in wanted)
    free = place(wanted, capacity)
    chosen: dict[str, Style] = {}
    for group, names in GROUPS.items():
        kinds = [p.primitive.memory for p in free.placed if p.buffer.name.startswith(names)]
        chosen[group] = max(sorted(set(kinds)), key=kinds.count)
    fixed = engine.model_copy(update=chosen)
    return fixed, place([_pinned(b, chosen) for b in buffers(fixed)], capacity)


def _pinned(buffer: Buffer, chosen: dict[str, Style]) -> Buffer:
    for group, names in GROUPS.items():
        if buffer.name.startswith(names):
            return buffer.model_copy(update={"preferred": (chosen[group],)})
    return buffer
