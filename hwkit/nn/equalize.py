"""Scales for a separable network, chosen on images, then absorbed: what it computes does not change.

The scale of a channel is free wherever the next layer can undo it: a depthwise result's in the pointwise columns,
f's middle value's in the next depthwise filter, a state channel's in everything that makes and reads it. Here
each is chosen so that one LSB of the integer network is 1: the float network that comes out counts in LSBs.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from hwkit.integer.separable import STATE_HIGH
from hwkit.nn.dyadic import (
    CPU_BITS,
    EXACT,
    MAX_SHIFT,
    MAX_SHIFT_SPREAD,
    DyadicConv,
    DyadicHead,
    DyadicNetwork,
    DyadicOde,
    DyadicStem,
    DyadicTransition,
    Precision,
)
from hwkit.nn.separable import FloatConv, FloatHead, FloatOde, FloatSeparable, FloatTransition

SAMPLES = 200_000          # values a channel is judged by, at most
COVERED = 0.9995           # of a state's or middle's values that are not to saturate
LSBS_TRIED = 25            # eighths of an octave: up to 8 times the least
INNER_LOW, INNER_HIGH = -8, 7
INNER_SPANS = tuple(0.35 * 1.12**k for k in range(12))   # widths tried, as fractions of the whole range


def equalized(network: FloatSeparable, images: torch.Tensor, precision: Precision) -> FloatSeparable:
    """The same function, with every activation in LSBs of the integer network.

    images  (n, *input_shape) float32, to choose ranges with
    """
    seen = _watched(network, images)
    groups = 1 + sum(isinstance(part, FloatTransition) for part in network.core)
    steps = max(part.steps for part in network.core if isinstance(part, FloatOde))
    values = [seen[f"state{group}"] for group in range(groups)]
    states = [_span(value, STATE_HIGH) for value in values]
    _, rows = _rescaled(network, states, seen, precision)   # the rows depend a little on the states' scales
    states = [_refined(lsb, value, produced, precision.weight_bits, steps)
              for lsb, value, produced in zip(states, values, rows, strict=True)]
    return _rescaled(network, states, seen, precision)[0]


def _rescaled(network: FloatSeparable, states: list[torch.Tensor], seen: dict[str, torch.Tensor],
              precision: Precision) -> tuple[FloatSeparable, list[list[torch.Tensor]]]:
    """The network for these LSBs of its states, and the pointwise rows (not yet in LSBs) that make each state."""
    group = 0
    rows: list[list[torch.Tensor]] = [[] for _ in states]
    stem = replace(network.stem, weights=network.stem.weights / states[0][:, None, None, None],
                   bias=network.stem.bias / states[0])
    core: list[FloatOde | FloatTransition] = []
    names = (name for name, _ in network.convolutions())
    for part in network.core:
        if isinstance(part, FloatTransition):
            conv = _inner_equalized(part.convolution, states[group], seen[f"{next(names)}.in"], precision)
            group += 1
            rows[group].append(conv.pointwise)
            core.append(FloatTransition(_outer_scaled(conv, states[group])))
            continue
        convs, into = [], states[group]
        for k, original in enumerate(part.convolutions, 1):
            name = next(names)
            conv = _inner_equalized(original, into, seen[f"{name}.in"], precision)
            if k == len(part.convolutions):
                rows[group].append(conv.pointwise)
                into = states[group]
            else:
                value = seen[f"{name}.out"]
                into = _refined(_span(value, 2**precision.middle_bits - 1), value, [conv.pointwise],
                                precision.weight_bits, 1)
            convs.append(_outer_scaled(conv, into))
        core.append(FloatOde(tuple(convs), part.steps))
    head = FloatHead(network.head.weights * states[-1], network.head.bias)
    return replace(network, stem=stem, core=tuple(core), head=head), rows


def quantized(network: FloatSeparable, images: torch.Tensor, precision: Precision) -> DyadicNetwork:
    """Post-training quantisation of an equalised network: the start of training.

    images  to choose the input's scale with
    """
    core: list[DyadicOde | DyadicTransition] = []
    for part in network.core:
        if isinstance(part, FloatTransition):
            core.append(DyadicTransition(_conv(part.convolution, precision)))
        else:
            core.append(DyadicOde([_conv(conv, precision) for conv in part.convolutions], part.steps,
                                  precision.middle_bits))
    input_scale = _input_scale(images)
    flat = network.stem.weights.flatten(1) * input_scale
    shift = row_shifts(flat, CPU_BITS, 24, 24)
    pixels = _last_pixels(network)
    return DyadicNetwork(network.name, network.input_shape, precision,
                         DyadicStem(network.stem, shift, input_scale), core,
                         DyadicHead(network.head, _output_scale(network.head, pixels), pixels))


def row_shifts(rows: torch.Tensor, bits: int, most: int = MAX_SHIFT,
               spread: int = MAX_SHIFT_SPREAD) -> torch.Tensor:
    """(O,) shifts within 0..most and `spread` of each other, each the best of two for its row of weights (O, n).

    Least squares decides between the finest shift that saturates nothing and the one beyond it.
    """
    high = max(1, 2 ** (bits - 1) - 1)
    largest = rows.abs().amax(1).clamp_min(1e-12)
    fits = torch.floor(torch.log2(high / largest))
    errors = torch.stack([((rounded(rows, shift, bits) - rows) ** 2).sum(1) for shift in (fits, fits + 1)])
    best = (fits + errors.argmin(0)).clamp(0, most)
    used = best[rows.abs().amax(1) > 0]
    lowest = float(used.min()) if len(used) else 0.0
    return best.clamp(max=lowest + spread).long()


def rounded(rows: torch.Tensor, shift: torch.Tensor, bits: int) -> torch.Tensor:
    """Rows (O, n) as they are deployed with these shifts (O,)."""
    scale = 2.0 ** -shift.double()[:, None]
    if bits == 1:
        return torch.where(rows >= 0, scale, -scale)
    high = 2 ** (bits - 1) - 1
    return (rows / scale).round().clamp(-high, high) * scale


def _watched(network: FloatSeparable, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every watched value of all images and steps, (n, C, H, W)."""
    found: dict[str, list[torch.Tensor]] = {}
    with torch.no_grad():
        network(images, lambda name, value: found.setdefault(name, []).append(value))
    return {name: torch.cat(values) for name, values in found.items()}


