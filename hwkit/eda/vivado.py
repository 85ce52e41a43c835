"""Vivado, where it is installed: the commands that build a design, and what its reports say.

    plan = BuildPlan(commands=vivado.commands("lab/vivado"), tools=("vivado",))
    found = vivado.collect(folder / "lab" / "vivado" / "reports")

Every parser takes the text of a report and the name to call it by in an error. A report that is empty, cut short
or another one is refused: no number is ever made up. What was counted after routing is exact; slack is the tool's
own model of the chip, and power is an estimate.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from hwkit.artifact import Command
from hwkit.describe import Frozen
from hwkit.errors import BadInput, JobFailed
from hwkit.measurement import RESOURCES, Resource
from hwkit.process import require

TOOL = "vivado"
HINT = "install Vivado from amd.com and put its bin folder on PATH"
SCRIPTS = {"package_ip.tcl": 3600.0, "build.tcl": 6 * 3600.0}        # and how long each may take, in seconds
AGAIN = "run the tool again"
_ROWS: dict[str, Resource] = {
    "CLB LUTs": "LUT", "Slice LUTs": "LUT", "CLB Registers": "FF", "Slice Registers": "FF", "DSPs": "DSP",
    "Block RAM Tile": "BRAM_18K", "URAM": "URAM"}
_MET = {"All user specified timing constraints are met.": True, "Timing constraints are not met.": False}
_POWER = {"Total On-Chip Power (W)": "total_w", "Dynamic (W)": "dynamic_w", "Device Static (W)": "static_w"}
_ROUNDING_W = 0.002                # of three numbers with three decimals each
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_VERSION = re.compile(r"^\| Tool Version\s*: (Vivado v\.\S+)", re.M)


class Timing(Frozen):
    """Slack is what is left of a clock period: negative where the design is too slow.

    wns_s   worst slack for setup;  whs_s: for hold, None where the report has none
    met     every path of every kind is in time
    """

    wns_s: float
    whs_s: float | None
    met: bool


class Power(Frozen):
    """As the tool estimates it, with toggle rates it assumes where no simulation gives them.

    confidence  what the tool says of it: "Low", "Medium" or "High"
    """

    total_w: float
    dynamic_w: float
    static_w: float
    confidence: str


class Implemented(Frozen):
    """A design that was placed and routed. `tool` as the reports name it, "" where they do not."""

    resources: dict[Resource, int]
    timing: Timing
    power: Power
    tool: str


def available() -> bool:
    return shutil.which(TOOL) is not None


def commands(scripts: str, board_part: str = "") -> tuple[Command, ...]:
    """The steps that make an IP and then a bitstream of it; `scripts` is their folder within the build folder.

    board_part  as get_board_parts lists it; "" for the one in the script, or none
    Raises ToolMissing.
    """
    program = require(TOOL, HINT)
    arguments = ("-tclargs", board_part) if board_part else ()
    return tuple(
        Command(what=f"Vivado running {name}", timeout_s=timeout_s,
                argv=(program, "-mode", "batch", "-nojournal", "-log", f"{scripts}/{name}.log", "-source",
                      f"{scripts}/{name}", *(arguments if name == "build.tcl" else ())))
        for name, timeout_s in SCRIPTS.items())


def explained(error: JobFailed) -> JobFailed:
    """The same error with the tool's first line that says ERROR, where there is one: the last says little."""
    lines = [line for line in error.log.splitlines() if line.startswith("ERROR:")]
    if not lines:
        return error
    what = error.message.split(":")[0]
    return JobFailed(f"{what}: {lines[0].removeprefix('ERROR:').strip()}", error.hint, error.log)


def collect(reports: Path) -> Implemented:
    """What build.tcl wrote into its folder `reports`. Raises BadInput naming the file."""
    utilization = read(reports / "utilization.rpt")
    version = _VERSION.search(utilization)
    return Implemented(
        resources=parse_utilization(utilization, str(reports / "utilization.rpt")),
        timing=parse_timing(read(reports / "timing.rpt"), str(reports / "timing.rpt")),
        power=parse_power(read(reports / "power.rpt"), str(reports / "power.rpt")),
        tool=version[1] if version else "")


def read(path: Path) -> str:
    """The text of a report. Raises BadInput where there is none."""
    try:
        text = path.read_text(errors="replace")
    except OSError as e:
        raise BadInput(f"{path}: there is no report: {e.strerror}", AGAIN) from None
    if not text.strip():
        raise BadInput(f"{path}: the report is empty", AGAIN)
    return text


