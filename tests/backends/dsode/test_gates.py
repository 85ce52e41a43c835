"""A small engine at gate level: the synthesised netlist gives what its RTL gives, in the same cycles."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("pyosys")

from hwkit.backends.dsode import schedule
from hwkit.eda import verilator
from hwkit.eda.netlist import netlist_verilog
from hwkit.eda.yosys import synthesize
from tests.backends.dsode.conftest import Designs
from tests.backends.dsode.networks import SMALLEST, states


@pytest.mark.slow
def test_the_netlist_gives_what_the_rtl_gives(design: Designs, tmp_path: Path) -> None:
    """LUTs, flip-flops, DSP48E2, block RAM and shift registers instead of the sources; the same tables and bus."""
    rtl = design(SMALLEST.network(), 2)
    sources = [rtl.folder / name for name in rtl.bench.sources if name.startswith("rtl/")]
    done = synthesize(sources, rtl.bench.top, {}, tmp_path / "synthesis", netlist_json=False, netlist_verilog=True)
    assert done.resources.dsp == rtl.engine.dsps
    assert done.resources.latch == 0
    files = [os.path.relpath(path, rtl.folder) for path in netlist_verilog(done, tmp_path / "netlist")]
    gates = type(rtl)(rtl.network, rtl.engine, rtl.bench.model_copy(update={"sources": tuple(files)}), rtl.folder)
    assert verilator.build(gates.bench, rtl.folder, print) != verilator.build(rtl.bench, rtl.folder, print)
    given = states(rtl.network, 3)
    expected = rtl.network.on_chip(given)
    assert (expected.std(0) > 0).mean() > 0.9
    for stall in (0, 6):
        found, cycles = gates.results(given, tmp_path / "gates", stall)
        assert int((found != expected).sum()) == 0
        by_rtl, rtl_cycles = rtl.results(given, tmp_path / "rtl", stall)
        assert int((found != by_rtl).sum()) == 0
        assert cycles == rtl_cycles
        assert set(cycles.run_cycles) == {schedule.cycles(rtl.network, rtl.engine)}
