"""Working memory of a network, from how long each of its values lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwkit.measurement import Measurement

ALIGNMENT_BYTES = 64   # tflite::kDefaultTensorAlignment, and XNN_ALLOCATION_ALIGNMENT on ARM


@dataclass(frozen=True)
class Block:
    """A tensor that needs `size_bytes` from operator `first` to operator `last`, both included."""

    size_bytes: int
    first: int
    last: int

    @classmethod
    def of(cls, size_bytes: int, first: int, last: int) -> Block:
        """With its size rounded up to the alignment."""
        return cls(-(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES, first, last)

    def meets(self, other: Block) -> bool:
        return self.first <= other.last and other.first <= self.last


def planned_bytes(tensors: Sequence[Block]) -> int:
    """Greedy by size: largest first, each at the lowest offset free for its life.

    The plan of TFLite and of XNNPACK (Pisarchyk and Lee, arXiv 2001.03288, algorithm 3).
    """
    placed: list[tuple[int, Block]] = []
    for tensor in sorted(tensors, key=lambda t: (-t.size_bytes, t.first)):
        offset = 0
        for at, other in sorted((p for p in placed if p[1].meets(tensor)), key=lambda p: p[0]):
            if at - offset >= tensor.size_bytes:
                break
            offset = max(offset, at + other.size_bytes)
        placed.append((offset, tensor))
    return max((at + t.size_bytes for at, t in placed), default=0)


def arena(tensors: Sequence[Sequence[Block]]) -> Measurement:
    """Working memory of all stages together, each of which keeps its own; `tensors` of each stage.

    The runtime works on some tensors in place and never makes those it fuses away, so that it can need
    less than the plan; scratch memory of its kernels comes on top, so that it can need more.
    """
    plan = sum(planned_bytes(t) for t in tensors)
    largest = sum(max((b.size_bytes for b in t), default=0) for t in tensors)
    everything = sum(b.size_bytes for t in tensors for b in t)
    return Measurement(quantity="arena", unit="bytes", kind="estimated", samples=(float(plan),),
                       low=float(largest), high=float(min(everything, 2 * plan)),
                       source="greedy-by-size plan over the lifetimes of the tensors; low: the largest tensors "
                              "alone, high: twice the plan, or every tensor in a place of its own")
