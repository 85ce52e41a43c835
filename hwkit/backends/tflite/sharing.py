"""Whether weights that a network shares are stored once in its files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hwkit.artifact import Finding
from hwkit.backends.tflite import flat
from hwkit.backends.tflite.operators import operands
from hwkit.errors import BadModel

# operator -> positions of the operands that can be weights
_WEIGHTED = {"CONV_2D": (1,), "DEPTHWISE_CONV_2D": (1,), "FULLY_CONNECTED": (1,), "TRANSPOSE_CONV": (1,),
             "CONV_3D": (1,), "BATCH_MATMUL": (0, 1)}
SLACK = 1.02   # constants that the converter makes by itself


def stored(models: Sequence[Any]) -> tuple[int, int]:
    """(number, elements) of distinct buffers that convolutions and matrix products multiply by."""
    count = total = 0
    for model in models:
        found: dict[int, int] = {}
        for operator in model.subgraphs[0].operators:
            for position in _WEIGHTED.get(flat.operator_name(model, operator), ()):
                tensor = operands(model, operator)[position]
                if flat.is_constant(model, tensor):
                    found[tensor.buffer] = flat.elements(tensor)
        count, total = count + len(found), total + sum(found.values())
    return count, total


def check(models: Sequence[Any], count: int, elements: int) -> Finding:
    """Compare with the `count` distinct weight tensors of the torch program, `elements` in all.

    Raises BadModel when the files hold more: a weight was duplicated.
    """
    has, holds = stored(models)
    if has > count and holds > elements * SLACK:
        raise BadModel(f"the files hold {has} weight tensors of {holds} elements for a network that has {count} "
                       f"of {elements}: shared weights were duplicated",
                       "choose ode=stepped, or share one module between the steps before torch.export")
    return Finding(name="weights stored once", ok=True,
                   text=f"{has} weight tensors in the files for {count} in the network")
