"""Everything a design consists of, as files: RTL, its parameters, tables, testbench."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from hwkit.backends.dsode import program, schedule
from hwkit.backends.dsode.engine import Engine
from hwkit.data import shipped
from hwkit.eda import yosys
from hwkit.eda.verilator import Bench
from hwkit.files import write
from hwkit.integer.separable import IntegerNetwork
from hwkit.jobs import Say

TOP = "dsode_top"
RTL = ("delay.sv", "ram.sv", "dsp.sv", "depthwise.sv", "pointwise.sv", "update.sv", "window.sv", "core.sv",
       "dsode.sv")
SIMULATION = ("dsp48e2.sv",)
TESTBENCH = "testbench.cpp"
CONFIG = "tables.bin"
RECORD = np.dtype([("bank", "<u4"), ("row", "<u4"), ("word", "<u8")])

_PORTS = """    input  wire         aclk,
    input  wire         aresetn,
    input  wire [7:0]   s_axi_awaddr,
    input  wire         s_axi_awvalid,
    output wire         s_axi_awready,
    input  wire [31:0]  s_axi_wdata,
    input  wire [3:0]   s_axi_wstrb,
    input  wire         s_axi_wvalid,
    output wire         s_axi_wready,
    output wire [1:0]   s_axi_bresp,
    output wire         s_axi_bvalid,
    input  wire         s_axi_bready,
    input  wire [7:0]   s_axi_araddr,
    input  wire         s_axi_arvalid,
    output wire         s_axi_arready,
    output wire [31:0]  s_axi_rdata,
    output wire [1:0]   s_axi_rresp,
    output wire         s_axi_rvalid,
    input  wire         s_axi_rready,
    input  wire [{top}:0] s_axis_tdata,
    input  wire         s_axis_tvalid,
    output wire         s_axis_tready,
    input  wire         s_axis_tlast,
    output wire [{top}:0] m_axis_tdata,
    output wire [{keep}:0]  m_axis_tkeep,
    output wire         m_axis_tvalid,
    input  wire         m_axis_tready,
    output wire         m_axis_tlast"""


def stream_bits(engine: Engine, widest: int) -> int:
    """Bits of a beat: the stream's width, or a whole row where that is narrower."""
    return min(widest, 8 * engine.row_bytes)


def state_rows(engine: Engine, shape: int) -> int:
    """Rows of the state memory that a state of this shape takes."""
    at = engine.shapes[shape]
    return -(-at.slots // (1 << shape))


def design_digest(engine: Engine, bits: int) -> int:
    """32 bits that tell designs apart: tables made for one do not run on another."""
    text = json.dumps([engine.model_dump(mode="json"), bits, [_text(name) for name in RTL]], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _text(name: str) -> str:
    return shipped("hls", "dsode", "rtl", name).read_text()


def top_module(engine: Engine, bits: int) -> str:
    """The module to build: `dsode` with this design's parameters, and nothing else."""
    parameters = {**engine.parameters(), "IN_ROWS": state_rows(engine, 0),
                  "OUT_ROWS": state_rows(engine, len(engine.shapes) - 1), "STREAM": bits,
                  "DIGEST": f"32'h{design_digest(engine, bits):08x}"}
    given = ",\n".join(f"        .{name}({value})" for name, value in parameters.items())
    names = [line.split()[-1].rstrip(",") for line in _PORTS.splitlines()]
    wired = ",\n".join(f"        .{name}({name})" for name in names)
    ports = _PORTS.format(top=bits - 1, keep=bits // 8 - 1)
    return (f"`default_nettype none\n\nmodule {TOP} (\n{ports}\n);\n    dsode #(\n{given}\n    ) engine (\n{wired}"
            "\n    );\nendmodule\n\n`default_nettype wire\n")


def write_rtl(engine: Engine, bits: int, folder: Path) -> list[str]:
    """The synthesisable sources in `folder`/rtl; their names relative to `folder`."""
    (folder / "rtl").mkdir(parents=True, exist_ok=True)
    for name in RTL:
        shutil.copyfile(shipped("hls", "dsode", "rtl", name), folder / "rtl" / name)
    write(folder / "rtl" / f"{TOP}.sv", top_module(engine, bits))
    return [f"rtl/{name}" for name in (*RTL, f"{TOP}.sv")]


def synthesise(engine: Engine, bits: int, folder: Path, say: Say) -> yosys.Synthesis:
    """What Yosys makes of the design, flat; its log and netlist lie in `folder`/synthesis."""
    sources = [folder / name for name in write_rtl(engine, bits, folder)]
    # every DSP is instantiated: where products are to be of LUTs, none may be made of the rest
    in_luts = engine.lut_blocks > 0 or not engine.depthwise_dsp
    return yosys.synthesize(sources, TOP, {}, folder / "synthesis", frontend="verilog", flatten=True,
                            extra=("-nodsp",) if in_luts else (), say=say)


def write_design(network: IntegerNetwork, engine: Engine, bits: int, folder: Path) -> Bench:
    """RTL, tables and testbench under `folder`. Raises BadInput where a table cannot hold the network."""
    sources = write_rtl(engine, bits, folder)
    (folder / "sim").mkdir(exist_ok=True)
    for name in (*SIMULATION, TESTBENCH):
        shutil.copyfile(shipped("hls", "dsode", "sim", name), folder / "sim" / name)
    records = np.array(program.configuration(network, engine), RECORD)
    write(folder / CONFIG, records.tobytes())
    beats = 8 * engine.row_bytes // bits
    cycles = schedule.cycles(network, engine)
    rows_in, rows_out = state_rows(engine, 0), state_rows(engine, len(engine.shapes) - 1)
    return Bench(top=TOP, prefix="dsode", testbench=f"sim/{TESTBENCH}", config=CONFIG,
                 sources=(*sources, *(f"sim/{n}" for n in SIMULATION)),
                 stream_bytes=bits // 8, beats_in=rows_in * beats, beats_out=rows_out * beats,
                 limit_cycles=20 * (cycles + (rows_in + rows_out) * (beats + 4)))
