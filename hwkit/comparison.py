"""Several reports side by side: a row a quantity, a column an artifact, every value with its kind.

What the numbers say of each other is a sentence, and it says no more than they bear: where kinds differ, where
intervals overlap and where the settings differ is part of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hwkit.describe import Kind
from hwkit.measurement import QUANTITIES, Measurement
from hwkit.report import Report
from hwkit.units import percent, shown

SPELT: dict[Kind, str] = {"measured": "meas.", "simulated": "sim.", "estimated": "est.", "published": "publ.",
                          "assumed": "assumed"}
HIGHEST = ("throughput", "accuracy", "accuracy_float", "agreement")     # of the others the lowest is named
# Quantities of every kind of device, in the order of the table: a row where a report has a value or says why not.
COMMON = ("latency", "throughput", "energy", "power", "flash", "weights", "arena", "peak_rss", "on_chip_bytes",
          "accuracy", "accuracy_float", "agreement")
RANKED = tuple(q for q in COMMON if q != "on_chip_bytes")       # how much of a chip is filled is no merit
# The others belong to one kind of device: a row where two reports know a value.
OTHERS = tuple(q for q in QUANTITIES if q not in COMMON)
SETTINGS = ("batch", "threads")          # conditions without which two times are not of the same thing
SHARES = ("accuracy", "agreement", "lane_utilisation")
Z95 = 1.96


@dataclass(frozen=True)
class Comparison:
    """columns    a short name for each report, no two alike
    rows       (quantity, a cell for each column)
    sentences  what can be said of the rows
    missing    (column, why, quantities) for the cells that hold "-"
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]
    missing: tuple[tuple[str, str, str], ...]


def compare(reports: Sequence[Report]) -> Comparison:
    """Two or more reports side by side."""
    columns = labels(reports)
    rows: list[tuple[str, ...]] = []
    sentences = _different(reports, columns)
    why: dict[tuple[str, str], list[str]] = {}
    for quantity in (*COMMON, *OTHERS):
        found = [r.find(quantity) for r in reports]
        known = {c: m for c, m in zip(columns, found, strict=True) if m is not None}
        asked_for = quantity in COMMON and any(quantity in r.not_measured for r in reports)
        if len(known) < (1 if quantity in COMMON else 2) and not asked_for:
            continue
        rows.append((quantity, *("-" if m is None else cell(m) for m in found)))
        for report, column in zip(reports, columns, strict=True):
            if column not in known:
                reason = report.not_measured.get(quantity, "its report knows nothing of it")
                why.setdefault((column, reason), []).append(quantity)
        if quantity in RANKED and len(known) > 1:
            rest = "" if len(known) == len(columns) else ", of those known"
            sentences.append(f"{quantity}: {sentence(quantity, known, rest)}")
    return Comparison(columns=columns, rows=tuple(rows), sentences=tuple(sentences),
                      missing=tuple((column, ", ".join(names), reason) for one in columns
                                    for (column, reason), names in why.items() if column == one))


def labels(reports: Sequence[Report]) -> tuple[str, ...]:
    """Target and precision, and whatever else it takes to tell the reports apart."""
    several = len({r.name for r in reports}) > 1
    parts = [[*([r.name] if several else []), r.target, r.precision] for r in reports]
    for more in ([r.backend for r in reports], [r.board or "not executed" for r in reports]):
        count = Counter(map(tuple, parts))
        parts = [[*p, m] if count[tuple(p)] > 1 else p for p, m in zip(parts, more, strict=True)]
    count = Counter(map(tuple, parts))
    return tuple(" ".join([*p, f"#{i + 1}"] if count[tuple(p)] > 1 else p) for i, p in enumerate(parts))


def number(m: Measurement, value: float) -> str:
    return percent(value) if m.quantity.startswith(SHARES) else shown(value, m.unit)


def cell(m: Measurement) -> str:
    """The median and its kind; of an estimate its interval too, on a line of its own."""
    text = f"{number(m, m.value)} {SPELT[m.kind]}"
    if m.kind == "estimated" and m.low is not None and m.high is not None and m.low != m.high:
        text += f"\n({number(m, m.low)} .. {number(m, m.high)})"
    return text


def span(m: Measurement) -> tuple[float, float]:
    """Where the value may lie: its interval; of a share of n samples, the 95 % interval of such a draw."""
    if m.low is not None and m.high is not None:
        return m.low, m.high
    if m.quantity.startswith(SHARES) and m.n and m.kind in ("measured", "simulated"):
        wide = Z95 * math.sqrt(m.value * (1 - m.value) / m.n)
        return m.value - wide, m.value + wide
    return m.value, m.value


def sentence(quantity: str, known: Mapping[str, Measurement], rest: str = "") -> str:
    """Which column of two or more is lowest or highest, and what stands against saying so.

    known   column -> its measurement of `quantity`
    rest    said after the name, where other columns have none
    """
    shown_as = {c: number(m, m.value) for c, m in known.items()}
    top = (max if quantity in HIGHEST else min)(known, key=lambda c: known[c].value)
    best = [c for c in known if shown_as[c] == shown_as[top]]
    kinds: dict[str, list[str]] = {}
    for column, m in known.items():
        kinds.setdefault(m.kind, []).append(column)
    what = "the same" if len(best) == len(known) else "highest" if quantity in HIGHEST else "lowest"
    said = [f"{what} on {joined(best)} ({known[top].kind} {shown_as[top]}){rest}"]
    if len(kinds) > 1:
        said.append("the kinds differ: " + ", ".join(f"{kind} on {joined(on)}" for kind, on in kinds.items()))
    overlaps = [f"{a} with {joined(met)}" for i, a in enumerate(known) if (met := [
        b for b in list(known)[i + 1:] if shown_as[a] != shown_as[b] and _meet(span(known[a]), span(known[b]))])]
    if overlaps:
        n = {m.n for m in known.values()}
        few = f"with n = {n.pop():,} the 95 % " if quantity.startswith(SHARES) and len(n) == 1 and all(n) else ""
        said.append(f"{few}intervals overlap: {', '.join(overlaps)}")
    for key in SETTINGS:
        told = {c: str(m.conditions[key]) for c, m in known.items() if key in m.conditions}
        if len(set(told.values())) > 1:
            said.append(f"{key} differs: " + ", ".join(f"{v} on {c}" for c, v in told.items()))
    return "; ".join(said)


def joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _meet(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def _different(reports: Sequence[Report], columns: Sequence[str]) -> list[str]:
    """Sentences on what makes the columns less alike than a table looks."""
    about = {"shapes of the input": ["x".join(map(str, r.input_shape)) for r in reports],
             "data sets": [r.dataset or "none" for r in reports]}
    networks = ["these are different networks"] if len({r.name for r in reports}) > 1 else []
    return networks + [
        f"different {what}: " + ", ".join(f"{v} on {c}" for c, v in zip(columns, values, strict=True))
        for what, values in about.items() if len(set(values)) > 1]
