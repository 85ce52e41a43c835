"""The vendor's tools, where they are installed: they run after the build, and their reports replace the estimates.

Nothing here has been run with the tools themselves: the scripts and the parsers are tested with stand-ins.
"""

from __future__ import annotations

from pathlib import Path

from hwkit.artifact import Built, Command, Finding
from hwkit.eda import vitis, vivado
from hwkit.measurement import RESOURCES, Measurement

LAB = "engine/lab"
KERNEL = "dsode"                 # the HLS kernel's top function
NOT_RUN = "vendor tools"         # the finding of a build without them


def commands() -> tuple[Command, ...]:
    """The steps for each tool that is on PATH; none otherwise."""
    found: tuple[Command, ...] = ()
    if vitis.available():
        found += vitis.commands(f"{LAB}/hls")
    if vivado.available():
        found += vivado.commands(f"{LAB}/vivado")
    return found


def collected(built: Built, build_dir: Path) -> Built:
    """`built` with what the tools reported. Raises BadInput naming a report that is missing or unreadable."""
    findings, figures = list(built.findings), list(built.figures)
    reports = build_dir / LAB / "vivado" / "reports"
    if reports.is_dir():
        done = vivado.collect(reports)
        figures = [m for m in figures if m.quantity not in RESOURCES]
        figures += [Measurement(quantity=name, unit="1", kind="estimated", samples=(float(n),), low=float(n),
                                high=float(n), source=f"this design placed and routed by {done.tool}")
                    for name, n in done.resources.items()]
        met = "met" if done.timing.met else "NOT met"
        findings.append(Finding(name="timing", ok=done.timing.met, text=(
            f"{done.tool}: slack {done.timing.wns_s * 1e9:.3f} ns, {met}; {done.power.total_w:g} W by its own "
            f"estimate, {done.power.dynamic_w:g} W of them dynamic")))
    if (build_dir / LAB / "hls" / vitis.REPORT.format(top=KERNEL)).is_file():
        kernel = vitis.collect(build_dir / LAB / "hls", KERNEL)
        findings.append(Finding(name="HLS kernel", ok=None, text=(
            f"{kernel.tool}: a clock of {kernel.estimated_clock_s * 1e9:g} ns by its estimate")))
    if len(findings) == len(built.findings):
        return built
    findings = [f for f in findings if f.name != NOT_RUN]
    kept = [str(p.relative_to(build_dir)) for p in sorted((build_dir / LAB).rglob("*"))
            if p.is_file() and p.suffix in (".rpt", ".bit", ".hwh", ".xsa")]
    files = tuple(sorted({*built.files, *kept}))
    return built.model_copy(update={"findings": tuple(findings), "figures": tuple(figures), "files": files})