def _channels(value: torch.Tensor) -> torch.Tensor:
    """(n, C, H, W) -> (C, at most SAMPLES), evenly taken."""
    flat = value.transpose(0, 1).flatten(1)
    return flat[:, ::max(1, flat.shape[1] // SAMPLES)]


def _span(value: torch.Tensor, high: int) -> torch.Tensor:
    """(C,) size of one LSB: nearly all of a channel's values are within `high` of them; float64."""
    flat = _channels(value).abs()
    covered = flat.kthvalue(max(1, int(COVERED * flat.shape[1])), dim=1).values.double()
    typical = float(covered.max())
    return covered.clamp_min(max(typical, 1e-6) * 1e-3) / high


def _refined(least: torch.Tensor, value: torch.Tensor, rows: list[torch.Tensor], bits: int,
             steps: int) -> torch.Tensor:
    """(C,) LSB from `least` upwards: a larger one wastes range, and may fit the weights' few integers better.

    Counted is the noise of rounding the value (`steps` times) and of rounding the rows, as parts of their power.
    """
    power = _channels(value).double().square().mean(1).clamp_min(1e-12)
    best = torch.full_like(least, float("inf"))
    chosen = least
    for k in range(LSBS_TRIED):
        lsb = least * 2 ** (k / 8)
        error = steps * lsb**2 / 12 / power
        for made in rows:
            scaled = made / lsb[:, None]
            lost = (rounded(scaled, row_shifts(scaled, bits), bits) - scaled).square().sum(1)
            error = error + lost / scaled.square().sum(1).clamp_min(1e-12)
        chosen = torch.where(error < best, lsb, chosen)
        best = torch.minimum(best, error)
    return chosen


def _inner_equalized(conv: FloatConv, into: torch.Tensor, seen: torch.Tensor, precision: Precision) -> FloatConv:
    """`conv` for an input counted in `into` (I,), with its inner value in LSBs; its result stays as it is."""
    counted = replace(conv, depthwise=conv.depthwise * into[:, None, None])
    x = (seen / into[None, :, None, None]).to(torch.float32)
    lsb, zero = _inner_scale(counted, x, precision.weight_bits)
    return replace(conv, depthwise=counted.depthwise / lsb[:, None, None],
                   depthwise_bias=counted.depthwise_bias / lsb - zero, pointwise=conv.pointwise * lsb,
                   pointwise_bias=conv.pointwise_bias + conv.pointwise @ (lsb * zero))


def _outer_scaled(conv: FloatConv, out: torch.Tensor) -> FloatConv:
    """`conv` giving its result in `out` (O,)."""
    return replace(conv, pointwise=conv.pointwise / out[:, None], pointwise_bias=conv.pointwise_bias / out)


def _inner_scale(conv: FloatConv, x: torch.Tensor, weight_bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(I,) LSB of the inner value and the value in LSBs that becomes 0, of least error with quantised weights."""
    exact = conv.inner(x)
    flat = _channels(exact).double()
    low, high = flat.amin(1), flat.amax(1)
    middle, width = (low + high) / 2, (high - low).clamp_min(1e-9)
    best = torch.full_like(middle, float("inf"))
    chosen = torch.ones_like(middle)
    for span in INNER_SPANS:
        lsb = width * span / (INNER_HIGH - INNER_LOW)
        error = _inner_error(conv, x, exact, lsb, middle / lsb + 0.5, weight_bits)
        chosen = torch.where(error < best, lsb, chosen)
        best = torch.minimum(best, error)
    return chosen, middle / chosen + 0.5


def _inner_error(conv: FloatConv, x: torch.Tensor, exact: torch.Tensor, lsb: torch.Tensor, zero: torch.Tensor,
                 weight_bits: int) -> torch.Tensor:
    """(I,) mean square error that quantising filters and inner value would make."""
    rows = conv.depthwise.flatten(1) / lsb[:, None]
    filters = rounded(rows, row_shifts(rows, weight_bits), weight_bits).reshape(conv.depthwise.shape)
    trial = FloatConv(filters, conv.depthwise_bias / lsb - zero, conv.pointwise, conv.pointwise_bias, conv.stride)
    inner = trial.inner(x.round()).round().clamp(INNER_LOW, INNER_HIGH).double()
    shape = (1, -1, 1, 1)
    return ((inner + zero.view(shape)) * lsb.view(shape) - exact).square().mean((0, 2, 3))


def _conv(conv: FloatConv, precision: Precision) -> DyadicConv:
    bits = precision.weight_bits
    return DyadicConv(conv, row_shifts(conv.depthwise.flatten(1), bits), row_shifts(conv.pointwise, bits), bits)


def _input_scale(images: torch.Tensor) -> float:
    """The power of two of least square error for INT8 images."""
    def error(scale: float) -> float:
        return float(((images / scale).round().clamp(-128, 127) * scale - images).square().mean())

    return min((2.0**-k for k in range(-8, 17)), key=error)


def _last_pixels(network: FloatSeparable) -> int:
    """H x W of the last state."""
    _, height, width = network.input_shape
    strides = [network.stem.stride,
               *(part.convolution.stride for part in network.core if isinstance(part, FloatTransition))]
    for stride in strides:
        height, width = -(-height // stride), -(-width // stride)
    return height * width


def _output_scale(head: FloatHead, pixels: int) -> float:
    """The finest power of two for which the weights fit INT8 and float32 holds every possible sum."""
    rows = head.weights / pixels
    fits = float(torch.floor(torch.log2((2 ** (CPU_BITS - 1) - 1) / rows.abs().max().clamp_min(1e-12))))
    scale = float(2.0**-fits)
    while float((rows / scale).round().abs().sum(1).max()) * (STATE_HIGH + 1) * pixels * 1.1 > EXACT:
        scale *= 2
    return scale
