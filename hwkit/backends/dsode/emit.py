"""Everything a design consists of, as files: RTL, its parameters, tables, testbench."""

from __future__ import annotations

import hashlib
import json
import re
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

_PORTS = re.compile(r"^\) \(\n(.*?)\n\);", re.DOTALL | re.MULTILINE)      # of a module with parameters


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
    found = _PORTS.search(_text("dsode.sv"))
    assert found is not None
    ports = re.sub(r"\boutput reg ", "output wire", found[1]).replace("STREAM", str(bits))
    names = [line.split()[-1].rstrip(",") for line in ports.splitlines()]
    wired = ",\n".join(f"        .{name}({name})" for name in names)
    return (f"`default_nettype none\n\nmodule {TOP} (\n{ports}\n);\n    dsode #(\n{given}\n    ) engine (\n{wired}"
            "\n    );\nendmodule\n\n`default_nettype wire\n")


def write_rtl(engine: Engine, bits: int, folder: Path) -> list[str]:
    """The synthesisable sources in `folder`/rtl; their names relative to `folder`."""
    (folder / "rtl").mkdir(parents=True, exist_ok=True)
    for name in RTL:
        shutil.copyfile(shipped("hls", "dsode", "rtl", name), folder / "rtl" / name)
    write(folder / "rtl" / f"{TOP}.sv", top_module(engine, bits))
    return [f"rtl/{name}" for name in (*RTL, f"{TOP}.sv")]


def synthesise(engine: Engine, folder: Path, work: Path, say: Say) -> yosys.Synthesis:
    """What Yosys makes of the design that write_rtl put into `folder`, flat; log and netlist go to `work`."""
    sources = [folder / "rtl" / name for name in (*RTL, f"{TOP}.sv")]
    # every DSP is instantiated: where products are to be of LUTs, none may be made of the rest
    in_luts = engine.lut_blocks > 0 or not engine.depthwise_dsp
    return yosys.synthesize(sources, TOP, {}, work, frontend="verilog", flatten=True,
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
