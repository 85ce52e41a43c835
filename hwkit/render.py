"""How a report looks: one list of sections, drawn as terminal tables or as markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hwkit.budget import SHARES, Verdict
from hwkit.comparison import SPELT, compare
from hwkit.measurement import RESOURCES, Measurement, Resource
from hwkit.report import OperatorRow, Report
from hwkit.units import percent, shown

MARK = {True: "ok", False: "FAILED", None: "note"}
STYLE = {"ok": "green", "within": "green", "FAILED": "bold red", "OVER": "bold red", "note": "yellow",
         "not measured": "yellow"}
TOP_OPERATORS = 12


@dataclass(frozen=True)
class Section:
    """A titled table, whose columns in `right` are aligned to the right; or a `drawing`: lines as they are."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()
    drawing: tuple[str, ...] = ()


def _quantity(m: Measurement) -> tuple[str, ...]:
    as_share = m.quantity.startswith(("accuracy", "agreement", "lane_utilisation"))

    def number(x: float) -> str:
        return percent(x) if as_share else shown(x, m.unit)

    if as_share:
        value, tail = number(m.value), ("", "")
    else:
        value = number(m.value)
        many = m.kind == "measured" and len(m.samples) >= 10
        tail = (shown(m.percentile(90), m.unit), shown(m.percentile(99), m.unit)) if many else ("", "")
    interval = ""
    if m.low is not None and m.high is not None:
        low, high = number(m.low), number(m.high)
        interval = f"{low} .. {high}" if low != high else ""
    n = "" if m.kind == "estimated" else str(m.n if m.n is not None else len(m.samples))
    return m.quantity, value, *tail, interval, n, m.kind


def _verdict(v: Verdict) -> tuple[str, ...]:
    state = "not measured" if v.ok is None else "within" if v.ok else "OVER"
    as_share = v.line.startswith(SHARES)

    def number(x: float) -> str:
        return percent(x) if as_share else shown(x, v.unit)

    headroom = "" if v.headroom is None else f"{100 * v.headroom:+.0f} %"
    return (v.line, number(v.limit), "" if v.value is None else number(v.value), v.kind or "", headroom, state,
            "; ".join(filter(None, (v.heaviest, v.note))))


def _operators(report: Report) -> Section:
    heavy = sorted(report.operators, key=lambda r: (r.cost or 0, r.macs or 0), reverse=True)
    rows: list[OperatorRow] = heavy[:TOP_OPERATORS]
    unit, kind = report.operator_unit, report.operator_kind
    head = f"cost ({kind})" if kind else "cost"
    body: list[tuple[str, ...]] = [
        (f"{r.stage}/{r.index}", r.name, "x".join(map(str, r.output_shape)), str(r.repeat), r.delegate or "-",
         f"{r.macs * r.repeat:,}" if r.macs is not None else "-", f"{r.weight_bytes:,}",
         "-" if r.cost is None else shown(r.cost, unit), "" if r.share is None else f"{100 * r.share:.1f} %")
        for r in rows]
    left = len(report.operators) - len(rows)
    if left > 0:
        rest = heavy[TOP_OPERATORS:]
        cost = sum(r.cost or 0 for r in rest)
        share = sum(r.share or 0 for r in rest)
        body.append((f"+{left} more", "", "", "", "", f"{sum((r.macs or 0) * r.repeat for r in rest):,}",
                     f"{sum(r.weight_bytes for r in rest):,}", shown(cost, unit) if unit else "-",
                     f"{100 * share:.1f} %" if share else ""))
    what = {"s": "seconds"}.get(unit, unit or "cost")
    title = f"Operators, heaviest first: MACs and {what} of all runs, shares of their sum (all in the JSON)"
    columns = ("operator", "kind", "output", "runs", "delegate", "MACs", "weight bytes", head, "share")
    if unit == "cycles":                     # programmable logic knows no delegates
        return Section(title, columns[:4] + columns[5:], tuple(row[:4] + row[5:] for row in body), (3, 4, 5, 6, 7))
    return Section(title, columns, tuple(body), (3, 5, 6, 7, 8))


