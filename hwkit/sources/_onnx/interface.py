"""What every ONNX graph that is deployed here has: one float32 input and one output."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto

from hwkit.errors import BadModel


def single_input(graph: onnx.GraphProto, what: str) -> Any:
    """Tensor type of the one input. Raises BadModel for several inputs or outputs, or another datatype."""
    constants = {initializer.name for initializer in graph.initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        names = f"{', '.join(i.name for i in inputs)} -> {', '.join(o.name for o in graph.output)}"
        raise BadModel(f"{what} has {len(inputs)} inputs and {len(graph.output)} outputs ({names:.120}); what is "
                       "deployed here has one of each", "export the part of the network that has one of each")
    held = inputs[0].type.tensor_type
    if held.elem_type != TensorProto.FLOAT:
        raise BadModel(f"{what} takes {TensorProto.DataType.Name(held.elem_type).lower()} inputs, and what is "
                       "deployed here takes float32", "export the network so that it takes float32")
    return held
