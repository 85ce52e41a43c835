"""Small QONNX files, written node by node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "qonnx.custom_op.general"
F32 = np.float32


class Graph:
    """Nodes in order; each method gives the name of what it computes. The last one is the output."""

    def __init__(self, shape: tuple[Any, ...] = (1, 4), opset: int = 18, version: int = 2) -> None:
        self.shape = shape
        self.versions = opset, version
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.last = "x"

    def constant(self, value: Any, name: str = "") -> str:
        name = name or f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def node(self, op: str, *inputs: Any, domain: str = "", name: str = "", **attributes: Any) -> str:
        """Inputs are names, or arrays that become constants."""
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self.last = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [self.last], name=name or f"{op}{len(self.nodes)}",
                                           domain=domain, **attributes))
        return self.last

    def quant(self, x: Any, scale: Any = 1.0, bits: Any = 8, *, zero: Any = 0, signed: int = 1, narrow: int = 0,
              mode: str = "ROUND", name: str = "", domain: str = DOMAIN) -> str:
        return self.node("Quant", x, *(np.asarray(v, F32) for v in (scale, zero, bits)), domain=domain, name=name,
                         signed=signed, narrow=narrow, rounding_mode=mode)

    def weight(self, value: Any, scale: Any = 1.0, bits: float = 8, **more: Any) -> str:
        """Whole numbers times the scale, through a quantiser that keeps them."""
        return self.quant(F32(np.asarray(value, F32) * F32(scale)), scale, bits, **more)

    def model(self, out: tuple[Any, ...] | None = None) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(self.last, TensorProto.FLOAT, out)],
            [numpy_helper.from_array(v, k) for k, v in self.constants.items()])
        opsets = [helper.make_opsetid("", self.versions[0]), helper.make_opsetid(DOMAIN, self.versions[1])]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def saved(self, path: Path, out: tuple[Any, ...] | None = None) -> Path:
        """With every shape inferred, as a cleaned file has them."""
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.transformation.infer_shapes import InferShapes

        ModelWrapper(self.model(out)).transform(InferShapes()).save(str(path))
        return path
