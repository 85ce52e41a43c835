"""What a netlist takes of an UltraScale+ part, counted cell by cell.

Every cell type must be in the table: one that is not is an error, never a silent zero. Spelt as the vendor's
reports spell them: CLB LUTs are logic, memory (LUTRAM) and shift registers (SRL) together.
"""

from __future__ import annotations

from collections.abc import Mapping

from hwkit.describe import Frozen
from hwkit.errors import BadInput

BIAS = ("counted from a Yosys netlist before placement: no LUT6_2 pairing and no ternary adders, so LUTs tend to "
        "be above what the vendor's tool reports; carry8 is a lower bound, as two CARRY4 fill a CARRY8 only where "
        "a chain goes on; inverters count nothing, the LUT or pin that follows takes them in")

LUTS = {f"LUT{n}": 1 for n in range(1, 7)} | {"LUT6_2": 1}
SHIFT_REGISTERS = dict.fromkeys(("SRL16", "SRL16E", "SRLC16", "SRLC16E", "SRLC32E"), 1)
LUT_RAMS = {"RAM16X1S": 1, "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4, "RAM512X1S": 8,
            "RAM16X1D": 2, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1D": 8,
            "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8, "RAM32X16DR8": 8, "RAM64X8SW": 8}
FLIP_FLOPS = {name + edge: 1 for name in ("FDRE", "FDSE", "FDCE", "FDPE") for edge in ("", "_1")}
LATCHES = {"LDCE": 1, "LDPE": 1}
DSPS = {"DSP48E2": 1}
BRAMS_18K = {"RAMB18E2": 1, "RAMB36E2": 2}
URAMS = {"URAM288": 1, "URAM288_BASE": 1}
WIDE_MUXES = {"MUXF7": 1, "MUXF8": 1, "MUXF9": 1}
CARRIES = {"CARRY4": 4, "CARRY8": 8}        # bits of each
FREE = frozenset({"INV", "VCC", "GND", "BUFG", "BUFGCE", "IBUF", "OBUF"})   # no LUT and no register

_COUNTED = (LUTS, SHIFT_REGISTERS, LUT_RAMS, FLIP_FLOPS, LATCHES, DSPS, BRAMS_18K, URAMS, WIDE_MUXES, CARRIES)
KNOWN = FREE.union(*_COUNTED)


class Resources(Frozen):
    """Numbers of sites; see BIAS for what they are worth.

    lut_logic  LUT1 to LUT6          lut_ram  LUTs used as memory; these and lut_srl need SLICEM slices
    ff         flip-flops            latch    latches: a design of ours has none
    bram_18k   halves of a block RAM: a RAMB36 is two
    carry8     a lower bound         muxf     MUXF7, MUXF8 and MUXF9
    """

    lut_logic: int = 0
    lut_ram: int = 0
    lut_srl: int = 0
    ff: int = 0
    latch: int = 0
    dsp: int = 0
    bram_18k: int = 0
    uram: int = 0
    carry8: int = 0
    muxf: int = 0

    @property
    def lut(self) -> int:
        return self.lut_logic + self.lut_ram + self.lut_srl

    def counts(self) -> dict[str, int]:
        """What one compares with a part, `lut` first."""
        return {"lut": self.lut, **self.model_dump()}

    def utilisation(self, totals: Mapping[str, int]) -> dict[str, float]:
        """Used / total of each resource named in `totals`, 1.0 is full. Raises BadInput on a name we do not count.

        A part may have none of a resource (total 0): then using any of it is infinitely much.
        """
        counts = self.counts()
        unknown = sorted(set(totals) - set(counts))
        if unknown:
            raise BadInput(f"no resource named {unknown[0]!r}", f"known: {', '.join(counts)}")
        return {name: counts[name] / total if total else (float("inf") if counts[name] else 0.0)
                for name, total in totals.items()}


def require_known(cells: Mapping[str, int]) -> None:
    """Raise BadInput when `cells` (type -> number) holds anything but primitives of the table."""
    unknown = sorted(set(cells) - KNOWN)
    if unknown:
        found = ", ".join(f"{name} ({cells[name]})" for name in unknown[:5])
        raise BadInput(f"not primitives of this part that hwkit can count: {found}",
                       "give the sources of these modules, or map them to primitives")


def count(cells: Mapping[str, int]) -> Resources:
    """Resources of a netlist given as cell type -> number of cells. Raises BadInput on a type not in the table."""
    require_known(cells)

    def total(table: Mapping[str, int]) -> int:
        return sum(table[name] * number for name, number in cells.items() if name in table)

    return Resources(lut_logic=total(LUTS), lut_ram=total(LUT_RAMS), lut_srl=total(SHIFT_REGISTERS),
                     ff=total(FLIP_FLOPS), latch=total(LATCHES), dsp=total(DSPS), bram_18k=total(BRAMS_18K),
                     uram=total(URAMS), carry8=-(-total(CARRIES) // 8), muxf=total(WIDE_MUXES))