def parse_utilization(text: str, name: str = "utilization report") -> dict[Resource, int]:
    """LUT, FF, DSP, BRAM_18K (two a block RAM tile) and URAM of a report_utilization. Raises BadInput.

    A part without URAM has no row of them: then they are 0, if the report goes on behind where they would be.
    """
    found: dict[Resource, float] = {}
    for row, used in _used(text, name):
        resource = _ROWS.get(row.rstrip("*"))
        if resource is None:
            continue
        if resource in found:
            raise BadInput(f"{name}: two rows say {row}", "give a report of one design, not of several")
        if not _NUMBER.fullmatch(used):
            raise BadInput(f"{name}: {row} is {used!r}, which is no number", AGAIN)
        found[resource] = float(used) * (2 if resource == "BRAM_18K" else 1)
        if found[resource] != int(found[resource]) or found[resource] < 0:
            raise BadInput(f"{name}: {row} is {used}, which is no count", AGAIN)
    if "DSP" in found:                           # the table of arithmetic follows that of memories
        found.setdefault("URAM", 0)
    missing = [resource for resource in RESOURCES if resource not in found]
    if missing:
        raise _other(name, "report_utilization", f"it has no row of {missing[0]}")
    return {resource: int(found[resource]) for resource in RESOURCES}


def _used(text: str, name: str) -> list[tuple[str, str]]:
    """(row, "Used") of every table that has a column of that name."""
    rows: list[tuple[str, str]] = []
    header: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("+-"):
            continue
        if not line.startswith("| "):
            header = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "Site Type":
            header = cells
        elif "Used" in header:
            if len(cells) != len(header) or not line.rstrip().endswith("|"):
                raise BadInput(f"{name}: line {number} is cut short", AGAIN)
            rows.append((cells[0], cells[header.index("Used")]))
    return rows


def parse_timing(text: str, name: str = "timing report") -> Timing:
    """The design's summary in a report_timing_summary. Raises BadInput, also where nothing was timed."""
    lines = iter(text.splitlines())
    if not any(line.strip() == "| Design Timing Summary" for line in lines):
        raise _other(name, "report_timing_summary", "it has no Design Timing Summary")
    header = next((line for line in lines if "WNS(ns)" in line), "")
    columns = re.split(r"\s{2,}", header.strip())
    next(lines, "")                              # the dashes below it
    values = next(lines, "").split()
    said = next((line.strip() for line in lines if line.strip()), "")
    if values[:1] == ["NA"] or said.startswith("There are no user specified timing constraints"):
        raise BadInput(f"{name}: no path was timed: the design has no clock constraint",
                       "constrain the clock and run the tool again")
    if len(values) != len(columns) or said not in _MET:
        raise BadInput(f"{name}: its summary is cut short", AGAIN)
    slacks: dict[str, float] = {}
    for column, value in zip(columns, values, strict=True):
        if column in ("WNS(ns)", "WHS(ns)", "WPWS(ns)") and value != "NA":
            if not _NUMBER.fullmatch(value):
                raise BadInput(f"{name}: {column} is {value!r}, which is no number", AGAIN)
            slacks[column] = float(value)
    if "WNS(ns)" not in slacks:
        raise BadInput(f"{name}: no path was timed for setup", AGAIN)
    met = min(slacks.values()) >= 0
    if met != _MET[said]:
        raise BadInput(f"{name}: it says \"{said}\", and its worst slack is {min(slacks.values())} ns", AGAIN)
    hold = slacks.get("WHS(ns)")
    return Timing(wns_s=slacks["WNS(ns)"] * 1e-9, whs_s=None if hold is None else hold * 1e-9, met=met)


def parse_power(text: str, name: str = "power report") -> Power:
    """The summary of a report_power. Raises BadInput."""
    found: dict[str, float] = {}
    confidence = ""
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.split("|")]
        key = _POWER.get(cells[1]) if len(cells) > 2 else None
        if len(cells) == 4 and cells[1] == "Confidence Level":
            confidence = confidence or cells[2]
        if key is None or key in found:
            continue
        value = cells[2].split(" ")[0]           # what may follow is a remark on the temperature
        if len(cells) != 4 or not _NUMBER.fullmatch(value):
            raise BadInput(f"{name}: line {number} gives no number for {cells[1]}", AGAIN)
        found[key] = float(value)
    missing = [row for row, key in _POWER.items() if key not in found]
    if missing or not confidence:
        raise _other(name, "report_power", f"it has no row {[*missing, 'Confidence Level'][0]}")
    if abs(found["total_w"] - found["dynamic_w"] - found["static_w"]) > _ROUNDING_W:
        raise BadInput(f"{name}: {found['dynamic_w']} W dynamic and {found['static_w']} W static are not "
                       f"{found['total_w']} W in all", AGAIN)
    return Power(**found, confidence=confidence)


def _other(name: str, command: str, why: str) -> BadInput:
    return BadInput(f"{name}: not a whole {command}: {why}", AGAIN)
