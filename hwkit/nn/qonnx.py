"""Dyadic networks as QONNX files, and the qonnx executor as a second opinion on what they compute."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwkit.files import write
from hwkit.nn.dyadic import DyadicNetwork

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 13


def export_qonnx(module: DyadicNetwork, input_shape: tuple[int, ...], path: Path, batch: int = 1) -> int:
    """Write `path`, cleaned up, for float32 inputs of (batch, *input_shape); gives its size in bytes.

    Each weight is stored once and quantised by one node that all steps of its ODE block read. Biases are
    constants: they lie on the grid of their layer and need no quantiser.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")   # an optional package that is not there; deprecations in torch.onnx
        from brevitas.export import export_qonnx as export
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.util.cleanup import cleanup_model

        made = export(module.eval(), args=torch.zeros(batch, *input_shape), opset_version=OPSET, dynamo=False)
        cleaned = cleanup_model(ModelWrapper(made))
    content = cleaned.model.SerializeToString(deterministic=True)
    write(path, content)
    return len(content)


def run_qonnx(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs (n, classes) by the qonnx executor, which runs node by node what each operator is defined to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx

        model = ModelWrapper(str(path))
        source, result = model.graph.input[0].name, model.graph.output[0].name
        batch = model.get_tensor_shape(source)[0]
        outputs = []
        for start in range(0, len(images), batch):
            part = images[start:start + batch]
            padded = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), np.float32)])
            outputs.append(execute_onnx(model, {source: padded})[result][:len(part)])
    found: NDArray[np.float32] = np.concatenate(outputs)
    return found


def weight_bytes(model: ModelProto) -> tuple[int, int]:
    """(number, bytes) of the tensors that a QONNX file stores."""
    from onnx import numpy_helper

    sizes = [numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer]
    return len(sizes), sum(sizes)


def operators(model: ModelProto) -> dict[str, int]:
    """How often each operator occurs."""
    found: dict[str, Any] = {}
    for node in model.graph.node:
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return dict(sorted(found.items()))
