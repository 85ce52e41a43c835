"""Synthesis of SystemVerilog for UltraScale+ with Yosys (the pyosys wheel): cell counts, netlists, a log.

    done = synthesize([Path("engine.sv")], "engine", {"LANES": 64}, work, say=print)
    done.resources.lut, done.netlist_json, done.log

Yosys is native code that ends its process on an error, so it always runs in a child. Results are kept under
cache_root()/synthesis by the digest of everything they depend on: the same question is answered at once.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal

from hwkit.data import cache_root
from hwkit.describe import Frozen
from hwkit.eda import resources
from hwkit.errors import BadInput, JobFailed, ToolMissing
from hwkit.files import sha256, write, write_json
from hwkit.jobs import Say, call
from hwkit.made import ensure, folder_for

HINT = 'pip install "hwkit[fpga-sim]"'
LOG, DONE = "yosys.log", "synthesis.json"
NETLIST_JSON, NETLIST_VERILOG = "netlist.json", "netlist.v"
REVISION = 2                 # raise it when the steps of the job change: old cache entries are then not found

Frontend = Literal["slang", "verilog"]
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_ERROR = re.compile(r"^(?:(?P<where>[^\s:][^\n:]*:\d+)[.:\d-]*: )?ERROR: (?P<what>.+)$", re.M)


class Synthesis(Frozen):
    """What Yosys made of a design. Paths are in the `work` folder; None where it was not asked for.

    cells      cell type -> number, submodules included; primitives only
    seconds    duration of the synthesis itself, also where it came from the cache
    """

    top: str
    parameters: dict[str, int | str]
    cells: dict[str, int]
    log: Path
    netlist_json: Path | None
    netlist_verilog: Path | None
    tool: str
    seconds: float
    cached: bool

    @property
    def resources(self) -> resources.Resources:
        return resources.count(self.cells)


def version() -> str:
    """Version of pyosys. Raises ToolMissing."""
    try:
        return metadata.version("pyosys")
    except metadata.PackageNotFoundError:
        raise ToolMissing("pyosys is not installed", HINT) from None


def share() -> Path:
    """The folder of Yosys' own files, such as xilinx/cells_sim.v. Raises ToolMissing."""
    found = util.find_spec("pyosys")
    if found is None or found.origin is None:
        raise ToolMissing("pyosys is not installed", HINT)
    return Path(found.origin).parent / "share"


def synthesize(sources: Sequence[Path], top: str, parameters: Mapping[str, int | str], work: Path, *,
               data: Sequence[Path] = (), includes: Sequence[Path] = (), defines: Mapping[str, str] | None = None,
               frontend: Frontend = "slang", flatten: bool = True, extra: Sequence[str] = (),
               netlist_json: bool = True, netlist_verilog: bool = False, timeout_s: float = 3600.0,
               say: Say | None = None) -> Synthesis:
    """Synthesise module `top` for UltraScale+ (`synth_xilinx -family xcup`), out of context: no pads, no BUFG.

    sources          in the order they are read: packages first
    parameters       of the top module; a name it does not have is an error
    work             gets the log and the netlists, under the names LOG, NETLIST_JSON and NETLIST_VERILOG
    data             files that $readmemh and the like open by their bare name
    includes         files (not folders) that `include finds by their bare name
    frontend         "slang" knows all of SystemVerilog and always flattens; "verilog" is Yosys' own reader, which
                     refuses many legal files (typed function arguments, assignment patterns ...)
    flatten          with "verilog": dissolve the hierarchy before mapping; without it LUTs are about 5 % more
    extra            more options of synth_xilinx, e.g. "-uram", "-nodsp"
    Raises BadInput for faults of the sources (with file:line where Yosys gives one), for an unknown module, an
    empty result or cells that are not primitives; JobFailed when Yosys dies or outlasts `timeout_s`.
    """
    if not sources:
        raise BadInput("nothing to synthesise: no source files")
    files = [*sources, *data, *includes]
    for path in files:
        if not path.is_file():
            raise BadInput(f"{path}: no such file")
    for name in (top, *parameters, *(defines or {})):
        if not _IDENTIFIER.fullmatch(name):
            raise BadInput(f"{name!r} is not a name in Verilog")
    if len({path.name for path in files}) != len(files):
        raise BadInput("two source or data files have the same name: " + ", ".join(sorted(p.name for p in files)))
    spec = {"top": top, "parameters": dict(sorted(parameters.items())), "extra": list(extra), "frontend": frontend,
            "flatten": flatten, "defines": dict(sorted((defines or {}).items())),
            "sources": [p.name for p in sources], "netlist_json": netlist_json, "netlist_verilog": netlist_verilog}
    recipe = {"tool": [f"pyosys {version()}", f"steps {REVISION}"], "spec": [json.dumps(spec, sort_keys=True)],
              "sources": [f"{p.name} {sha256(p)}" for p in sources],
              "data": sorted(f"{p.name} {sha256(p)}" for p in [*data, *includes])}
    cached = True

    def fill(scratch: Path) -> dict[str, str]:
        nonlocal cached
        cached = False
        for path in files:
            shutil.copyfile(path, scratch / path.name)
        found = _run(spec, scratch, work, timeout_s, say)
        write_json(scratch / DONE, found)
        for path in files:
            (scratch / path.name).unlink()
        return {"seconds": str(found["seconds"])}

    folder = ensure(folder_for(cache_root() / "synthesis", top, recipe), recipe, fill)
    done = json.loads((folder / DONE).read_text())
    work.mkdir(parents=True, exist_ok=True)
    for name in done["files"]:
        shutil.copyfile(folder / name, work / name)
    return Synthesis(
        top=top, parameters=dict(parameters), cells=done["cells"], log=work / LOG,
        netlist_json=work / NETLIST_JSON if netlist_json else None,
        netlist_verilog=work / NETLIST_VERILOG if netlist_verilog else None,
        tool=recipe["tool"][0], seconds=done["seconds"], cached=cached)


def _run(spec: dict[str, Any], folder: Path, work: Path, timeout_s: float, say: Say | None) -> dict[str, Any]:
    """Synthesise in `folder`, which holds the sources. A failure leaves its log in `work`."""
    top = spec["top"]
    try:
        found: dict[str, Any] = call("hwkit.eda._yosys_job:job", {**spec, "folder": str(folder)},
                                     what=f"synthesis of {top}", timeout_s=timeout_s, progress=say)
    except JobFailed as e:
        log = (folder / LOG).read_text(errors="replace") if (folder / LOG).is_file() else ""
        if log:
            write(work / LOG, log)
        first = _ERROR.search(f"{log}\n{e.log}")
        if first is None:
            raise
        where = f"{first['where']}: " if first["where"] else ""
        raise BadInput(f"{where}{first['what']}".replace(f"{folder}/", ""), f"the log is {work / LOG}") from None
    if not found["cells"]:
        raise BadInput(f"nothing is left of {top} after synthesis: its outputs are constant or it has none",
                       "check the top module and its parameters")
    resources.require_known(found["cells"])
    return found
