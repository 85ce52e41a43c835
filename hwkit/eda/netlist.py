"""A synthesised netlist as Verilog files that Verilator can simulate.

The cells are Yosys' own models of UltraScale+ (cells_sim.v), the few that are used; where Yosys has none, ours in
cells/ after the vendor's user guides: DSP48E2, RAMB18E2, RAMB36E2, URAM288. The top module has the name and ports
of the synthesised one, so the same testbench drives both.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from hwkit.eda.yosys import Synthesis, share
from hwkit.errors import BadInput

OURS = Path(__file__).resolve().parent / "cells"
CELLS_FILE = "netlist_cells.v"
# What the models need: two clocks may write a block RAM, unused pins stay open, cells_sim.v has no time scale.
VERILATOR_FLAGS = ("--timescale", "1ns/1ps", "--no-timing", "-Wno-lint", "-Wno-MULTIDRIVEN", "-Wno-INITIALDLY")
_BLOCK_RAMS = {"RAMB18E2": 2048, "RAMB36E2": 4096}         # bytes, each with a parity bit

_PORT = """\
  wire [FULL/8-1:0] we_{p} = {{{{FULL/8{{1'b0}}}}, {we}}};
  wire [FULL-1:0] old_{p};
  wire [FULL/8-1:0] oldp_{p};
  for (genvar k = 0; k < FULL; k = k + 1) begin : g_old_{p}
    if (k >= R{P}) assign old_{p}[k] = 1'b0;
    else assign old_{p}[k] = (WRITE_MODE_{P} == "WRITE_FIRST" && W{P} == R{P} && we_{p}[k / 8]) ? in_{p}[k]
                             : data[(start_r{p} + k) / 8][(start_r{p} + k) % 8];
    if (k < FULL / 8) begin : g_parity
      if (8 * k >= R{P} || READ_WIDTH_{P} < 9) assign oldp_{p}[k] = 1'b0;
      else assign oldp_{p}[k] = (WRITE_MODE_{P} == "WRITE_FIRST" && W{P} == R{P} && we_{p}[k]) ? inp_{p}[k]
                                : parity[start_r{p} / 8 + k];
    end
  end
  wire [31:0] start_r{p} = start(R{P}, {address});
  wire [31:0] start_w{p} = start(W{P}, {address});
  always @(posedge {clock}) begin : port_{p}
    integer k;
    if ({register_reset}) begin out_{p} <= {sr}; outp_{p} <= {srp}; end
    else if ({register_enable}) begin out_{p} <= read_{p}; outp_{p} <= readp_{p}; end
    if ({enable}) begin
      if ({reset}) begin read_{p} <= {sr}; readp_{p} <= {srp}; end
      else if (WRITE_MODE_{P} != "NO_CHANGE" || W{P} == 0 || we_{p} == 0) begin
        read_{p} <= old_{p}; readp_{p} <= oldp_{p};
      end
      if (W{P} != 0 && W{P} < 8 && we_{p}[0])
        data[start_w{p} / 8][start_w{p} % 8 +: MIN_{P}] <= in_{p}[MIN_{P}-1:0];
      for (k = 0; k < W{P} / 8; k = k + 1)
        if (we_{p}[k]) begin
          data[start_w{p} / 8 + k] <= in_{p}[8 * k +: 8];
          if (WRITE_WIDTH_{P} >= 9) parity[start_w{p} / 8 + k] <= inp_{p}[k];
        end
    end
  end
  localparam MIN_{P} = W{P} == 0 || W{P} > 8 ? 1 : W{P};
"""
_PORTS = (
    {"p": "a", "P": "A", "we": "WEA", "address": "ADDRARDADDR", "clock": "CLKARDCLK", "enable": "ENARDEN",
     "reset": "RSTRAMARSTRAM", "register_reset": "RSTREGARSTREG", "register_enable": "REGCEAREGCE",
     "sr": "sr_a", "srp": "srp_a"},
    {"p": "b", "P": "B", "we": "WEBWE", "address": "ADDRBWRADDR", "clock": "CLKBWRCLK", "enable": "ENBWREN",
     "reset": "RSTRAMB", "register_reset": "RSTREGB", "register_enable": "REGCEB",
     "sr": "{{HALF{1'b0}}, SRVAL_B[HALF-1:0]}", "srp": "{{HALF/8{1'b0}}, SRVAL_B[@TOP@:HALF]}"})


def netlist_verilog(done: Synthesis, folder: Path) -> list[Path]:
    """Files in `folder` that together simulate the netlist of `done`, its top first.

    Compile them with VERILATOR_FLAGS. Raises BadInput when the synthesis kept no Verilog netlist.
    """
    if done.netlist_verilog is None:
        raise BadInput(f"the synthesis of {done.top} kept no netlist", "synthesize it with netlist_verilog=True")
    folder.mkdir(parents=True, exist_ok=True)
    top = folder / done.netlist_verilog.name
    if top.resolve() != done.netlist_verilog.resolve():
        shutil.copyfile(done.netlist_verilog, top)
    (folder / CELLS_FILE).write_text(cell_models(done.cells))
    return [top, folder / CELLS_FILE]


def cell_models(kinds: Collection[str]) -> str:
    """Verilog of these primitives, for simulation. Raises BadInput for one that has no model."""
    library = (share() / "xilinx" / "cells_sim.v").read_text()
    declared = (share() / "xilinx" / "cells_xtra.v").read_text()
    found = []
    for kind in sorted(kinds):
        if kind in _BLOCK_RAMS or (OURS / f"{kind}.v").is_file():
            text = _block_ram(kind) if kind in _BLOCK_RAMS else (OURS / f"{kind}.v").read_text()
            found.append(_complete(text, _module(kind, declared) or ""))
        else:
            text = _module(kind, library) or ""
            if not text:
                raise BadInput(f"there is no simulation model of {kind}")
            found.append(re.sub(r"^\s*specify\b.*?^\s*endspecify\b", "", text, flags=re.M | re.S) + "\n")
    return "\n".join(found)


def _module(kind: str, library: str) -> str | None:
    match = re.search(rf"^module {kind}\b.*?^endmodule", library, re.M | re.S)
    return match[0] if match else None


def _complete(model: str, declaration: str) -> str:
    """A model of ours with the parameters it does not know: they must keep their defaults, or it stops."""
    known = set(re.findall(r"\bparameter\b[^=;]*?(\w+)\s*=", model))
    more = [(text, name, default) for text, name, default
            in re.findall(r"^\s*(parameter\b[^=;]*?(\w+)\s*=\s*([^;]+));", declaration, re.M) if name not in known]
    if not more:
        return model
    checks = " || ".join(f"{name} != {default}" for _, name, default in more)
    model = model.replace(" #(\n", " #(\n" + "".join(f"  {text},\n" for text, _, _ in more), 1)
    return re.sub(r"\nendmodule", f'\n  initial if ({checks})\n    $fatal(1, "a parameter is not in this model");'
                  "\nendmodule", model)


def _block_ram(kind: str) -> str:
    size = _BLOCK_RAMS[kind]
    half = 16 * size // 2048
    data = [f"INIT_{i:02X}" for i in range(size // 32)]
    parity = [f"INITP_{i:02X}" for i in range(size // 256)]
    fill = [f"    for (i = 0; i < 32; i = i + 1) data[{32 * n} + i] = {name}[8 * i +: 8];"
            for n, name in enumerate(data)]
    fill += [f"    for (i = 0; i < 256; i = i + 1) parity[{256 * n} + i] = {name}[i];"
             for n, name in enumerate(parity)]
    text = (OURS / "RAMB.v").read_text().replace("@PORTS@", "".join(_PORT.format(**p) for p in _PORTS))
    marks = {"NAME": kind, "BYTES": size, "HALF": half, "TOP": half * 9 // 8 - 1,
             "ADDRESS": (8 * size - 1).bit_length() - 1, "FILL": "\n".join(fill),
             "INITS": "\n".join(f"  parameter [255:0] {name} = 256'd0," for name in data + parity)}
    for mark, value in marks.items():
        text = text.replace(f"@{mark}@", str(value))
    return text
