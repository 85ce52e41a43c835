"""What a run shows about an artifact: checks on its outputs, its timing and its per-operator costs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from hwkit.artifact import Artifact, Finding
from hwkit.measurement import percentile
from hwkit.runners import OperatorCost
from hwkit.units import shown

Array = np.ndarray[Any, Any]

ROUNDING = 1e-4          # of the largest output: what another order of float additions may change
REQUANTISED = 2e-2       # of the largest output: what another rounding of dynamically quantised inputs may change
ADDS_UP = (0.8, 1.25)    # sum of operators over the whole
DRIFT = 0.10             # change of the median over a timed pass that is worth saying
LOOSE = 1.5              # times the build machine's own error: what other kernels of a precision may make of it
SLACK = 1e-3             # of the outputs' RMS, on top of that: the build machine may have hardly any error
FENCE = 3.0              # outliers lie this many interquartile ranges outside the quartiles (Tukey's far out)


def _golden(artifact: Artifact, name: str) -> Array | None:
    path = artifact.path(f"golden/{name}.npy")
    return np.load(path, allow_pickle=False) if path.is_file() else None


def same_outputs(artifact: Artifact, raw: Array) -> Finding | None:
    """The board's raw outputs against the ones the build machine computed from the same file."""
    name = "outputs as built"
    golden = _golden(artifact, "raw_outputs")
    if golden is None:
        return None
    if golden.shape != raw.shape or golden.dtype != raw.dtype:
        return Finding(name=name, ok=False, text=f"the board gives {raw.dtype} {list(raw.shape)}, "
                                                 f"the build machine gave {golden.dtype} {list(golden.shape)}")
    n = len(raw)
    same = int(np.sum(np.all((raw == golden).reshape(n, -1), axis=1)))
    if same == n:
        return Finding(name=name, ok=True, text=f"all {n} are bit-identical to the build machine's")
    difference = float(np.max(np.abs(raw.astype(np.float64) - golden.astype(np.float64))))
    text = f"{same} of {n} are bit-identical to the build machine's; largest difference {difference:.3g}"
    if not np.isfinite(difference):
        return Finding(name=name, ok=False, text=text + ": not a number where the other has one")
    if raw.dtype.kind != "f":
        return Finding(name=name, ok=None if difference <= 1 else False,
                       text=f"{text} quantisation step{'s' if difference != 1 else ''}")
    relative = difference / (float(np.max(np.abs(golden))) or 1.0)
    ok = True if relative <= ROUNDING else None if relative <= REQUANTISED else False
    return Finding(name=name, ok=ok, text=f"{text}, {relative:.1e} of the largest output")


def rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def as_accurate(artifact: Artifact, outputs: Array) -> Finding | None:
    """The board's error against the trained network, beside the build machine's: for kernels that round otherwise.

    `outputs` are float32, for all golden inputs or the first of them.
    """
    golden = [_golden(artifact, name) for name in ("expected", "outputs")]
    name, n = "as accurate as built", len(outputs)
    if any(g is None or g[:n].shape != outputs.shape for g in golden):
        return None
    expected, built = (g[:n] for g in golden if g is not None)
    whole = rms(expected) or 1.0
    here, there = rms(outputs - expected) / whole, rms(built - expected) / whole
    return Finding(name=name, ok=here <= LOOSE * there + SLACK,
                   text=f"RMS error against the trained network {100 * here:.3g} % of its outputs' RMS on the "
                        f"board, {100 * there:.3g} % on the build machine; up to {LOOSE:g} times that and "
                        f"{100 * SLACK:g} % counts as the same")


def same_answers(artifact: Artifact, outputs: Array) -> Finding | None:
    """The board's answers against the trained network's, and against the labels where there are some.

    Only for classifiers: outputs of shape (n, classes) with more than one class.
    """
    expected = _golden(artifact, "expected")
    if expected is None or expected.shape != outputs.shape or outputs.ndim != 2 or outputs.shape[1] < 2:
        return None
    answers, wanted = np.argmax(outputs, axis=1), np.argmax(expected, axis=1)
    n, agree = len(answers), int(np.sum(answers == wanted))
    text = f"{agree} of {n} answers are the trained network's"
    labels = _golden(artifact, "labels")
    if labels is not None and len(labels) == n:
        text += f"; {int(np.sum(answers == labels))} of {n} are right, the trained network has " \
                f"{int(np.sum(wanted == labels))}"
    return Finding(name="answers on the board", ok=True if agree == n else None, text=text)


def operators_add_up(artifact: Artifact, costs: Sequence[OperatorCost], failed: Sequence[str], whole: float,
                     unit: str) -> Finding:
    """The sum of all operators, each profiled alone, against the whole network.

    `failed` are the operators that could not be run alone, with why.
    """
    repeat = {o.index: o.repeat for o in artifact.manifest.built.operators}
    total = sum(c.value * repeat[c.index] for c in costs)
    ratio = total / whole
    text = f"operators run alone sum to {ratio:.2f} of the whole ({shown(total, unit)} of {shown(whole, unit)})"
    left_out = len(repeat) - len(costs)
    if left_out:
        text += f"; {left_out} of {len(repeat)} not profiled" + (f" ({failed[0]})" if failed else "")
    fits = ADDS_UP[0] <= ratio <= ADDS_UP[1]
    if not fits:
        text += ": read the table as an order, not as shares"
    return Finding(name="operators add up", ok=True if fits else None, text=text)


def steadiness(samples: Sequence[float], parts: Sequence[int] = (),
               controls: Sequence[Sequence[float]] = ()) -> list[Finding]:
    """Outliers and drift in a timed pass: said, never dropped.

    parts      sizes of the windows it came in, in order; thirds by default
    controls   windows of the same taken later, between other passes
    """
    found = []
    low, high = percentile(samples, 25), percentile(samples, 75)
    fence = high + FENCE * (high - low)
    outliers = [s for s in samples if s > fence]
    if outliers:
        found.append(Finding(name="outliers", ok=None,
                             text=f"{len(outliers)} of {len(samples)} inferences took more than "
                                  f"{shown(fence, 's')} (slowest {shown(max(outliers), 's')}); they are kept"))
    third = max(1, len(samples) // 3)
    sizes = parts or (third, len(samples) - 2 * third, third)
    ends = list(accumulate(sizes, initial=0))
    windows = [samples[a:b] for a, b in pairwise(ends) if b > a]
    medians = [statistics.median(w) for w in (*windows, *controls)]
    furthest = max(range(len(medians)), key=lambda k: abs(medians[k] / medians[0] - 1))
    change = medians[furthest] / medians[0] - 1
    if abs(change) > DRIFT:
        where = f"window {furthest + 1} of {len(medians)}" if furthest < len(windows) else \
            "a window between the operators"
        found.append(Finding(name="drift", ok=None,
                             text=f"the inferences of {where} take {100 * change:+.0f} % against the first "
                                  "window: throttling, or another load on the machine"))
    return found