def _energies(report: Report) -> Section:
    """Of the operators whose energy could be told from differential runs, all their runs in one inference."""
    named = {r.index: r for r in report.operators}
    rows = []
    for one in sorted(report.operator_energies, key=lambda e: e.value_j * named[e.index].repeat, reverse=True):
        row = named[one.index]
        low, value, high = (shown(j * row.repeat, "j") for j in (one.low_j, one.value_j, one.high_j))
        rows.append((f"{row.stage}/{row.index}", row.name, str(row.repeat), value, f"{low} .. {high}", one.kind))
    columns = ("operator", "kind", "runs", "energy above idle", "interval", "how known")
    return Section("Energy of the heaviest operators, by differential runs", columns, tuple(rows), (2, 3, 4))


def _resources(report: Report) -> Section:
    """Of the whole design, against the chip and the limit to which it can still be placed and routed."""
    rows: list[tuple[str, ...]] = []
    for r in report.resources:
        between = ""
        if r.low is not None and r.high is not None and r.low != r.high:
            between = f"{shown(r.low, '1')} .. {shown(r.high, '1')}"
        rows.append((r.resource, shown(r.used, "1"), between, f"{r.available:,}", f"{100 * r.share:.1f} %",
                     f"{100 * r.limit:.0f} %", r.kind))
    columns = ("resource", "used", "interval", "available", "share", "limit", "kind")
    return Section("Resources of the chip", columns, tuple(rows), (1, 3, 4, 5))


def _parts(report: Report) -> Section:
    """A line for each part, a column for each resource that any part tells of."""
    told = [r for r in RESOURCES if any(p.resource == r for p in report.parts)]
    names = list(dict.fromkeys(p.part for p in report.parts))
    known = {(p.part, p.resource): p for p in report.parts}

    def cell(part: str, resource: Resource) -> str:
        row = known.get((part, resource))
        return "-" if row is None else "not modelled" if row.used is None else shown(row.used, "1")

    def kinds(part: str) -> str:
        return ", ".join(dict.fromkeys(p.kind for p in report.parts if p.part == part))

    rows = tuple((name, *(cell(name, r) for r in told), kinds(name)) for name in names)
    return Section("Resources by part", ("part", *told, "kind"), rows, tuple(range(1, len(told) + 1)))


def _memory(report: Report) -> Section:
    rows: list[tuple[str, ...]] = [
        (r.buffer, r.contents, f"{r.words:,} x {r.width_bits:,}", r.memory,
         f"{r.primitives:,} {r.primitive} {r.depth}x{r.width}", f"{r.partition:,}", str(r.copies),
         f"{r.data_bits / 8:,.0f}", f"{100 * r.data_bits / r.allocated_bits:.0f} %", f"{100 * r.share:.1f} %")
        for r in report.memory]
    data, held = (sum(getattr(r, f) for r in report.memory) for f in ("data_bits", "allocated_bits"))
    rows.append(("all", "", "", "", f"{sum(r.primitives for r in report.memory):,}", "", "", f"{data / 8:,.0f}",
                 f"{100 * data / held:.0f} %", ""))
    columns = ("buffer", "contents", "words x bits", "in", "primitives", "partition", "copies", "bytes", "filled",
               "of the chip's")
    return Section("Buffers in on-chip memories", columns, tuple(rows), (2, 5, 6, 7, 8, 9))


def sections(report: Report) -> list[Section]:
    """Everything a report says, in the order it is read."""
    about = [("network", f"{report.name}, input {'x'.join(map(str, report.input_shape))}"
              + (f", {report.parameters:,} parameters" if report.parameters else "")),
             *(("", step) for step in report.history),
             ("target", f"{report.target}: {report.target_description}"),
             ("executed on", f"{report.board}: {report.board_description}" if report.board else "nothing"),
             ("artifact", f"{report.backend} {report.precision}, digest {report.digest[:16]}")]
    found = [Section("What and where", ("", ""), tuple(about)),
             Section("Cost and accuracy",
                     ("quantity", "median", "p90", "p99", "interval", "n", "kind"),
                     tuple(_quantity(m) for m in report.measurements), (1, 2, 3, 5))]
    notes = {m.source for m in report.measurements if m.source}
    if notes:
        found.append(Section("Where these numbers come from", ("quantity", "source"),
                             tuple((m.quantity, m.source) for m in report.measurements if m.source)))
    if report.not_measured:
        found.append(Section("Not measured", ("quantity", "why"), tuple(sorted(report.not_measured.items()))))
    if report.resources:
        found.append(_resources(report))
    if report.parts:
        found.append(_parts(report))
    if report.memory:
        found.append(_memory(report))
    if report.memory_map:
        found.append(Section("Map of the on-chip memories", (), (), drawing=report.memory_map))
    if report.operators:
        found.append(_operators(report))
    if report.operator_energies:
        found.append(_energies(report))
    if report.findings:
        found.append(Section("Checks", ("check", "", "what was found"),
                             tuple((f.name, MARK[f.ok], f.text) for f in report.findings)))
    if report.within_budget is not None:
        columns = ("line", "limit", "value", "kind", "headroom", "verdict", "heaviest, or note")
        found.append(Section("Budget", columns, tuple(_verdict(v) for v in report.verdicts), (1, 2, 4)))
    found.append(Section("Tools", ("tool", "version"), tuple(sorted(report.tool_versions.items()))))
    found.append(Section("To reproduce", ("",), ((report.reproduce,),)))
    return found


