"""One synthesis that many tests look at: the design in rtl/dut.sv, with what it takes counted by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hwkit.eda.resources import Resources
from hwkit.eda.yosys import Synthesis, synthesize

RTL = Path(__file__).parent / "rtl"
DUT = RTL / "dut.sv"
TAKES = Resources(
    ff=16 + 8 + 12 + 20 + 16 + 32,          # count, a, b, product, mac, v
    dsp=1 + 2 + 2,                          # a * b, two constant taps, two instantiated
    lut_ram=8,                              # 32 x 8 as one RAM32M16
    lut_srl=8,                              # 8 bits, 20 deep
    bram_18k=1 + 1 + 2 + 1,                 # 512 x 36, 2048 x 8, 1024 x 32 as RAMB36, the ROM
    uram=1)


@dataclass(frozen=True)
class Run:
    done: Synthesis
    said: list[str]


@pytest.fixture(scope="package")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of its own for the tests of this folder: what they leave in it nobody else shall find."""
    pytest.importorskip("pyosys")
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWKIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="package")
def dut(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    said: list[str] = []
    work = tmp_path_factory.mktemp("dut")
    return Run(synthesize([DUT], "dut", {}, work, netlist_verilog=True, timeout_s=900, say=said.append), said)
