"""Does qonnx's own executor, which computes in float32, give what the integer graph gives?

Every quantiser is compared on the executor's own input: where the two differ, the graph goes on with the
executor's codes, so that one difference is counted once and not again in every layer behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwkit.integer.graph import IntegerGraph
from hwkit.integer.operators import Node
from hwkit.integer.requantize import Rounded
from hwkit.integer.scaled import Scaled, plain

Executed = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Agreement:
    """images      number of them
    codes          quantised values compared, input and activations
    ties, near     quantiser -> values on, or within 1/1024 of a code of, the edge between two codes
    differing      quantiser -> codes that differ, given the same integers to read
    unexplained    quantiser -> those of them that are off by more than one, or neither a tie nor near
    same           images whose codes are all the same when the graph runs by itself
    same_top1      images whose largest output is the same when the graph runs by itself
    worst          largest difference of an output of those images whose codes are all the same
    """

    images: int
    codes: int
    ties: dict[str, int]
    near: dict[str, int]
    differing: dict[str, int]
    unexplained: dict[str, int]
    same: int
    same_top1: int
    worst: float

    @property
    def exact(self) -> bool:
        """Not one code differs."""
        return not self.differing

    @property
    def explained(self) -> bool:
        return not self.unexplained


def executor(path: Path) -> Callable[[NDArray[np.float32]], Executed]:
    """A function that runs one image (1, ...) by qonnx and gives every tensor by its name."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    model = ModelWrapper(str(path))
    name = model.graph.input[0].name

    def run(image: NDArray[np.float32]) -> Executed:
        found: Executed = execute_onnx(model, {name: image}, return_full_exec_context=True)
        return found

    return run


def compared(path: Path, images: NDArray[np.float32], each: Callable[[int], None] | None = None) -> Agreement:
    """Run a cleaned QONNX file both ways on `images` (n, ...). each: told the number of images done."""
    graph, run = IntegerGraph.from_qonnx(path), executor(path)
    comparison = _Comparison()
    ties: dict[str, int] = {}
    near: dict[str, int] = {}
    same = same_top1 = 0
    worst = 0.0
    for number, image in enumerate(images, 1):
        comparison.theirs, comparison.follow, comparison.equal = run(image[None]), True, True
        graph.run(image[None], comparison.watch)
        for counts, found in ((ties, graph.ties), (near, graph.near)):
            for node, count in found.items():
                counts[node] = counts.get(node, 0) + count
        comparison.follow, comparison.equal = False, True
        ours = graph.run(image[None], comparison.watch).values()
        theirs = comparison.theirs[graph.output]
        same += comparison.equal
        same_top1 += int(ours.argmax() == theirs.argmax())
        if comparison.equal:
            worst = max(worst, float(np.abs(ours - theirs).max(initial=0)))
        if each:
            each(number)
    for node, count in graph.weight_ties.items():
        ties[node] = count
    return Agreement(len(images), comparison.codes, ties, near, comparison.differing, comparison.unexplained, same,
                     same_top1, worst)


class _Comparison:
    """What a run of the integer graph is told by, and what came of it."""

    def __init__(self) -> None:
        self.theirs: Executed = {}
        self.follow = True
        self.equal = True
        self.codes = 0
        self.differing: dict[str, int] = {}
        self.unexplained: dict[str, int] = {}

    def watch(self, node: Node, ours: Scaled, done: Rounded) -> Scaled:
        scale = ours.scale.astype(np.float64)
        theirs = np.rint(self.theirs[node.output].astype(np.float64) / scale).astype(np.int64)
        apart = np.abs(theirs - ours.codes)
        self.equal = self.equal and not apart.any()
        if not self.follow:
            return ours
        self.codes += apart.size
        odd = (apart > done.step) | ((apart > 0) & ~done.ties & ~done.near)
        for counts, number in ((self.differing, int((apart > 0).sum())), (self.unexplained, int(odd.sum()))):
            if number:
                counts[node.name] = counts.get(node.name, 0) + number
        return plain(theirs, ours.scale)

