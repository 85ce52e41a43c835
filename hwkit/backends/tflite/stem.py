"""Merge pairs of columns before the first convolution, whose few channels would waste XNNPACK's int8 kernels.

Those kernels take the input channels of each tap in groups: of 8, or of 4 with dot products. A 3x3
convolution over 1 or 3 channels fills most of every group with zeros. [1, H, W, C] and [1, H, W/2, 2C]
are the same bytes, and a 3x3 convolution with horizontal stride 2 on the first is a 3x2 one with stride 1
on the second: 6 groups rather than 9. The integer sums are the same, so the outputs are, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwkit.backends.tflite import edit, flat


def merge_columns(model: Any, dot_products: bool) -> int:
    """Rewrite every convolution that gains by it. How many."""
    graph = model.subgraphs[0]
    return sum(_merge(model, operator, dot_products) for operator in list(graph.operators)
               if flat.operator_name(model, operator) in ("CONV_2D", "DEPTHWISE_CONV_2D"))


def gains(channels: int, dot_products: bool) -> bool:
    """Whether 6 taps of twice the channels fill fewer groups than 9 taps."""
    group = 4 if dot_products else 8
    return 6 * -(-2 * channels // group) < 9 * -(-channels // group)


def _merge(model: Any, convolution: Any, dot_products: bool) -> bool:
    kernel = _kernel(model, convolution)
    found = _padded_input(model, convolution)
    if kernel is None or found is None:
        return False
    source, pad, (top, bottom, left, right) = found
    _, height, width, channels = flat.shape(model.subgraphs[0].tensors[source])
    fits = width % 2 == 0 and left + right >= 1 and left <= 1 and right <= 1
    if not fits or not gains(channels, dot_products):
        return False
    graph = model.subgraphs[0]
    cells = (1, height, width // 2, 2 * channels)
    merged = edit.add_variable(model, cells)
    padded = edit.add_variable(model, (1, height + top + bottom, width // 2 + 1, 2 * channels))
    # one cell of padding, on the side where the original first tap looks
    frame = np.array([[0, 0], [top, bottom], [left, 1 - left], [0, 0]], np.int32)
    reshape_options = flat.new("ReshapeOptionsT")
    reshape_options.newShape = list(cells)
    at = graph.operators.index(convolution if pad is None else pad)
    graph.operators[at:at + (pad is not None)] = [
        edit.make(model, "RESHAPE", [source, edit.add_constant(model, np.array(cells, np.int32))], [merged],
                  reshape_options),
        edit.make(model, "PAD", [merged, edit.add_constant(model, frame)], [padded], flat.new("PadOptionsT")),
    ]
    options = flat.new("Conv2DOptionsT")
    options.padding = flat.number("Padding", "VALID")
    options.strideH, options.strideW = 2, 1
    options.fusedActivationFunction = convolution.builtinOptions.fusedActivationFunction
    edit.turn_into(model, convolution, "CONV_2D", options)
    convolution.inputs = [padded, edit.add_constant(model, _columns_merged(kernel, left)), *convolution.inputs[2:]]
    return True


def _columns_merged(kernel: NDArray[np.float32], left: int) -> NDArray[np.float32]:
    """(out, 3, 3, C) -> (out, 3, 2, 2C); `left`: column 0 lies under the second half of a cell, else the first."""
    out, rows, columns, channels = kernel.shape
    halves = np.zeros((out, rows, 4, channels), np.float32)
    halves[:, :, left:left + columns] = kernel
    return halves.reshape(out, rows, 2, 2 * channels)


def _kernel(model: Any, convolution: Any) -> NDArray[np.float32] | None:
    """Weights (out, 3, 3, C) of a 3x3 convolution with stride 2 in both directions; None for any other."""
    graph, options = model.subgraphs[0], convolution.builtinOptions
    source, weights = flat.inputs(convolution)[:2]
    if (options.strideH, options.strideW, options.dilationHFactor, options.dilationWFactor) != (2, 2, 1, 1):
        return None
    tensor = graph.tensors[weights]
    constant = flat.is_constant(model, tensor) and flat.datatype(tensor) == "FLOAT32"
    if not constant or flat.shape(tensor)[1:3] != (3, 3):
        return None
    channels = flat.shape(graph.tensors[source])[3]
    kernel = edit.values(model, weights)
    if flat.operator_name(model, convolution) == "CONV_2D":
        return kernel if kernel.shape[3] == channels else None   # not a grouped one
    return kernel.transpose(3, 1, 2, 0) if channels == 1 else None   # one channel: the same as a full convolution


def _padded_input(model: Any, convolution: Any) -> tuple[int, Any, tuple[int, int, int, int]] | None:
    """(tensor before padding, the PAD operator or None, (top, bottom, left, right)); None where it varies."""
    graph = model.subgraphs[0]
    source = flat.inputs(convolution)[0]
    if convolution.builtinOptions.padding == flat.number("Padding", "SAME"):
        _, height, width, _ = flat.shape(graph.tensors[source])
        # SAME with stride 2: as little padding as gives ceil(n / 2) outputs, the odd one at the end
        total = [max(0, (-(-n // 2) - 1) * 2 + 3 - n) for n in (height, width)]
        return source, None, (total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2)
    pad = next((o for o in graph.operators if source in flat.outputs(o)), None)
    if pad is None or flat.operator_name(model, pad) != "PAD":
        return None
    if edit.only_reader(model, source) is not convolution:
        return None
    before, frame = flat.inputs(pad)
    if not flat.is_constant(model, graph.tensors[frame]):
        return None
    batch, rows, columns, channels = edit.values(model, frame).tolist()
    if batch != [0, 0] or channels != [0, 0]:
        return None
    return before, pad, (*rows, *columns)
