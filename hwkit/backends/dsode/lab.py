"""What one takes to the lab: scripts for the vendor's tools, an IP package, and a driver for the board.

Everything here is text made from templates and tables made from the network. None of it was run with the vendor's
tools; the driver is tested against a model of the engine's registers.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwkit.backends.dsode import emit as rtl
from hwkit.backends.dsode import hls, schedule
from hwkit.backends.dsode.engine import Engine
from hwkit.data import shipped
from hwkit.errors import BadInput
from hwkit.files import write, write_json
from hwkit.integer.separable import IntegerNetwork

FOLDER = "lab"
DRIVER = "dsode_driver.py"
NOT_RUN = "not run with vendor tools"
# Of the header of dsode.sv: byte address, how it is used, what it is.
REGISTERS = {
    "CONTROL": (0x00, "read, write", "bit 0 ENABLE, bit 1 RESET: the engine is held in reset while set"),
    "STATUS": (0x04, "read; bit 3: write 1 clears",
               "bit 0 running, bit 1 receiving, bit 2 sending, bit 3 TLAST came at the wrong beat"),
    "MAGIC": (0x08, "read", 'reads 0x64736f64, "dsod"'),
    "DIGEST": (0x0C, "read", "of the design: tables made for another one are refused"),
    "CYCLES": (0x10, "read", "of the last run, from its start to its last write"),
    "IMAGES": (0x14, "read", "runs since reset"),
    "TABLE": (0x20, "write", "bank in bits 31..16, row in bits 15..0"),
    "LOW": (0x24, "write", "bits 31..0 of a table's word"),
    "HIGH": (0x28, "write", "bits 63..32; writing it stores the word and moves on to the next row of the bank"),
}
CHECKED_IMAGES = 4
MHZ = 1e6


def emit(network: IntegerNetwork, engine: Engine, bits: int, part: str, clock_hz: float, folder: Path, *,
         board_part: str = "") -> list[str]:
    """Write `folder`/lab, next to the design that `write_design` has put into `folder`; returns the files' names.

    bits         of a beat of the streams
    part         as the vendor's tools spell it;  board_part: the same for the board, "" where there is none
    The same network gives the same bytes. Raises BadInput where the network does not fit the engine, or a name
    holds what Tcl would read as more than a name.
    """
    _require_plain(part=part, board_part=board_part)
    if not MHZ <= clock_hz <= 1000 * MHZ:
        raise BadInput(f"a clock of {clock_hz:g} Hz: programmable logic runs at 1 to 1000 MHz")
    lab = folder / FOLDER
    digest = f"0x{rtl.design_digest(engine, bits):08x}"
    names = [f"hls/{name}" for name in hls.emit(network, engine.pe, lab / "hls")]
    names += _hls_script(network, part, clock_hz, lab)
    names += _vivado({
        "PART": part, "BOARD_PART": board_part, "TOP": rtl.TOP, "SOURCES": " ".join((*rtl.RTL, f"{rtl.TOP}.sv")),
        "BITS": str(bits), "MEMORY_BITS": str(max(32, bits)), "CLOCK_MHZ": f"{clock_hz / MHZ:g}",
        "DIGEST": digest}, lab / "vivado")
    names += _driver(network, engine, bits, clock_hz, folder / rtl.CONFIG, lab / "driver")
    write(lab / "README.md", _filled("README.md", {
        "NAME": network.name, "PART": part, "CLOCK_MHZ": f"{clock_hz / MHZ:g}",
        "DIGEST": digest, "CYCLES": str(schedule.cycles(network, engine)), "CHECKED": str(CHECKED_IMAGES),
        "ROW_BYTES": str(engine.row_bytes), "BITS": str(bits), "REGISTERS": register_table()}))
    return sorted(f"{FOLDER}/{name}" for name in [*names, "README.md"])


def register_table() -> str:
    """The register map as a table in Markdown."""
    rows = [f"| 0x{at:02X} | {name} | {use} | {what} |" for name, (at, use, what) in REGISTERS.items()]
    return "\n".join(["| offset | register | use | what |", "|---|---|---|---|", *rows])


def _require_plain(**names: str) -> None:
    for what, name in names.items():
        if not all(c.isascii() and (c.isalnum() or c in "-_.:") for c in name) or (what == "part" and not name):
            raise BadInput(f"{what} {name!r} is not a name: letters, digits, '-', '_', '.' and ':' only")


def _filled(template: str, values: Mapping[str, str]) -> str:
    """A template of hls/dsode/lab with every @NAME@ replaced."""
    text = shipped("hls", "dsode", "lab", template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _vivado(values: Mapping[str, str], folder: Path) -> list[str]:
    for name in ("package_ip.tcl", "build.tcl"):
        write(folder / name, _filled(name, values))
    return ["vivado/package_ip.tcl", "vivado/build.tcl"]


def _hls_script(network: IntegerNetwork, part: str, clock_hz: float, lab: Path) -> list[str]:
    write(lab / "hls" / "build.tcl", hls.build_script(part, 1e9 / clock_hz))
    states = np.random.default_rng(0).integers(-128, 128, (CHECKED_IMAGES, *network.state_shape))
    return ["hls/build.tcl", *(f"hls/{name}" for name in hls.vectors(network, states, lab / "hls"))]


def _driver(network: IntegerNetwork, engine: Engine, bits: int, clock_hz: float, tables: Path, folder: Path,
            ) -> list[str]:
    images = _images(network)
    contents = {
        rtl.CONFIG: tables.read_bytes(),
        "arrays.npz": _npz({"stem.weights": network.stem.weights, "stem.bias": network.stem.bias,
                            "stem.shift": network.stem.shift, "head.weights": network.head.weights,
                            "head.bias": network.head.bias}),
        "check.npz": _npz({"images": images, "logits": network.logits(images)}),
    }
    for name, content in contents.items():
        write(folder / name, content)
    write(folder / DRIVER, shipped("boards", "payloads", DRIVER).read_bytes())
    write_json(folder / "design.json", {
        "note": NOT_RUN, "name": network.name, "registers": {name: at for name, (at, _, _) in REGISTERS.items()},
        "digest": rtl.design_digest(engine, bits), "stream_bits": bits, "clock_hz": clock_hz,
        "cycles": schedule.cycles(network, engine), "granule": engine.granule, "row_bytes": engine.row_bytes,
        "state_in": _layout(engine, 0), "state_out": _layout(engine, len(engine.shapes) - 1),
        "input_shape": list(network.input_shape),
        "stem": {"stride": network.stem.stride, "input_scale": network.stem.input_scale},
        "head": {"output_scale": network.head.output_scale},
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}})
    return [f"driver/{name}" for name in (*contents, DRIVER, "design.json")]


def _layout(engine: Engine, shape: int) -> dict[str, int]:
    at = engine.shapes[shape]
    return {"channels": at.channels, "height": at.height, "width": at.width, "pairs": at.pairs,
            "rows": rtl.state_rows(engine, shape)}


def _images(network: IntegerNetwork) -> NDArray[np.float32]:
    """Random images over and beyond the whole range of the input's quantiser."""
    rng = np.random.default_rng(0)
    values = rng.uniform(-160, 160, (CHECKED_IMAGES, *network.input_shape)) * network.stem.input_scale
    return values.astype(np.float32)


def _npz(arrays: Mapping[str, Any]) -> bytes:
    """An .npz whose bytes depend on the arrays alone."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
