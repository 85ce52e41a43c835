"""Which layers stay in float when int8 costs too much, chosen by measuring.

Each layer is tried alone in int8; while the whole network loses more than was allowed, the layers whose own error
is largest go back to float, twice as many each time, and then as few as still do. The images for that choice are
not those that the report scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwkit.artifact import Finding
from hwkit.backends._agreement import outputs
from hwkit.backends._onnx.forms import Piece
from hwkit.backends._onnx.qdq import quantised_nodes, restored
from hwkit.backends._onnx.session import Chain, Floats
from hwkit.jobs import Say

TRIED = 16      # images on which a layer's own error is measured
NAMED = 6       # layers named in the report


@dataclass(frozen=True)
class Judge:
    """The images of the choice, what the float network says of them, and the classes they are of, if known."""

    images: Floats
    expected: Floats
    labels: NDArray[np.int64] | None
    largest_drop: float
    batch: int = 1

    def outputs(self, pieces: Sequence[Piece], count: int | None = None) -> Floats:
        return outputs(Chain(pieces), self.images[:count], "int8", lambda text: None, self.batch)

    def drop(self, pieces: Sequence[Piece]) -> float:
        """Share of right answers lost; without labels, share of answers that change; else the relative error."""
        got = self.outputs(pieces)
        if got.ndim != 2 or got.shape[1] < 2:
            return relative_error(got, self.expected)
        answers, wanted = got.argmax(axis=1), self.expected.argmax(axis=1)
        if self.labels is None:
            return float(np.mean(answers != wanted))
        return float(np.mean(wanted == self.labels) - np.mean(answers == self.labels))

    @property
    def measure(self) -> str:
        if self.expected.ndim != 2 or self.expected.shape[1] < 2:
            return "relative RMS error"
        return "share of answers that change" if self.labels is None else "share of right answers lost"


@dataclass(frozen=True)
class Chosen:
    pieces: list[Piece]
    finding: Finding


def relative_error(got: Floats, wanted: Floats) -> float:
    """RMS of the difference over RMS of what was wanted."""
    scale = float(np.sqrt(np.mean(np.square(wanted, dtype=np.float64)))) or 1.0
    return float(np.sqrt(np.mean(np.square(got - wanted, dtype=np.float64)))) / scale


def chosen(quantized: Sequence[Piece], floats: Sequence[Piece], judge: Judge, say: Say) -> Chosen:
    """The network in int8 with as many layers in float as it needs to lose no more than the judge allows."""
    drop = judge.drop(quantized)
    layers = [name for piece in quantized for name in quantised_nodes(piece.model)]
    about = f"{judge.measure} on {len(judge.images)} images kept for this choice"
    if drop <= judge.largest_drop:
        return Chosen(list(quantized), Finding(name="layers left in float", ok=True,
                      text=f"none of {len(layers)}: {drop:.2%} {about}, {judge.largest_drop:.2%} allowed"))
    worst = _worst_first(quantized, floats, layers, judge, say)
    count, tried = _fewest(quantized, floats, worst, judge, drop, say)
    named = ", ".join(worst[:min(count, NAMED)]) + (f" and {count - NAMED} more" if count > NAMED else "")
    reached = tried[count]
    return Chosen(_with_float(quantized, floats, worst[:count]),
                  Finding(name="layers left in float", ok=None if reached <= judge.largest_drop else False,
                          text=f"{count} of {len(layers)} ({named}): with none {drop:.2%} {about}, so "
                               f"{reached:.2%}; {judge.largest_drop:.2%} allowed"))


def _with_float(quantized: Sequence[Piece], floats: Sequence[Piece], names: Sequence[str]) -> list[Piece]:
    return [piece.with_model(restored(piece.model, original.model, piece.name, names))
            for piece, original in zip(quantized, floats, strict=True)]


def _worst_first(quantized: Sequence[Piece], floats: Sequence[Piece], layers: Sequence[str], judge: Judge,
                 say: Say) -> list[str]:
    """Layers by the error that each makes when it alone is in int8."""
    wanted = judge.expected[:TRIED]
    errors = {}
    for number, layer in enumerate(layers):
        say(f"trying layers alone in int8: {number + 1} of {len(layers)}")
        alone = _with_float(quantized, floats, [name for name in layers if name != layer])
        errors[layer] = relative_error(judge.outputs(alone, TRIED), wanted)
    return sorted(layers, key=lambda name: -errors[name])


def _fewest(quantized: Sequence[Piece], floats: Sequence[Piece], worst: Sequence[str], judge: Judge, none: float,
            say: Say) -> tuple[int, dict[int, float]]:
    """How many of the worst must go back, and the drop for each number that was tried."""
    tried = {0: none}

    def good(count: int) -> bool:
        say(f"leaving {count} layers in float")
        tried[count] = judge.drop(_with_float(quantized, floats, worst[:count]))
        return tried[count] <= judge.largest_drop

    high = 1
    while not good(high) and high < len(worst):
        high = min(2 * high, len(worst))
    low = max((n for n in tried if n < high), default=0)
    while high - low > 1 and tried[high] <= judge.largest_drop:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return high, tried
