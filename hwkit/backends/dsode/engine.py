"""The engine's parameters: what one design of hls/dsode is made for, and what it can hold.

One slot, a pair of neighbouring pixels and a group of channels, enters a cycle. In shape s the network has
`simd << s` channels and a slot `pe >> s` of them, so that pe x simd x 2 pointwise multipliers are busy in every
shape.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from hwkit.describe import Frozen
from hwkit.errors import BadInput
from hwkit.integer.separable import IntegerNetwork, OdeBlock, convolutions, validate

Style = Literal["LUTRAM", "BRAM", "URAM"]
STYLES: dict[str, int] = {"LUTRAM": 0, "BRAM": 1, "URAM": 2}

CHAIN = 8                        # inputs a chain of multipliers adds up
MOST_SHAPES = 3
SHIFT_RANGE = 7                  # how far the shifts of one kind may lie apart
LARGEST_BASE = 12                # and how many bits every one of them may drop at the least
MIDDLE_HIGHS = (3, 7, 15, 31, 63, 127)
COUNTED = 256                    # counters of groups, pairs and rows have eight bits
DEPTHWISE_BIAS_BITS = 16
POINTWISE_BIAS_BITS = 20


class Shape(Frozen):
    """One size of feature map. `pairs` a row may be more than half the width: the rest is held as zeros."""

    channels: int
    height: int
    width: int
    pairs: int
    groups: int

    @property
    def row_slots(self) -> int:
        return self.pairs * self.groups

    @property
    def slots(self) -> int:
        """Slots of one pass: as many cycles."""
        return self.height * self.row_slots


class Engine(Frozen):
    """One design.

    pe           outputs of a slot in shape 0, and channels of the depthwise lanes; even
    simd         channels in shape 0: the inputs of the shortest dot product
    lut_blocks   how many of the pe / 2 pointwise blocks are made of LUTs instead of DSPs
    rows         of the state memory, 2 pe bytes each; middle_rows 0: f has one convolution
    *_rows       of the tables of pointwise weights, depthwise weights, pointwise biases; passes of the program
    *_shift      what every shift has at least, *_shift_bits how many bits the rest needs
    """

    pe: int
    simd: int
    shapes: tuple[Shape, ...]
    rows: int
    middle_rows: int
    weight_rows: int
    lane_rows: int
    bias_rows: int
    passes: int
    depthwise_shift: int
    depthwise_shift_bits: int
    pointwise_shift: int
    pointwise_shift_bits: int
    middle_high: int
    lut_blocks: int = 0
    depthwise_dsp: bool = True
    state_style: Style = "BRAM"
    weight_style: Style = "BRAM"
    lane_style: Style = "LUTRAM"
    bias_style: Style = "LUTRAM"

    @model_validator(mode="after")
    def _legal(self) -> Self:
        problem = illegal(self.pe, self.simd, len(self.shapes))
        if problem:
            raise ValueError(problem)
        return self

    @property
    def granule(self) -> int:
        """Channels that lie together in memory, both pixels of each."""
        return self.pe >> len(self.shapes) - 1

    @property
    def row_bytes(self) -> int:
        return 2 * self.pe

    @property
    def pointwise_lanes(self) -> int:
        """Products a cycle."""
        return 2 * self.pe * self.simd

    @property
    def depthwise_lanes(self) -> int:
        return 18 * self.pe

    @property
    def dsps(self) -> int:
        """DSP48E2 slices: four pointwise or two depthwise products each."""
        return (self.pe // 2 - self.lut_blocks) * self.simd + (9 * self.pe if self.depthwise_dsp else 0)

    def parameters(self) -> dict[str, int]:
        """Of the module dsode_core."""
        shapes = [*self.shapes, *[self.shapes[-1]] * (MOST_SHAPES - len(self.shapes))]
        return {
            "LANES": self.pe, "INPUTS": self.simd, "SHAPES": len(self.shapes),
            **{f"R{k}": s.row_slots for k, s in enumerate(shapes)},
            **{f"T{k}": s.groups for k, s in enumerate(shapes)},
            "ROWS": self.rows, "MIDDLE_ROWS": self.middle_rows, "WEIGHT_ROWS": self.weight_rows,
            "LANE_ROWS": self.lane_rows, "BIAS_ROWS": self.bias_rows, "PASSES": self.passes,
            "STATE_STYLE": STYLES[self.state_style], "WEIGHT_STYLE": STYLES[self.weight_style],
            "LANE_STYLE": STYLES[self.lane_style], "BIAS_STYLE": STYLES[self.bias_style],
            "DEPTHWISE_DSP": int(self.depthwise_dsp), "LUT_BLOCKS": self.lut_blocks,
            "DEPTHWISE_SHIFT": self.depthwise_shift, "DEPTHWISE_SHIFT_BITS": self.depthwise_shift_bits,
            "POINTWISE_SHIFT": self.pointwise_shift, "POINTWISE_SHIFT_BITS": self.pointwise_shift_bits,
            "MIDDLE_HIGH": self.middle_high,
        }


def illegal(pe: int, simd: int, shapes: int) -> str:
    """What is wrong with a folding; "" when the engine can be made so."""
    if simd < CHAIN or simd & simd - 1:
        return f"{simd} channels in the first stage: the engine takes 8, 16, 32, 64, ..."
    if not 1 <= shapes <= MOST_SHAPES:
        return f"{shapes} sizes of feature map: the engine takes at most {MOST_SHAPES}"
    least = 2 << shapes - 1
    if pe < least or pe > simd or pe & pe - 1:
        return f"PE {pe}: legal are powers of two from {least} to {simd}"
    return ""


def legal_pe(simd: int, shapes: int) -> list[int]:
    """Every PE the engine can be made with, smallest first."""
    return [pe for pe in (1 << k for k in range(1, 12)) if not illegal(pe, simd, shapes)]


def shapes_of(network: IntegerNetwork, pe: int) -> tuple[Shape, ...]:
    """The sizes of feature map that the engine meets, in their order.

    Raises BadInput when channels do not double, or a size is beyond the counters.
    """
    channels, height, width = network.state_shape
    simd = channels
    sizes = [(channels, height, width)]
    for part in network.core:
        if isinstance(part, OdeBlock):
            continue
        if part.convolution.outputs != 2 * channels or part.convolution.stride != 2:
            raise BadInput(f"a transition goes from {channels} to {part.convolution.outputs} channels with stride "
                           f"{part.convolution.stride}; the on-chip engine doubles the channels with stride 2",
                           "choose the network's channels as C, 2C, 4C")
        channels, height, width = 2 * channels, -(-height // 2), -(-width // 2)
        sizes.append((channels, height, width))
    problem = illegal(pe, simd, len(sizes))
    if problem:
        raise BadInput(f"{network.name} does not fit the on-chip engine: {problem}",
                       f"legal PE: {', '.join(map(str, legal_pe(simd, len(sizes)))) or 'none'}")
    pairs: list[int] = []
    for _, _, width in reversed(sizes):     # a row has two pairs at least, and twice what the next size needs
        pairs.insert(0, max(-(-width // 2), 2 * pairs[0] - 1 if pairs else 2))
    found = tuple(Shape(channels=c, height=h, width=w, pairs=n, groups=c // (pe >> k))
                  for k, ((c, h, w), n) in enumerate(zip(sizes, pairs, strict=True)))
    for k, shape in enumerate(found):
        groups = shape.groups * (2 if k < len(found) - 1 else 1)      # of a transition's outputs
        if max(shape.height, shape.pairs, groups) > COUNTED or shape.slots > 65535:
            raise BadInput(f"a feature map of {shape.channels}x{shape.height}x{shape.width} is larger than the "
                           f"engine counts at PE {pe}", "raise PE, or use smaller images")
    return found


def _shift(values: list[int], what: str) -> tuple[int, int]:
    low, high = min(*values, LARGEST_BASE), max(values)
    if low < 0:
        raise BadInput(f"a {what} shift is {low}; the engine shifts right only", "quantise again")
    if high - low > SHIFT_RANGE:
        raise BadInput(f"{what} shifts go from {low} to {high}; the engine's lie at most {SHIFT_RANGE} apart",
                       "quantise again")
    return low, (high - low).bit_length()


def engine_for(network: IntegerNetwork, pe: int, **choices: object) -> Engine:
    """The design for one network. `choices` are fields of Engine. Raises BadInput when it cannot be made."""
    if not network.core:
        raise BadInput(f"{network.name} has nothing between its first and its last layer", "deploy it elsewhere")
    validate(network)
    if network.middle_high not in MIDDLE_HIGHS:
        raise BadInput(f"the values between f's convolutions go up to {network.middle_high}; the engine ends at "
                       f"one of {', '.join(map(str, MIDDLE_HIGHS))}", "quantise again with middle_bits of 2 to 7")
    shapes = shapes_of(network, pe)
    convs = [conv for _, conv in convolutions(network)]
    depthwise = _shift([int(s) for conv in convs for s in conv.depthwise_shift], "depthwise")
    pointwise = _shift([int(s) for conv in convs for s in conv.pointwise_shift], "pointwise")
    blocks = [part for part in network.core if isinstance(part, OdeBlock)]
    if any(len(block.convolutions) > 2 for block in blocks):
        raise BadInput(f"{network.name}: f has more than two convolutions, the engine takes one or two")
    lanes = {shape.channels: pe >> k for k, shape in enumerate(shapes)}
    deepest = max(-(-shape.slots // (1 << k)) for k, shape in enumerate(shapes))
    two = any(len(block.convolutions) == 2 for block in blocks)
    groups_out = [conv.outputs // lanes[conv.inputs] for conv in convs]
    return Engine.model_validate({
        "pe": pe, "simd": shapes[0].channels, "shapes": shapes, "rows": deepest,
        "middle_rows": deepest if two else 0, "weight_rows": sum(groups_out),
        "lane_rows": sum(conv.inputs // lanes[conv.inputs] for conv in convs),
        "bias_rows": sum(len(conv.pointwise_bias) * n for conv, n in zip(convs, groups_out, strict=True)),
        "passes": sum(part.steps * len(part.convolutions) if isinstance(part, OdeBlock) else 1
                      for part in network.core),
        "depthwise_shift": depthwise[0], "depthwise_shift_bits": depthwise[1],
        "pointwise_shift": pointwise[0], "pointwise_shift_bits": pointwise[1],
        "middle_high": network.middle_high, **choices})
