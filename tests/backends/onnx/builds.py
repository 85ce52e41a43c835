"""Small networks in files as a user brings them, and artifacts built of them in this process."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from hwkit import backends
from hwkit.artifact import Artifact, pack
from hwkit.files import write_json
from hwkit.model import Model
from hwkit.target import target
from tests.backends.onnx import nets

SHAPE, CLASSES = (1, 6, 6), 5


def ode() -> nn.Module:
    """A model file's function (a .pt2 would not tell where ODE blocks are). Answers differ from image to image."""
    made = nets.ode_network()
    with torch.no_grad():
        made.head[2].bias -= made(torch.randn(24, *SHAPE, generator=torch.Generator().manual_seed(1))).mean(0)
    made.input_shape = SHAPE
    return made


def factory(path: Path) -> str:
    """The MODEL word of `ode`, from a file."""
    path.write_text(f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
                    "from tests.backends.onnx.builds import ode\n")
    return f"{path}:ode"


def data(path: Path, shape: Sequence[int] = SHAPE) -> Path:
    """24 inputs to calibrate, 8 to compare, no labels."""
    random = np.random.RandomState(11)
    np.savez(path, calibration=random.standard_normal((24, *shape)).astype(np.float32),
             images=random.standard_normal((8, *shape)).astype(np.float32))
    return path


def onnx_file(nodes: Sequence[onnx.NodeProto], path: Path, constants: dict[str, np.ndarray[Any, Any]],
              shape: Sequence[int | str] = (1, *SHAPE), result: Sequence[int | str] = (1, CLASSES),
              opset: int = 13) -> None:
    """A graph from "image" to "score"."""
    graph = helper.make_graph(
        nodes, "by hand", [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, result)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def values(*shape: int) -> np.ndarray[Any, Any]:
    return (np.random.RandomState(sum(shape)).standard_normal(shape) / 3).astype(np.float32)


def classifier(path: Path, opset: int = 13, shape: Sequence[int | str] = (1, *SHAPE)) -> None:
    """Convolution, BatchNorm, ReLU, mean, Gemm."""
    nodes = [helper.make_node("Conv", ["image", "w", "b"], ["1"], name="first", pads=[1] * 4),
             helper.make_node("BatchNormalization", ["1", "scale", "b", "mean", "var"], ["2"], name="norm"),
             helper.make_node("Relu", ["2"], ["3"], name="relu"),
             helper.make_node("GlobalAveragePool", ["3"], ["4"], name="pool"),
             helper.make_node("Flatten", ["4"], ["5"], name="flat"),
             helper.make_node("Gemm", ["5", "last", "bias"], ["score"], name="gemm")]
    onnx_file(nodes, path, {"w": values(4, 1, 3, 3), "b": values(4), "scale": 1 + values(4) ** 2,
                            "mean": values(4) / 2, "var": 1 + values(4) ** 2, "last": values(4, CLASSES),
                            "bias": values(CLASSES)}, shape, opset=opset)


def branching(path: Path) -> None:
    """What is computed depends on the input: an If, which has no form in torch.export here."""
    def branch(op: str) -> onnx.GraphProto:
        return helper.make_graph([helper.make_node(op, ["flat"], [op])], op, [],
                                 [helper.make_tensor_value_info(op, TensorProto.FLOAT, [1, 36])])

    nodes = [helper.make_node("Flatten", ["image"], ["flat"], name="flat"),
             helper.make_node("ReduceSum", ["flat"], ["sum"], name="sum", keepdims=0),
             helper.make_node("Greater", ["sum", "zero"], ["positive"], name="positive"),
             helper.make_node("If", ["positive"], ["chosen"], name="branch", then_branch=branch("Relu"),
                              else_branch=branch("Neg")),
             helper.make_node("Gemm", ["chosen", "last"], ["score"], name="gemm")]
    onnx_file(nodes, path, {"zero": np.float32(0) * np.ones((), np.float32), "last": values(36, CLASSES)})


def determinant(path: Path) -> None:
    """An operator that no TensorRT reads."""
    nodes = [helper.make_node("Det", ["image"], ["det"], name="det"),
             helper.make_node("Reshape", ["det", "two"], ["flat"], name="flat"),
             helper.make_node("Gemm", ["flat", "last"], ["score"], name="gemm")]
    onnx_file(nodes, path, {"two": np.array([1, 1]), "last": values(1, CLASSES)})


def quantised(path: Path) -> None:
    """A convolution with QuantizeLinear and DequantizeLinear around it, as a user quantised it."""
    weight = values(4, 1, 3, 3)
    scale = (np.abs(weight).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    codes = np.round(weight / scale[:, None, None, None]).astype(np.int8)
    nodes = [helper.make_node("QuantizeLinear", ["image", "xs", "xz"], ["q"], name="Q"),
             helper.make_node("DequantizeLinear", ["q", "xs", "xz"], ["r"], name="DQ"),
             helper.make_node("DequantizeLinear", ["codes", "ws", "wz"], ["w"], name="WDQ", axis=0),
             helper.make_node("Conv", ["r", "w"], ["1"], name="first", pads=[1] * 4),
             helper.make_node("Relu", ["1"], ["2"], name="relu"),
             helper.make_node("Flatten", ["2"], ["3"], name="flat"),
             helper.make_node("Gemm", ["3", "last"], ["score"], name="gemm")]
    onnx_file(nodes, path, {"xs": np.float32(3 / 127) * np.ones((), np.float32), "xz": np.zeros((), np.int8),
                            "codes": codes, "ws": scale, "wz": np.zeros(4, np.int8),
                            "last": values(144, CLASSES)})


def built(model: Model, target_name: str, folder: Path, backend: str = "tensorrt", fresh: bool = False,
          **options: str) -> Artifact:
    """What `hwkit build` makes, its jobs in this process; with `fresh`, in processes of their own as there."""
    chosen, tool = target(target_name), backends.backend(backend)
    parsed = tool.options(options, chosen)
    assert not [p.message for p in tool.check(model, chosen, parsed) if p.fatal]
    plan, scratch = tool.plan(model, chosen, parsed), folder / "build"
    scratch.mkdir(parents=True)
    if fresh:
        plan.execute(scratch, lambda text: None)
    else:
        with contextlib.chdir(scratch):
            for name, text in plan.files.items():
                Path(name).write_text(text)
            for command in plan.commands:
                job, spec, result = command.argv[-3:]
                module, _, function = job.partition(":")
                done = getattr(importlib.import_module(module), function)(
                    json.loads(Path(spec).read_text()), lambda text: None)
                write_json(Path(result), done)
    return pack(scratch, folder / "artifact", tool.collect(scratch), name=model.name, target=chosen.name,
                backend=backend, precision=parsed.precision, dataset=model.dataset, input_shape=model.input_shape,
                parameters=model.parameters, history=model.history)
