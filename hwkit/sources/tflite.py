"""A .tflite file, taken as it is: checked, and run once on zeros, in the child process."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from hwkit.errors import BadModel
from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.sources import Opening
from hwkit.sources._child import reading
from hwkit.sources._input import chosen_shape

WHOLE = "whole.tflite"
_FLOATS = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
# Bits of a value. Of these types, constants are weights; int32 and int64 ones only where they are quantised
# (biases), for otherwise they are shapes and axes.
_BITS = {schema.TensorType.FLOAT32: 32, schema.TensorType.FLOAT16: 16, schema.TensorType.INT4: 4,
         schema.TensorType.INT8: 8, schema.TensorType.UINT8: 8, schema.TensorType.INT16: 16}
_BITS_IF_QUANTISED = {schema.TensorType.INT32: 32, schema.TensorType.INT64: 64}


@dataclass(frozen=True)
class Weights:
    """One distinct constant buffer. floats: its values, None unless it holds floats."""

    name: str
    values: int
    floats: NDArray[Any] | None


def prepare() -> None:
    """Nothing takes long."""


def opened(opening: Opening, folder: Path, say: Say) -> Model:
    path = opening.source.path
    assert path is not None
    return write_tflite(path, opening, folder, say, name=path.stem, history=())


def write_tflite(path: Path, opening: Opening, folder: Path, say: Say, *, name: str,
                 history: tuple[str, ...]) -> Model:
    """Check the file at `path` and copy it into `folder`. Raises BadModel."""
    what = opening.source.text
    with reading(what):
        found = weights(path.read_bytes())
    for tensor in found:
        bad = 0 if tensor.floats is None else int(np.isnan(tensor.floats).sum())
        if bad:
            raise BadModel(f"{what}: {tensor.name} has {bad} NaN among its {tensor.values} values",
                           "convert the model again from sound weights")
    say("running it once on zeros")
    shape = run_once(path, what)
    values = sum(tensor.values for tensor in found)
    shutil.copyfile(path, folder / WHOLE)
    return Model(name=name, path=Path(WHOLE), format="tflite", input_shape=chosen_shape(opening, shape),
                 dataset=opening.dataset, parameters=values, parameter_bytes=4 * values, history=history)


def weights(data: bytes) -> list[Weights]:
    """The distinct weight buffers of a .tflite file, all subgraphs together."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    found: dict[int, Weights] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            bits = _BITS.get(tensor.type, 0)
            if tensor.quantization is not None and tensor.quantization.scale is not None:
                bits = bits or _BITS_IF_QUANTISED.get(tensor.type, 0)
            buffer = model.buffers[tensor.buffer]
            raw = data[buffer.offset:buffer.offset + buffer.size] if buffer.offset > 1 else buffer.data
            if not bits or raw is None or len(raw) == 0 or tensor.buffer in found:
                continue
            kept = bytes(raw)
            floats = np.frombuffer(kept, _FLOATS[tensor.type]) if tensor.type in _FLOATS else None
            name = (tensor.name or b"").decode(errors="replace")
            found[tensor.buffer] = Weights(name, len(kept) * 8 // bits, floats)
    return list(found.values())


def run_once(path: Path, what: str) -> tuple[int, ...]:
    """Load, plan and invoke on zeros. Gives the shape of one sample. Raises BadModel."""
    with reading(what):
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1 or len(outputs) != 1:
        raise BadModel(f"{what} has {len(inputs)} inputs and {len(outputs)} outputs; what is deployed here has "
                       "one of each", "convert the part of the model that has one input and one output")
    shape = tuple(int(size) for size in inputs[0]["shape"])
    dynamic = [int(size) for size in inputs[0]["shape_signature"]][1:]
    if -1 in dynamic:
        raise BadModel(f"{what} takes inputs of varying shape {tuple(inputs[0]['shape_signature'].tolist())}",
                       "convert it with a fixed input shape")
    if len(shape) < 2 or shape[0] != 1:
        raise BadModel(f"{what} takes an input of shape {shape}; what is deployed here takes one sample, (1, ...)",
                       "convert it with batch 1")
    with reading(what):
        output = invoked(path, np.zeros(shape, inputs[0]["dtype"]))
    if output.dtype.kind == "f" and not np.isfinite(output).all():
        raise BadModel(f"{what} gives NaN or infinity for an input of zeros", "check its weights")
    return shape[1:]


def invoked(path: Path, x: NDArray[Any]) -> NDArray[Any]:
    """The output of a .tflite with one input and one output, by LiteRT with its default delegate."""
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    output: NDArray[Any] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return output
