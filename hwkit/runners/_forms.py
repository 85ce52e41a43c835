"""Forms and precisions of one network, timed side by side: which is fastest, and what the figures tell of why."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from hwkit.artifact import Finding, StageFile
from hwkit.measurement import median_interval
from hwkit.units import shown


@dataclass(frozen=True)
class Form:
    """One form of the network as it was timed.

    form       as hwkit.artifact.Variant has it
    calls      of the runtime, an inference
    copies_s   of the same inferences as `seconds`, to and from a GPU; empty where nothing is copied
    every      one of so many inferences was kept
    accurate   it may be reported in place of what is deployed
    """

    name: str
    precision: str
    form: str
    calls: int
    seconds: tuple[float, ...]
    copies_s: tuple[float, ...] = ()
    every: int = 1
    accurate: bool = True

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    def text(self) -> str:
        return f"{self.name} {shown(self.median_s, 's')} ({self.calls} call{'s' if self.calls != 1 else ''})"


def calls(stages: Sequence[StageFile]) -> int:
    """Of the runtime, an inference."""
    return sum(s.repeat for s in stages)


def fastest(forms: Sequence[Form]) -> Form:
    """The fastest of those that have the precision of the first, which is what is deployed."""
    return min((f for f in forms if f.precision == forms[0].precision and f.accurate), key=lambda f: f.median_s)


def findings(forms: Sequence[Form]) -> list[Finding]:
    """Which form of the deployed precision won, and how the other precisions do against the deployed one."""
    deployed, best = forms[0], fastest(forms)
    found = []
    rivals = [f for f in forms if f.precision == deployed.precision and f is not best and f.accurate]
    if rivals:
        text = f"{', '.join(f.text() for f in forms if f.precision == deployed.precision)}; " \
               f"{'; '.join(_won(best, other) for other in rivals)}"
        if best is not deployed:
            text += f"; the latency reported is that of {best.name}, what is deployed is {deployed.name}"
        found.append(Finding(name="ODE form", ok=True if best is deployed else None, text=text))
    for precision in dict.fromkeys(f.precision for f in forms if f.precision != best.precision):
        other = min((f for f in forms if f.precision == precision), key=lambda f: f.median_s)
        found.append(_against(best, other))
    return found


def _same(a: Form, b: Form) -> bool:
    """Whether the intervals of their medians overlap."""
    (low_a, high_a), (low_b, high_b) = median_interval(a.seconds), median_interval(b.seconds)
    return low_a <= high_b and low_b <= high_a


def _won(best: Form, other: Form) -> str:
    if _same(best, other):
        return f"no difference between {best.form} and {other.form} that these samples can tell"
    gap = other.median_s - best.median_s
    text = f"{best.form} takes {100 * gap / other.median_s:.0f} % less than {other.form}"
    more = other.calls - best.calls
    if more > 0:
        return f"{text}, which makes {more} more calls: {shown(gap / more, 's')} each if nothing else differs"
    if more < 0:
        return f"{text} although it makes {-more} more calls: the larger graph costs more than they do"
    return text


def _against(best: Form, other: Form) -> Finding:
    """The deployed precision against another one."""
    text = f"{best.text()}, {other.text()}: "
    if _same(best, other):
        text, ok = text + "no difference that these samples can tell", None
    elif best.median_s < other.median_s:
        text, ok = text + f"{other.median_s / best.median_s:.2f} times as fast", True
    else:
        text, ok = text + f"{best.precision} lost, taking {best.median_s / other.median_s:.2f} times as long", None
    return Finding(name=f"{best.precision} against {other.precision}", ok=ok, text=text)
