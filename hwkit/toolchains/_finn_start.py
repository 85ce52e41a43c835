"""Makes FINN importable with no vendor tool. Lies in FINN's environment as `finn_start`; hwkit never imports it.

Three things stand in the way of estimates and code generation, which need none of them:
- FINN asks for Vivado by path and version: a path of the right form is enough.
- Its build steps import the names of a simulator that is compiled against Vivado: empty classes are enough.
- LayerNorm's Python model imports torch (0.75 GB): an empty module is enough for every other layer.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from typing import Any

VIVADO = "/nonexistent/Vivado/2024.2"


class StandIn(types.ModuleType):
    """A module where every public name is an empty class, so that isinstance() tests say no."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = type(name, (), {})
        setattr(self, name, found)
        return found


def start() -> None:
    """Import FINN's builder. Call it before anything of FINN; HOME and FINN_BUILD_DIR must be writable."""
    os.environ.setdefault("XILINX_VIVADO", VIVADO)
    torch, nn, functional = StandIn("torch"), StandIn("torch.nn"), StandIn("torch.nn.functional")
    vars(torch)["nn"], vars(nn)["functional"] = nn, functional
    sys.modules.update({m.__name__: m for m in (torch, nn, functional)})
    simulator = importlib.import_module("finn.xsi")
    for name in simulator._LAZY_NAMES:
        setattr(simulator, name, type(name, (), {}))
    importlib.import_module("finn.builder.build_dataflow_steps")
