"""Random integer networks that the on-chip engine can run, and states for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwkit.integer.arithmetic import Ints
from hwkit.integer.separable import Head, IntegerNetwork, OdeBlock, Separable, Stem, Transition


@dataclass(frozen=True)
class Plan:
    """channels, height, width   of the first state; a transition doubles and halves them
    stages, steps, convolutions  ODE blocks, solver steps of each, separable convolutions in f
    rows                         of pointwise biases: 1, or one a step
    depthwise_shift, pointwise_shift   first and last
    opening, closing             whether a transition stands before the first block, after the last
    """

    channels: int
    height: int
    width: int
    stages: int = 1
    steps: int = 2
    convolutions: int = 1
    rows: int = 1
    middle_high: int = 127
    depthwise_shift: tuple[int, int] = (4, 9)
    pointwise_shift: tuple[int, int] = (1, 4)
    opening: bool = False
    closing: bool = False

    @property
    def shapes(self) -> int:
        return self.stages + self.opening + self.closing

    def network(self, seed: int = 0) -> IntegerNetwork:
        rng = np.random.default_rng(seed)
        core: list[OdeBlock | Transition] = []
        channels = self.channels
        for shape in range(self.shapes):
            if shape:
                core.append(Transition(separable(rng, self, channels, 2 * channels, stride=2)))
                channels *= 2
            if (self.opening and shape == 0) or (self.closing and shape == self.shapes - 1):
                continue
            core.append(OdeBlock(tuple(separable(rng, self, channels, channels, rows=self.rows)
                                       for _ in range(self.convolutions)), self.steps))
        return network_of(core, self.channels, (self.height, self.width), self.middle_high)


# As little hardware as an engine can be, with PE 2; its second pass waits for the first, one cycle.
SMALLEST = Plan(8, 4, 8, depthwise_shift=(7, 8), pointwise_shift=(2, 2))


def separable(rng: np.random.Generator, plan: Plan, inputs: int, outputs: int, stride: int = 1,
              rows: int = 1) -> Separable:
    """Weights over all of INT4, shifts over all the plan has; inner values and results exceed their range."""
    (low, high), (first, last) = plan.depthwise_shift, plan.pointwise_shift
    shift = rng.integers(low, high + 1, inputs)
    pointwise = rng.integers(-8, 8, (outputs, inputs))
    after = rng.integers(first, last + 1, outputs)
    return Separable(
        depthwise=rng.integers(-8, 8, (inputs, 3, 3)),
        depthwise_bias=(8 << shift) + rng.integers(-600, 600, inputs),
        depthwise_shift=shift,
        pointwise=pointwise,
        pointwise_bias=rng.integers(-60, 60, (rows, outputs)) * (1 << after) // 4 - 8 * pointwise.sum(1),
        pointwise_shift=after,
        stride=stride)


def network_of(core: list[OdeBlock | Transition], channels: int, size: tuple[int, int],
               middle_high: int = 127) -> IntegerNetwork:
    """Stem and head are not the engine's: they only say which shapes it takes and gives."""
    last = core[-1]
    convolution = last.convolutions[-1] if isinstance(last, OdeBlock) else last.convolution
    nothing = np.zeros(channels, np.int64)
    return IntegerNetwork(
        name="test", input_shape=(1, *size),
        stem=Stem(np.zeros((channels, 1, 3, 3), np.int64), nothing, nothing, 1, 1.0), core=tuple(core),
        head=Head(np.zeros((2, convolution.outputs), np.int64), np.zeros(2, np.int64), 1.0),
        middle_high=middle_high)


def states(network: IntegerNetwork, count: int, seed: int = 1) -> Ints:
    """(count + 5, C, H, W): random ones, then all -128, all 127, all 0, and two checkerboards of the ends."""
    shape = network.state_shape
    drawn = np.random.default_rng(seed).integers(-128, 128, (count, *shape))
    board = np.where(np.indices(shape).sum(0) % 2, 127, -128)
    ends = [np.full(shape, value) for value in (-128, 127, 0)]
    return np.concatenate([drawn, np.stack([*ends, board, -1 - board])])
