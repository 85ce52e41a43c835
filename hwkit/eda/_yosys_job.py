"""The job that runs Yosys: in a child process, because a fault of the design ends the process."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

from hwkit.eda.yosys import LOG, NETLIST_JSON, NETLIST_VERILOG, share
from hwkit.jobs import Say

_PR_SET_PDEATHSIG = 1   # linux/prctl.h
STEPS = ("begin", "prepare", "map_dsp", "coarse", "map_memory", "map_ffram", "fine", "map_cells", "map_ffs",
         "map_luts", "finalize", "check", "edif")          # the labels of synth_xilinx
_STUBS = "hwkit_primitives.v"


def job(spec: dict[str, Any], say: Say) -> dict[str, Any]:
    """Run synthesis in spec["folder"]; the result is {"cells", "seconds", "files"}. See yosys.synthesize."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)     # do not outlive whoever waits for us
    with contextlib.chdir(spec["folder"]):
        return _synthesised(spec, say)


def _synthesised(spec: dict[str, Any], say: Say) -> dict[str, Any]:
    started = time.monotonic()
    session = _Session(LOG)
    say("reading the sources")
    if spec["frontend"] == "slang":
        _read_slang(session, spec, share())
    else:
        _read_verilog(session, spec)
    options = ["-family", "xcup", "-top", spec["top"], "-noiopad", "-noclkbuf", *spec["extra"]]
    if spec["flatten"] and spec["frontend"] == "verilog":
        options.append("-flatten")
    for number, (step, following) in enumerate(itertools.pairwise(STEPS), 1):
        say(f"{step} ({number} of {len(STEPS) - 1}, {time.monotonic() - started:.0f} s)")
        session.run("synth_xilinx", *options, "-run", f"{step}:{following}")
    session.run("delete", "t:$scopeinfo")       # where a dissolved module was: no cell
    cells = session.cells()
    files = [LOG]
    if spec["netlist_json"] or spec["netlist_verilog"]:
        say("writing the netlist")
        session.run("flatten", "-noscopeinfo")      # after counting: readers of netlists see one module
        session.run("setattr", "-unset", "src", "-unset", "module_not_derived", "c:*")
        session.run("setattr", "-unset", "src", "w:*")
        session.run("select", "-module", spec["top"])
    if spec["netlist_json"]:
        session.run("write_json", "-selected", NETLIST_JSON)
        files.append(NETLIST_JSON)
    if spec["netlist_verilog"]:
        # single bits: a vector that is partly assigned from itself looks like a loop to a simulator
        session.run("opt_clean", "-purge")
        session.run("splitnets")
        session.run("opt_clean", "-purge")
        session.run("write_verilog", "-noattr", "-selected", NETLIST_VERILOG)
        files.append(NETLIST_VERILOG)
    return {"cells": cells, "seconds": round(time.monotonic() - started, 1), "files": files}


class _Session:
    """A design in Yosys; every pass adds to one log."""

    def __init__(self, log: str) -> None:
        from pyosys import libyosys

        self._yosys = libyosys
        self._design = libyosys.Design()
        self._log = log

    def run(self, *words: str) -> None:
        """One pass with its arguments. A fault of the design ends this process."""
        self._yosys.Pass.call(self._design, ["tee", "-q", "-a", self._log, *words])

    def cells(self) -> dict[str, int]:
        """Type -> number of all primitives below the top; a module's instances count by what is in them."""
        self._yosys.Pass.call(self._design, ["tee", "-q", "-o", "stat.json", "stat", "-json", "-tech", "xilinx"])
        text = Path("stat.json").read_text()
        Path("stat.json").unlink()
        found = json.loads(text[text.index("{"):])
        modules = {name.removeprefix("\\") for name in found["modules"]}
        return {cell: number for cell, number in found["design"]["num_cells_by_type"].items()
                if cell.removeprefix("\\") not in modules}


def _read_slang(session: _Session, spec: dict[str, Any], share: Path) -> None:
    sources = spec["sources"]
    names = _primitives(sources, share)
    black = [word for name in names for word in ("--blackboxed-module", name)]
    common = [*sources, _STUBS, "-I", ".", *(f"-D{k}={v}" for k, v in spec["defines"].items())]
    given = [f"{name}={_literal(value)}" for name, value in spec["parameters"].items()]
    if given:      # slang passes over a -G that the top does not have; an instance with that parameter it refuses
        check = "hwkit_check.sv"
        listed = ", ".join(f".{g.partition('=')[0]}({g.partition('=')[2]})" for g in given)
        Path(check).write_text(f"module hwkit_check; {spec['top']} #({listed}) top (); endmodule\n")
        session.run("read_slang", "--top", "hwkit_check", "--ast-compilation-only", "-Wnone", *black, *common,
                    check)
        Path(check).unlink()
    session.run("read_slang", "--top", spec["top"], *black, *common, *(w for g in given for w in ("-G", g)))
    Path(_STUBS).unlink()


def _literal(value: int | str) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _primitives(sources: list[str], share: Path) -> list[str]:
    """Primitives that the sources name and do not define; writes their declarations, which slang wants to see."""
    text = "\n".join(Path(name).read_text(errors="replace") for name in sources)
    words = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", text)) - set(re.findall(r"\bmodule\s+(\w+)", text))
    declared: dict[str, str] = {}
    for library in ("cells_sim.v", "cells_xtra.v"):
        cells = (share / "xilinx" / library).read_text()
        for match in re.finditer(r"^module (\w+)", cells, re.M):
            if match[1] in words:
                declared[match[1]] = cells[match.start():cells.index("endmodule", match.start())] + "endmodule\n"
    Path(_STUBS).write_text("\n".join(declared.values()) or "// none\n")
    return sorted(declared)


def _read_verilog(session: _Session, spec: dict[str, Any]) -> None:
    session.run("read_verilog", "-sv", *(f"-D{k}={v}" for k, v in spec["defines"].items()), "-I.",
                *spec["sources"])
    if spec["parameters"]:
        words = [w for name, value in spec["parameters"].items() for w in ("-set", name, _literal(value))]
        session.run("chparam", *words, spec["top"])
