"""From an integer network to what the engine's memories hold: tables of weights, biases, and the program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwkit.backends.dsode import schedule
from hwkit.backends.dsode.engine import DEPTHWISE_BIAS_BITS, POINTWISE_BIAS_BITS, Engine
from hwkit.errors import BadInput
from hwkit.integer.separable import INNER_HIGH, IntegerNetwork, Separable, convolutions

Words = NDArray[np.uint64]
FIELD_OFFSET = 128               # a packed product adds 1024 to eight inputs' sum: 128 an input


def banks(engine: Engine) -> dict[str, int]:
    """First bank of each table on the configuration bus, and "end"."""
    weight = 8 * -(-engine.pe * engine.simd // 2 // 64)
    tap = 9 * -(-4 * engine.pe // 64)
    firsts = np.cumsum([0, weight, tap, engine.pe // 2, engine.pe // 2, 3])
    return dict(zip(("weights", "taps", "lane_bias", "bias", "program", "end"), map(int, firsts), strict=True))


def configuration(network: IntegerNetwork, engine: Engine) -> list[tuple[int, int, int]]:
    """Every (bank, row, 64-bit word) that must be written before the first run.

    Raises BadInput when a bias is wider than the engine's.
    """
    first = banks(engine)
    words: list[tuple[int, int, int]] = []
    weight_row = lane_row = bias_row = 0
    starts: list[tuple[int, int, int]] = []
    halving = {shape.channels: k for k, shape in enumerate(engine.shapes)}
    for name, conv in convolutions(network):
        shape = halving[conv.inputs]
        starts.append((lane_row, weight_row, bias_row))
        for group, row in enumerate(_tap_rows(conv, engine, shape)):
            for tap, nibbles in enumerate(row):
                words += _spread(first["taps"] + tap * -(-4 * engine.pe // 64), lane_row + group, nibbles, 4)
        for group, values in enumerate(_lane_biases(name, conv, engine, shape)):
            words += _spread(first["lane_bias"], lane_row + group, values, 32)
        for group, positions in enumerate(_weight_rows(conv, engine, shape)):
            for position, nibbles in enumerate(positions):
                words += _spread(first["weights"] + position * -(-engine.pe * engine.simd // 2 // 64),
                                 weight_row + group, nibbles, 4)
        for number, values in enumerate(_biases(name, conv, engine, shape)):
            words += _spread(first["bias"], bias_row + number, values, 32)
        groups_in, groups_out = (n // (engine.pe >> shape) for n in (conv.inputs, conv.outputs))
        lane_row += groups_in
        weight_row += groups_out
        bias_row += groups_out * len(conv.pointwise_bias)
    for number, descriptor in enumerate(_descriptors(network, engine, starts)):
        for k in range(3):
            words.append((first["program"] + k, number, descriptor >> 64 * k & (1 << 64) - 1))
    return words


def _spread(bank: int, row: int, values: Any, bits: int) -> Iterator[tuple[int, int, int]]:
    """`values` of `bits` bits each, packed into 64-bit words from `bank` on, the first lowest."""
    per = 64 // bits
    mask = (1 << bits) - 1
    for k in range(0, len(values), per):
        word = 0
        for n, value in enumerate(values[k:k + per]):
            word |= (int(value) & mask) << bits * n
        yield bank + k // per, row, word


def _tap_rows(conv: Separable, engine: Engine, shape: int) -> Iterator[list[NDArray[np.int64]]]:
    """A row a channel group: for each of the nine taps the lanes' nibbles, zeros where the shape has no lane."""
    lanes = engine.pe >> shape
    for group in range(conv.inputs // lanes):
        row = []
        for tap in range(9):
            ky, kx = 2 - tap // 3, 2 - tap % 3
            values = np.zeros(engine.pe, np.int64)
            values[:lanes] = conv.depthwise[group * lanes:(group + 1) * lanes, ky, kx]
            row.append(values)
        yield row


def _fits(name: str, what: str, values: NDArray[np.int64], bits: int) -> None:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    if values.min() < low or values.max() > high:
        raise BadInput(f"{name}: {what} biases go from {values.min()} to {values.max()}, the engine holds "
                       f"{bits} bits", "quantise again")


def _lane_biases(name: str, conv: Separable, engine: Engine, shape: int) -> Iterator[NDArray[np.int64]]:
    _fits(name, "depthwise", conv.depthwise_bias, DEPTHWISE_BIAS_BITS)
    lanes = engine.pe >> shape
    words = conv.depthwise_bias & 0xffff | (conv.depthwise_shift - engine.depthwise_shift) << 16
    for group in range(conv.inputs // lanes):
        values = np.zeros(engine.pe, np.int64)
        values[:lanes] = words[group * lanes:(group + 1) * lanes]
        yield values


def _weight_rows(conv: Separable, engine: Engine, shape: int) -> Iterator[list[NDArray[np.int64]]]:
    """A row an output group: for each position in a chain the nibbles of (block, output of the pair, chain).

    Block o of output pair q sees the o mod 2^shape -th part of the inputs; q = o >> shape.
    """
    lanes, chains = engine.pe >> shape, engine.simd // 8
    for group in range(conv.outputs // lanes):
        positions = []
        for position in range(8):
            nibbles = []
            for block in range(engine.pe // 2):
                pair, part = block >> shape, block & (1 << shape) - 1
                for output in (2 * pair, 2 * pair + 1):
                    inputs = part * engine.simd + position + 8 * np.arange(chains)
                    nibbles.append(conv.pointwise[group * lanes + output, inputs])
            positions.append(np.concatenate(nibbles))
        yield positions


def _biases(name: str, conv: Separable, engine: Engine, shape: int) -> Iterator[NDArray[np.int64]]:
    lanes = engine.pe >> shape
    biases = conv.pointwise_bias - FIELD_OFFSET * conv.inputs
    _fits(name, "pointwise", biases, POINTWISE_BIAS_BITS)
    least, most = (INNER_HIGH * limit(conv.pointwise, 0).sum(axis=1) for limit in (np.minimum, np.maximum))
    _fits(name, "sums of pointwise", np.concatenate([conv.pointwise_bias + least, conv.pointwise_bias + most,
                                                     (most + FIELD_OFFSET * conv.inputs)[None]]),
          POINTWISE_BIAS_BITS)
    words = biases & 0xfffff | (conv.pointwise_shift - engine.pointwise_shift) << 24
    for step in words:
        for group in range(conv.outputs // lanes):
            values = np.zeros(engine.pe, np.int64)
            values[:lanes] = step[group * lanes:(group + 1) * lanes]
            yield values


def _descriptors(network: IntegerNetwork, engine: Engine, starts: list[tuple[int, int, int]]) -> Iterator[int]:
    """The program memory's rows, 192 bits each; the fields are those that dsode_core takes apart."""
    convs = [conv for _, conv in convolutions(network)]
    program = schedule.passes(network, engine)
    for p in program:
        shape, conv = engine.shapes[p.shape], convs[p.convolution]
        lane_row, weight_row, bias_row = starts[p.convolution]
        width_out, height_out = shape.width, shape.height
        pairs_out = shape.pairs
        if p.strided:
            width_out, height_out, pairs_out = -(-shape.width // 2), -(-height_out // 2), -(-pairs_out // 2)
        bias_row += p.step % len(conv.pointwise_bias) * p.groups_out
        fields = (
            (0, p.shape), (2, p.source == "middle"), (3, p.target == "middle"), (4, p.skip), (5, p.skip),
            (6, p.target == "middle"), (7, p.strided), (8, p is program[-1]),
            (16, shape.slots - 1), (32, p.gap), (48, schedule.lag(shape)),
            (64, shape.groups - 1), (72, p.groups_out - 1), (80, shape.pairs - 1), (88, shape.height - 1),
            (96, pairs_out - 1), (104, height_out - 1), (112, width_out),
            (128, lane_row), (144, weight_row), (160, bias_row))
        yield sum(int(value) << at for at, value in fields)


def pack_state(states: NDArray[np.int64], engine: Engine, shape: int) -> NDArray[np.int8]:
    """(n, C, H, W) -> (n, rows, 2 pe) bytes as the state memory holds them: pair, granule, pixel, channel."""
    at = engine.shapes[shape]
    n, channels, height, width = states.shape
    padded = np.zeros((n, channels, height, 2 * at.pairs), np.int8)
    padded[..., :width] = states
    split = padded.reshape(n, channels // engine.granule, engine.granule, height, at.pairs, 2)
    dense = split.transpose(0, 3, 4, 1, 5, 2).reshape(n, -1)
    rows = -(-dense.shape[1] // engine.row_bytes)
    whole = np.zeros((n, rows * engine.row_bytes), np.int8)
    whole[:, :dense.shape[1]] = dense
    return whole.reshape(n, rows, engine.row_bytes)


def unpack_state(rows: NDArray[np.int8], engine: Engine, shape: int) -> NDArray[np.int64]:
    """What pack_state made, back to (n, C, H, W); the columns that only pad are dropped."""
    at = engine.shapes[shape]
    n = len(rows)
    size = at.channels * at.height * 2 * at.pairs
    split = rows.reshape(n, -1)[:, :size].reshape(
        n, at.height, at.pairs, at.channels // engine.granule, 2, engine.granule)
    states = split.transpose(0, 3, 5, 1, 2, 4).reshape(n, at.channels, at.height, 2 * at.pairs)
    return np.ascontiguousarray(states[..., :at.width]).astype(np.int64)
