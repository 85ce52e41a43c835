"""The generated code, moved into folders with lasting names and without paths of the machine it was made on."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from .rolling import bodies

FOLDER = "codegen"
TEXT = (".cpp", ".h", ".hpp", ".tcl", ".v", ".sv", ".vh", ".dat", ".txt", ".json")
README = """Code that FINN {version} generated, one folder a layer. It was not synthesised: vendor tools do that.

*_hls_*: Vitis HLS C++ and the Tcl script that makes an IP block of it. Start the script in its own folder, with
FINN_DEPS naming a folder that holds finn-hlslib and attention-hlslib, FINN_CUSTOM_HLS naming FINN's custom_hls.
*_rtl_*: Verilog around modules of FINN's finn-rtllib, which the Python package finn-plus carries. memblock.dat and
the *.dat files beside a module are the contents of its memories.
"""


def _lasting(text: str, folder: str, site: Path) -> str:
    """`folder` becomes "." and FINN's own folders become the environment variables that name them."""
    text = text.replace(folder, ".")
    text = re.sub(re.escape(str(site)) + r"[^\s\"']*/finn_deps", "$::env(FINN_DEPS)", text)
    return text.replace(str(site), "$::env(FINN_ROOT)")


def gather(model: ModelWrapper, build: Path, site: Path, version: str) -> list[str]:
    """Copy the code of every layer to build/codegen/<layer>/; their paths, relative to `build`, sorted."""
    made = []
    graphs: list[Any] = [model, *(body for body, _ in bodies(model).values())]
    for node in (n for graph in graphs for n in graph.graph.node):
        layer = getCustomOp(node)
        folder = "code_gen_dir_ipgen" in layer.get_nodeattr_types() and layer.get_nodeattr("code_gen_dir_ipgen")
        if not folder:
            continue
        for path in sorted(p for p in Path(folder).rglob("*") if p.is_file() and p.suffix in TEXT):
            place = build / FOLDER / node.name / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            text = _lasting(path.read_text(errors="replace"), folder, site)
            place.write_text(text.replace(os.path.realpath(build), ".."))
            made.append(str(place.relative_to(build)))
    (build / FOLDER / "README.txt").write_text(README.format(version=version))
    return sorted([*made, f"{FOLDER}/README.txt"])


def external(build: Path, files: list[str]) -> dict[str, list[str]]:
    """Layer -> the AXI masters its generated module has: what it reads and writes outside the chip."""
    found: dict[str, set[str]] = {}
    for file in files:
        if not file.endswith((".v", ".sv")):
            continue
        names = re.findall(r"\b(m_axi_\w+)_a[wr]addr\b", (build / file).read_text())
        if names:
            found.setdefault(Path(file).parts[1], set()).update(names)
    return {layer: sorted(names) for layer, names in found.items()}
