"""Which output bit of a primitive depends on which input bits without a register in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hwkit.eda import resources

Bit = int | str              # a net, or "0", "1", "x", "z"
Pins = Mapping[str, Sequence[Bit]]

READS = frozenset({*resources.LUT_RAMS, *resources.SHIFT_REGISTERS})       # read without a clock
_MUXES = frozenset(resources.WIDE_MUXES)
_WIRES = frozenset({"INV", "BUFG", "BUFGCE", "IBUF", "OBUF"})
_DSP_RESULTS = ("P", "PCOUT", "CARRYOUT", "CARRYCASCOUT", "MULTSIGNOUT", "PATTERNDETECT", "PATTERNBDETECT",
                "OVERFLOW", "UNDERFLOW", "XOROUT")


class Weight(NamedTuple):
    """What an arc adds to a path; compared in this order."""

    levels: int
    chains: int
    dsps: int
    muxes: int


NOTHING = Weight(0, 0, 0, 0)
LUT = Weight(1, 0, 0, 0)
CHAIN = Weight(1, 1, 0, 0)
DSP = Weight(1, 0, 1, 0)
MUX = Weight(0, 0, 0, 1)


class Arc(NamedTuple):
    """From any of `sources` to all of `sinks`. `joins`: free where a source is itself a carry output."""

    sources: tuple[Bit, ...]
    sinks: tuple[Bit, ...]
    weight: Weight
    joins: bool = False


def arcs(kind: str, pins: Pins, parameters: Mapping[str, Any]) -> Iterator[Arc]:
    """The combinational arcs of one cell of type `kind`."""
    if kind in resources.LUTS:
        yield Arc(_bits(pins, "I"), _bits(pins, "O"), LUT)
    elif kind in resources.CARRIES:
        yield from _carry(pins)
    elif kind in _MUXES:
        yield Arc(_bits(pins, "I", "S"), _bits(pins, "O"), MUX)
    elif kind in _WIRES:
        yield Arc(_bits(pins, "I"), _bits(pins, "O"), NOTHING)
    elif kind in resources.SHIFT_REGISTERS:
        yield Arc(_bits(pins, "A"), tuple(pins.get("Q", ())), LUT)
    elif kind in resources.LUT_RAMS:
        yield from _lut_ram(pins)
    elif kind in resources.DSPS:
        yield from _dsp(pins, parameters)


def carry_outputs(pins: Pins) -> tuple[Bit, ...]:
    return tuple(pins.get("CO", ()))


def _bits(pins: Pins, *prefixes: str) -> tuple[Bit, ...]:
    return tuple(bit for name, bits in pins.items() if name.startswith(prefixes) for bit in bits)


def _carry(pins: Pins) -> Iterator[Arc]:
    """Sum and carry bit i depend on the inputs of bits 0 to i, and on the carry into the cell."""
    select, data = tuple(pins.get("S", ())), tuple(pins.get("DI", ()))
    for port, own in (("O", 0), ("CO", 1)):
        for i, sink in enumerate(pins.get(port, ())):
            # a sum bit sees its own select but only the data of the bits below
            sources = (*select[:i + 1], *data[:i + own], *pins.get("CYINIT", ()),
                       *(pins.get("CI_TOP", ()) if i >= 4 else ()))
            yield Arc(sources, (sink,), CHAIN)
            yield Arc(tuple(pins.get("CI", ())), (sink,), CHAIN, joins=True)


def _lut_ram(pins: Pins) -> Iterator[Arc]:
    for name, bits in pins.items():
        if name.startswith("DO"):
            yield Arc(_bits(pins, f"ADDR{name[2:]}"), tuple(bits), LUT)
    yield Arc(_bits(pins, "DPRA"), tuple(pins.get("DPO", ())), LUT)
    address = tuple(bit for name, bits in pins.items() if name == "A" or (name[:1] == "A" and name[1:].isdigit())
                    for bit in bits)
    yield Arc(address, (*pins.get("SPO", ()), *pins.get("O", ())), LUT)


def number(parameters: Mapping[str, Any], name: str, default: int) -> int:
    """A parameter as Yosys writes it: a string of binary digits, or a number."""
    value = parameters.get(name, default)
    return int(value, 2) if isinstance(value, str) and set(value) <= {"0", "1"} and value else int(value)


def _dsp(pins: Pins, parameters: Mapping[str, Any]) -> Iterator[Arc]:
    """A DSP48E2 is as transparent as its pipeline registers are left out."""

    def direct(*registers: str) -> bool:
        return all(number(parameters, name, 1) == 0 for name in registers)

    def cascaded(port: str) -> str:
        return f"{port}CIN" if parameters.get(f"{port}_INPUT") == "CASCADE" else port

    a, b = cascaded("A"), cascaded("B")
    adds = "AD" in (parameters.get("AMULTSEL", "A"), parameters.get("BMULTSEL", "B"))
    sources: list[Bit] = []
    if direct("PREG"):
        multiplies = parameters.get("USE_MULT", "MULTIPLY") != "NONE"
        if not multiplies or direct("MREG"):
            through_adder = ("ADREG",) if adds and multiplies else ()
            for pin, registers in ((a, ("AREG", *through_adder)), (b, ("BREG",)),
                                   ("D", ("DREG", "ADREG")), ("INMODE", ("INMODEREG",))):
                if direct(*registers) and (pin != "D" or adds):
                    sources += pins.get(pin, ())
        for pin, register in (("C", "CREG"), ("CARRYIN", "CARRYINREG"), ("OPMODE", "OPMODEREG"),
                              ("ALUMODE", "ALUMODEREG"), ("CARRYINSEL", "CARRYINSELREG")):
            if direct(register):
                sources += pins.get(pin, ())
        for pin in ("PCIN", "CARRYCASCIN", "MULTSIGNIN"):
            sources += pins.get(pin, ())
    sinks = tuple(bit for pin in _DSP_RESULTS for bit in pins.get(pin, ()))
    yield Arc(tuple(sources), sinks, DSP)
    for port, register, source in (("ACOUT", "ACASCREG", a), ("BCOUT", "BCASCREG", b)):
        if direct(register):
            yield Arc(tuple(pins.get(source, ())), tuple(pins.get(port, ())), NOTHING)
