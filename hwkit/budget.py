"""Budget: limits in a TOML file, judged line by line against what a report knows.

    unmeasured = "fail"            # or "ignore": what a line counts as when nothing measured it

    [latency]
    median_s = 0.010
    [throughput]
    floor_per_s = 100
    [memory]
    flash_bytes = 200_000
    [resources]                    # of an FPGA: counts ...
    DSP = 1_000
    [utilisation]                  # ... or shares of what the target has
    LUT = 0.7
    [accuracy]
    floor = 0.87
    largest_drop = 0.01
    [target.rpi3.latency]          # overrides for one target
    median_s = 0.020

An estimate passes when its whole interval is inside the limit; a measured or simulated value when
the value itself is. A synthesised count is an estimate (hwkit.measurement.synthesised).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hwkit.describe import Frozen, Kind, Name, load
from hwkit.errors import BadDescription
from hwkit.measurement import QUANTITIES, RESOURCES, Measurement, Unit
from hwkit.target import names as target_names
from hwkit.units import percent, shown

Positive = Annotated[float, Field(gt=0, strict=True)]      # strict: `true` is not one second
NotNegative = Annotated[float, Field(ge=0, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
HINT = "see the budget section of the README"


class Latency(Frozen):
    """End to end; and `kernel_s`, inside the programmable logic alone."""

    median_s: Positive | None = None
    p90_s: Positive | None = None
    p99_s: Positive | None = None
    kernel_s: Positive | None = None


class Throughput(Frozen):
    floor_per_s: Positive | None = None


class Cycles(Frozen):
    per_inference: Positive | None = None


class Instructions(Frozen):
    per_inference: Positive | None = None


class Energy(Frozen):
    per_inference_j: Positive | None = None


class Memory(Frozen):
    flash_bytes: Positive | None = None
    weights_bytes: Positive | None = None
    arena_bytes: Positive | None = None
    peak_rss_bytes: Positive | None = None
    on_chip_bytes: Positive | None = None
    off_chip_bytes: NotNegative | None = None


class Resources(Frozen):
    """The most that may be used of each, as a count."""

    LUT: NotNegative | None = None
    FF: NotNegative | None = None
    DSP: NotNegative | None = None
    BRAM_18K: NotNegative | None = None
    URAM: NotNegative | None = None


class Utilisation(Frozen):
    """The same, as a share of what the target has."""

    LUT: Share | None = None
    FF: Share | None = None
    DSP: Share | None = None
    BRAM_18K: Share | None = None
    URAM: Share | None = None


class Accuracy(Frozen):
    floor: Share | None = None
    largest_drop: Share | None = None


class Lines(Frozen):
    """The limits themselves."""

    latency: Latency = Latency()
    throughput: Throughput = Throughput()
    cycles: Cycles = Cycles()
    instructions: Instructions = Instructions()
    energy: Energy = Energy()
    memory: Memory = Memory()
    resources: Resources = Resources()
    utilisation: Utilisation = Utilisation()
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
    heaviest  the operator, part or buffer that weighs most in it
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
    "latency.kernel_s": "kernel_latency", "throughput.floor_per_s": "throughput",
    "cycles.per_inference": "cycles",
    "instructions.per_inference": "instructions", "energy.per_inference_j": "energy",
    "memory.flash_bytes": "flash", "memory.weights_bytes": "weights", "memory.arena_bytes": "arena",
    "memory.peak_rss_bytes": "peak_rss", "memory.on_chip_bytes": "on_chip_bytes",
    "memory.off_chip_bytes": "off_chip_bytes", "accuracy.floor": "accuracy", "accuracy.largest_drop": "accuracy",
    **{f"{table}.{r}": r for table in ("resources", "utilisation") for r in RESOURCES},
}
SHARES = ("accuracy.", "utilisation.")                     # shown in percent
FLOORS = ("accuracy.floor", "throughput.floor_per_s")      # the others are ceilings


def _answer(line: str, found: Measurement, accuracy_float: Measurement | None,
            total: float | None) -> tuple[float, float] | None:
    """(value, worst credible value) of `found` for this line; None when it cannot answer it.

    total  how many of the resource the target has, for a line of [utilisation]
    """
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
        end = found.low if line in FLOORS else found.high
        worst = found.value if end is None else end
    if line.startswith("utilisation."):
        return (found.value / total, worst / total) if total else None
    return found.value, worst


def judge(budget: Budget, target: str, measurements: Sequence[Measurement],
          heaviest: Mapping[str, str] | None = None, not_measured: Mapping[str, str] | None = None,
          totals: Mapping[str, float] | None = None) -> list[Verdict]:
    """Judge every line that the budget sets for `target`.

    heaviest      quantity -> the operator, part or buffer that weighs most in it
    not_measured  quantity -> why
    totals        resource -> how many the target has (hwkit.target.Target.totals)
    """
    totals = totals or {}
    by_quantity: dict[str, Measurement] = {}
    for m in measurements:
        by_quantity.setdefault(m.quantity, m)
    verdicts = []
    for line, limit in budget.lines(target).items():
        quantity = _QUANTITY.get(line, "")
        found = by_quantity.get(quantity)
        answer = _answer(line, found, by_quantity.get("accuracy_float"), totals.get(quantity)) if found else None
        unit: Unit = QUANTITIES[quantity][0] if quantity else "1"
        if found is None or answer is None:
            why = (not_measured or {}).get(quantity, "") or "nothing measures it here"
            if quantity in RESOURCES and quantity not in totals:
                why = f"{target} has no programmable logic; limits of one target stand under [target.NAME....]"
            verdicts.append(Verdict(line=line, limit=limit, unit=unit, value=None, kind=None, ok=None,
                                    headroom=None, note=why))
            continue
        value, worst = answer
        ok = worst >= limit if line in FLOORS else worst <= limit
        room = (worst - limit) if line in FLOORS else (limit - worst)
        end = percent(worst) if line.startswith(SHARES) else shown(worst, unit)
        note = f"judged by the worse end of its interval, {end}" if worst != value else ""
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
