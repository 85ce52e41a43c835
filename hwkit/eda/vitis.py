"""Vitis HLS, where it is installed: the command that synthesises a kernel, and what its report says.

All of it is estimated: HLS counts and times operators before synthesis, placement and routing.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from xml.etree import ElementTree

from hwkit.artifact import Command
from hwkit.describe import Frozen
from hwkit.eda.vivado import AGAIN, read
from hwkit.errors import BadInput, ToolMissing
from hwkit.measurement import RESOURCES, Resource

HINT = "install Vitis from amd.com and put its bin folder on PATH"
SCRIPT = "build.tcl"
REPORT = "project/solution/syn/report/{top}_csynth.xml"
TIMEOUT_S = 6 * 3600.0
# Since 2024.2 the program has another name and takes the script by another option.
_PROGRAMS = {"vitis_hls": ("-f",), "vitis-run": ("--mode", "hls", "--tcl")}
_NAMES: dict[Resource, tuple[str, ...]] = {r: (r,) for r in RESOURCES} | {"DSP": ("DSP", "DSP48E")}


class Synthesized(Frozen):
    """What HLS estimates of a kernel.

    latency_cycles   (best, worst) of one call;  interval_cycles: (least, most) between two calls. None where the
                     number of iterations is not known before it runs
    """

    top: str
    part: str
    tool: str
    target_clock_s: float
    estimated_clock_s: float
    latency_cycles: tuple[int, int] | None
    interval_cycles: tuple[int, int] | None
    resources: dict[Resource, int]


def available() -> bool:
    return any(shutil.which(program) for program in _PROGRAMS)


def commands(folder: str) -> tuple[Command, ...]:
    """The step that simulates, synthesises and packages the kernel in `folder`. Raises ToolMissing."""
    for program, options in _PROGRAMS.items():
        found = shutil.which(program)
        if found:
            return (Command(what="Vitis HLS", argv=(found, *options, f"{folder}/{SCRIPT}"), timeout_s=TIMEOUT_S),)
    raise ToolMissing(f"{' or '.join(_PROGRAMS)} is not installed", HINT)


def collect(folder: Path, top: str) -> Synthesized:
    """What the script in `folder` left there. Raises BadInput naming the report."""
    path = folder / REPORT.format(top=top)
    return parse_csynth(read(path), str(path))


def parse_csynth(text: str, name: str = "HLS report") -> Synthesized:
    """A report TOP_csynth.xml. Raises BadInput."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadInput(f"{name}: it declares entities, which no HLS report does", AGAIN)
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as e:
        raise BadInput(f"{name}: not a whole XML file: {e}", AGAIN) from None
    report = _Report(root, name)
    return Synthesized(
        top=report.text("UserAssignments/TopModelName"), part=report.text("UserAssignments/Part"),
        tool=f"Vitis HLS {report.text('ReportVersion/Version')}",
        target_clock_s=report.period_s("UserAssignments", "TargetClockPeriod"),
        estimated_clock_s=report.period_s("PerformanceEstimates/SummaryOfTimingAnalysis", "EstimatedClockPeriod"),
        latency_cycles=report.cycles("Best-caseLatency", "Worst-caseLatency"),
        interval_cycles=report.cycles("Interval-min", "Interval-max"),
        resources={resource: report.count(resource) for resource in RESOURCES})


class _Report:
    def __init__(self, root: ElementTree.Element, name: str) -> None:
        self.root, self.name = root, name

    def text(self, path: str) -> str:
        found = (self.root.findtext(path) or "").strip()
        if not found:
            raise BadInput(f"{self.name}: not a report of csynth_design: it has no {path}", AGAIN)
        return found

    def period_s(self, path: str, leaf: str) -> float:
        unit = self.root.findtext(f"{path}/unit") or "ns"
        said = self.text(f"{path}/{leaf}")
        try:
            value = float(said)
        except ValueError:
            value = math.nan
        if unit.strip() != "ns" or not 0 < value < math.inf:
            raise BadInput(f"{self.name}: {leaf} is {said} {unit.strip()}, not a time in ns", AGAIN)
        return value * 1e-9

    def cycles(self, low: str, high: str) -> tuple[int, int] | None:
        said = [self.text(f"PerformanceEstimates/SummaryOfOverallLatency/{leaf}") for leaf in (low, high)]
        if "undef" in said:
            return None
        return self._whole(low, said[0]), self._whole(high, said[1])

    def count(self, resource: Resource) -> int:
        """A part without URAM has no line of them; every other resource must be there."""
        for leaf in _NAMES[resource]:
            said = self.root.findtext(f"AreaEstimates/Resources/{leaf}")
            if said is not None:
                return self._whole(leaf, said.strip())
        self.text("AreaEstimates/Resources/LUT")
        if resource == "URAM":
            return 0
        raise BadInput(f"{self.name}: not a report of csynth_design: it has no count of {resource}", AGAIN)

    def _whole(self, leaf: str, said: str) -> int:
        if not (said.isascii() and said.isdigit()):
            raise BadInput(f"{self.name}: {leaf} is {said!r}, which is no whole number", AGAIN)
        return int(said)
