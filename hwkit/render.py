"""How a report looks: one list of sections, drawn as terminal tables or as markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hwkit.budget import Verdict
from hwkit.measurement import Measurement
from hwkit.report import OperatorRow, Report
from hwkit.units import percent, shown

MARK = {True: "ok", False: "FAILED", None: "note"}
STYLE = {"ok": "green", "within": "green", "FAILED": "bold red", "OVER": "bold red", "note": "yellow",
         "not measured": "yellow"}
TOP_OPERATORS = 12


@dataclass(frozen=True)
class Section:
    """A titled table; `right` are the columns aligned to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()


def _quantity(m: Measurement) -> tuple[str, ...]:
    if m.quantity.startswith(("accuracy", "agreement")):
        value, tail = percent(m.value), ("", "")
    else:
        value = shown(m.value, m.unit)
        many = m.kind == "measured" and len(m.samples) >= 10
        tail = (shown(m.percentile(90), m.unit), shown(m.percentile(99), m.unit)) if many else ("", "")
    interval = ""
    if m.low is not None and m.high is not None:
        low, high = shown(m.low, m.unit), shown(m.high, m.unit)
        interval = f"{low} .. {high}" if low != high else ""
    n = "" if m.kind == "estimated" else str(m.n if m.n is not None else len(m.samples))
    return m.quantity, value, *tail, interval, n, m.kind


def _verdict(v: Verdict) -> tuple[str, ...]:
    state = "not measured" if v.ok is None else "within" if v.ok else "OVER"
    as_share = v.line.startswith("accuracy")

    def number(x: float) -> str:
        return percent(x) if as_share else shown(x, v.unit)

    headroom = "" if v.headroom is None else f"{100 * v.headroom:+.0f} %"
    return (v.line, number(v.limit), "" if v.value is None else number(v.value), v.kind or "", headroom, state,
            v.note or v.heaviest)


def _operators(report: Report) -> Section:
    heavy = sorted(report.operators, key=lambda r: (r.cost or 0, r.macs or 0), reverse=True)
    rows: list[OperatorRow] = heavy[:TOP_OPERATORS]
    unit, kind = report.operator_unit, report.operator_kind
    head = f"cost ({kind})" if kind else "cost"
    body = [(f"{r.stage}/{r.index}", r.name, "x".join(map(str, r.output_shape)), str(r.repeat), r.delegate or "-",
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
    return Section(title, columns, tuple(body), (3, 5, 6, 7, 8))


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
    if report.operators:
        found.append(_operators(report))
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


def as_markdown(reports: Iterable[Report]) -> str:
    lines: list[str] = []

    def cell(text: str) -> str:
        return " ".join(text.split()).replace("|", "\\|")

    for report in reports:
        lines += [f"# {title(report)}", ""]
        for s in sections(report):
            rule = ["---:" if i in s.right else "---" for i in range(len(s.columns))]
            lines += [f"## {s.title}", "", "| " + " | ".join(s.columns) + " |", "| " + " | ".join(rule) + " |"]
            lines += ["| " + " | ".join(map(cell, row)) + " |" for row in s.rows] + [""]
        lines += [f"**{verdict(report)}**", ""]
    return "\n".join(lines)


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
        parts += [table(s) for s in sections(report)]
        good = report.ok
        parts.append(Text(verdict(report), style="bold green" if good else "bold red"))
        parts.append(Text(""))
    return Group(*parts)