def title(report: Report) -> str:
    return f"{report.name} {report.precision} on {report.target}"


def verdict(report: Report) -> str:
    """The last line: what to take away."""
    if report.within_budget is None:
        return "no budget given" if report.ok else "a check FAILED"
    if not report.ok:
        over = [v.line for v in report.verdicts if v.ok is not True]
        return f"OVER BUDGET: {', '.join(over)}" if report.within_budget is False else "a check FAILED"
    return "within budget"


def comparison(reports: Sequence[Report]) -> list[Section]:
    """Two or more reports side by side; nothing for fewer."""
    if len(reports) < 2:
        return []
    found = compare(reports)
    kinds = [k for k in SPELT if any(m.kind == k for r in reports for m in r.measurements)]
    told = ", ".join(f"{SPELT[k]} {k}" for k in kinds if SPELT[k] != k)

    def judged(report: Report) -> str:
        failed = [f.name for f in report.findings if f.ok is False]
        checks = f"checks FAILED: {', '.join(failed)}" if failed else "checks ok"
        budget = {None: "no budget given", True: "within budget", False: verdict(report)}[report.within_budget]
        return f"{budget},\n{checks}"

    rows = (*found.rows, ("executed on", *(r.board or "nothing" for r in reports)),
            ("verdict", *map(judged, reports)))
    sections = [Section(f"Comparison ({told})", ("", *found.columns), rows)]
    if found.sentences:
        sections.append(Section("What the numbers say", ("",), tuple((s,) for s in found.sentences)))
    if found.missing:
        sections.append(Section("What is not known", ("of", "quantity", "why"), found.missing))
    return sections


def section_markdown(s: Section) -> list[str]:
    """One section as markdown, line by line."""
    if s.drawing:
        return [f"## {s.title}", "", "```text", *s.drawing, "```", ""]

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in cells) + " |"

    rule = ["---:" if i in s.right else "---" for i in range(len(s.columns))]
    return [f"## {s.title}", "", line(s.columns), line(rule), *map(line, s.rows), ""]


def as_markdown(reports: Sequence[Report]) -> str:
    lines: list[str] = []
    for report in reports:
        lines += [f"# {title(report)}", ""]
        for s in sections(report):
            lines += section_markdown(s)
        lines += [f"**{verdict(report)}**", ""]
    return "\n".join([*lines, *comparison_markdown(reports)])


def comparison_markdown(reports: Sequence[Report]) -> list[str]:
    """The comparison alone, as lines; none for fewer than two reports."""
    return [line for s in comparison(reports) for line in section_markdown(s)]


def drawn_map(section: Section) -> RenderableType:
    """A section's drawing under its title."""
    return Text("\n").join([Text(section.title, style="bold"), Text(""),
                            *(Text(f" {line}", no_wrap=True) for line in section.drawing), Text("")])


def table(section: Section) -> Table:
    """One section as a terminal table."""
    drawn = Table(title=section.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
                  show_header=any(section.columns), pad_edge=False)
    for i, column in enumerate(section.columns):
        drawn.add_column(column, justify="right" if i in section.right else "left",
                         overflow="fold", no_wrap=i == 0 and len(section.columns) > 2)
    for row in section.rows:
        drawn.add_row(*(Text(text, style=STYLE.get(text, "")) for text in row))
    return drawn


def as_text(reports: Sequence[Report]) -> RenderableType:
    parts: list[RenderableType] = []
    for report in reports:
        parts.append(Text(title(report), style="bold underline"))
        parts += [drawn_map(s) if s.drawing else table(s) for s in sections(report)]
        good = report.ok
        parts.append(Text(verdict(report), style="bold green" if good else "bold red"))
        parts.append(Text(""))
    parts += [table(s) for s in comparison(reports)]
    return Group(*parts)


