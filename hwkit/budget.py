"""Budget: limits in a TOML file, judged line by line against what a report knows.

    unmeasured = "fail"            # or "ignore": what a line counts as when nothing measured it

    [latency]
    median_s = 0.010
    [memory]
    flash_bytes = 200_000
    [accuracy]
    floor = 0.87
    largest_drop = 0.01
    [target.rpi3.latency]          # overrides for one target
    median_s = 0.020

An estimate passes when its whole interval is inside the limit; a measured or simulated value when
the value itself is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hwkit.describe import Frozen, Kind, Name, load
from hwkit.errors import BadDescription
from hwkit.measurement import QUANTITIES, Measurement, Unit
from hwkit.target import names as target_names
from hwkit.units import shown

Positive = Annotated[float, Field(gt=0, strict=True)]      # strict: `true` is not one second
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
HINT = "see the budget section of the README"


class Latency(Frozen):
    median_s: Positive | None = None
    p90_s: Positive | None = None
    p99_s: Positive | None = None


class Instructions(Frozen):
    per_inference: Positive | None = None


class Energy(Frozen):
    per_inference_j: Positive | None = None


class Memory(Frozen):
    flash_bytes: Positive | None = None
    weights_bytes: Positive | None = None
    arena_bytes: Positive | None = None
    peak_rss_bytes: Positive | None = None


class Accuracy(Frozen):
    floor: Share | None = None
    largest_drop: Share | None = None


class Lines(Frozen):
    """The limits themselves. `resources` names what the target counts, e.g. LUT or DSP."""

    latency: Latency = Latency()
    instructions: Instructions = Instructions()
    energy: Energy = Energy()
    memory: Memory = Memory()
    resources: dict[Name, Positive] = {}
    accuracy: Accuracy = Accuracy()


class Budget(Lines):
    unmeasured: Literal["fail", "ignore"] = "fail"
    target: dict[Name, Lines] = {}

    def lines(self, target: str) -> dict[str, float]:
        """Budget line -> limit for one target, its overrides applied."""
        chosen = dict(_limits(self))
        if target in self.target:
            chosen.update(_limits(self.target[target]))
        return chosen


def _limits(lines: Lines) -> Iterator[tuple[str, float]]:
    tables = lines.model_dump(include=set(Lines.model_fields), exclude_none=True)
    for table, keys in tables.items():
        for key, limit in keys.items():
            yield f"{table}.{key}", limit


class Verdict(Frozen):
    """One budget line judged.

    ok        None when nothing measured it
    headroom  share of the limit that is left; negative when over
    heaviest  the operator that weighs most in it
    """

    line: str
    limit: float
    unit: Unit
    value: float | None
    kind: Kind | None
    ok: bool | None
    headroom: float | None
    heaviest: str = ""
    note: str = ""


# budget line -> the quantity it judges, and how a Measurement answers it
_QUANTITY = {
    "latency.median_s": "latency", "latency.p90_s": "latency", "latency.p99_s": "latency",
    "instructions.per_inference": "instructions", "energy.per_inference_j": "energy",
    "memory.flash_bytes": "flash", "memory.weights_bytes": "weights", "memory.arena_bytes": "arena",
    "memory.peak_rss_bytes": "peak_rss", "accuracy.floor": "accuracy", "accuracy.largest_drop": "accuracy",
}


def _answer(line: str, found: Measurement, accuracy_float: Measurement | None) -> tuple[float, float] | None:
    """(value, worst credible value) of `found` for this line; None when it cannot answer it."""
    if line == "accuracy.largest_drop":
        if accuracy_float is None:
            return None
        drop = accuracy_float.value - found.value
        return drop, drop
    if line in ("latency.p90_s", "latency.p99_s"):
        if len(found.samples) < 10:
            return None
        tail = found.percentile(90 if "p90" in line else 99)
        return tail, tail
    worst = found.value
    if found.kind == "estimated":
        worst = (found.low if line == "accuracy.floor" else found.high) or found.value
    return found.value, worst


def judge(budget: Budget, target: str, measurements: Sequence[Measurement],
          heaviest: Mapping[str, str] | None = None, not_measured: Mapping[str, str] | None = None,
          ) -> list[Verdict]:
    """Judge every line that the budget sets for `target`. `heaviest`: quantity -> operator."""
    by_quantity: dict[str, Measurement] = {}
    for m in measurements:
        by_quantity.setdefault(m.quantity, m)
    verdicts = []
    for line, limit in budget.lines(target).items():
        quantity = _QUANTITY.get(line, "")
        found = by_quantity.get(quantity)
        answer = _answer(line, found, by_quantity.get("accuracy_float")) if found else None
        unit: Unit = QUANTITIES[quantity][0] if quantity else "1"
        if found is None or answer is None:
            why = (not_measured or {}).get(quantity, "") or "nothing measures it here"
            verdicts.append(Verdict(line=line, limit=limit, unit=unit, value=None, kind=None, ok=None,
                                    headroom=None, note=why))
            continue
        value, worst = answer
        ok = worst >= limit if line == "accuracy.floor" else worst <= limit
        room = (worst - limit) if line == "accuracy.floor" else (limit - worst)
        note = f"judged by the worse end of its interval, {shown(worst, unit)}" if worst != value else ""
        verdicts.append(Verdict(line=line, limit=limit, unit=unit, value=value, kind=found.kind, ok=ok,
                                headroom=room / limit if limit else None,
                                heaviest=(heaviest or {}).get(quantity, ""), note=note))
    return verdicts


def within(budget: Budget, verdicts: Sequence[Verdict]) -> bool:
    """Whether every line passes; an unmeasured line counts as the budget says."""
    return all(v.ok if v.ok is not None else budget.unmeasured == "ignore" for v in verdicts)


def read(path: Path) -> Budget:
    """A budget file. Raises BadDescription; an empty budget is refused since it would always pass."""
    budget = load(path, Budget, HINT)
    if not dict(_limits(budget)) and not any(dict(_limits(t)) for t in budget.target.values()):
        raise BadDescription(path, "", "sets no limit at all", HINT)
    known = target_names()
    for name in budget.target:
        if name not in known:
            raise BadDescription(path, f"target.{name}", f"no target has that name; known: {', '.join(known)}",
                                 "hwkit list targets")
    return budget
