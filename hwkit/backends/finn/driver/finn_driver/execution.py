"""FINN's own Python execution of a graph, against the outputs that are wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
from finn.core.onnx_exec import execute_onnx
from numpy.typing import NDArray
from qonnx.core.modelwrapper import ModelWrapper


def outputs(model: ModelWrapper, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs of a batch-1 model for (n, *shape) inputs: (n, *output shape)."""
    takes, gives = model.graph.input[0].name, model.graph.output[0].name
    shape = tuple(model.get_tensor_shape(takes))
    return np.concatenate([execute_onnx(model, {takes: one.reshape(shape)})[gives] for one in inputs])


def compared(got: NDArray[np.float32], wanted: NDArray[np.float32]) -> dict[str, Any]:
    """How far a model's outputs are from the wanted ones.

    largest     largest absolute difference
    different   how many of the inputs have any output off by more than 1e-4 of the largest output
    agree       how many have the same largest output
    """
    got = got.reshape(wanted.shape)
    gap = np.abs(got - wanted).reshape(len(wanted), -1).max(axis=1)
    scale = max(float(np.abs(wanted).max()), 1e-9)
    flat_got, flat_wanted = got.reshape(len(got), -1), wanted.reshape(len(wanted), -1)
    return {"inputs": len(wanted), "largest": float(gap.max()), "scale": scale,
            "different": int((gap > 1e-4 * scale).sum()),
            "agree": int((flat_got.argmax(axis=1) == flat_wanted.argmax(axis=1)).sum())}
