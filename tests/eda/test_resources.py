"""Counting cells, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit.eda.resources import KNOWN, Resources, count
from hwkit.errors import BadInput

CELLS = {"LUT1": 3, "LUT6": 5, "INV": 7, "FDRE": 10, "FDSE": 1, "FDCE": 2, "CARRY4": 3, "CARRY8": 1, "MUXF7": 2,
         "MUXF8": 1, "RAM32M16": 2, "RAM64X1D": 1, "RAM512X1S": 1, "SRL16E": 4, "SRLC32E": 6, "RAMB18E2": 3,
         "RAMB36E2": 2, "URAM288": 4, "DSP48E2": 9}


def test_by_hand() -> None:
    found = count(CELLS)
    assert found == Resources(lut_logic=8, lut_ram=2 * 8 + 2 + 8, lut_srl=10, ff=13, dsp=9, bram_18k=3 + 2 * 2,
                              uram=4, muxf=3, carry8=3)      # 3 CARRY4 and 1 CARRY8 are 20 bits: 2.5 CARRY8
    assert found.lut == 8 + 26 + 10
    assert found.counts()["lut"] == found.lut


def test_a_type_that_is_not_in_the_table_is_an_error() -> None:
    with pytest.raises(BadInput, match=r"\$_NAND_ \(2\), mystery \(1\)"):
        count({**CELLS, "mystery": 1, "$_NAND_": 2})


def test_utilisation() -> None:
    part = {"lut": 440, "ff": 130, "dsp": 9, "bram_18k": 14, "uram": 2}
    assert count(CELLS).utilisation(part) == {"lut": 0.1, "ff": 0.1, "dsp": 1.0, "bram_18k": 0.5, "uram": 2.0}
    assert count(CELLS).utilisation({"uram": 0})["uram"] == float("inf")
    assert count({"LUT1": 1}).utilisation({"uram": 0}) == {"uram": 0.0}
    with pytest.raises(BadInput, match="no resource named 'luts'"):
        count(CELLS).utilisation({"luts": 1})


cells = st.dictionaries(st.sampled_from(sorted(KNOWN - {"CARRY4", "CARRY8"})), st.integers(0, 1000))


@given(cells, cells)
@settings(deadline=None)
def test_two_designs_side_by_side_take_the_sum(one: dict[str, int], other: dict[str, int]) -> None:
    both = {kind: one.get(kind, 0) + other.get(kind, 0) for kind in {*one, *other}}
    sums = {name: n + count(other).counts()[name] for name, n in count(one).counts().items()}
    assert count(both).counts() == sums
