"""Put back together what exporters take apart where devices have it whole.

GELU before opset 20 is written as 0.5 * x * (1 + erf(x / sqrt(2))), and erf alone costs a device twenty operators.
"""

from __future__ import annotations

import math
from collections import defaultdict

import onnx
import torch

Constants = dict[str, torch.Tensor]
Users = dict[str, list[onnx.NodeProto]]
Makers = dict[str, onnx.NodeProto]


def with_gelu(nodes: list[onnx.NodeProto], constants: Constants) -> list[onnx.NodeProto]:
    """The nodes, with the last one of every GELU that is spelt out by erf replaced by the whole of it."""
    users: Users = defaultdict(list)
    for node in nodes:
        for name in node.input:
            users[name].append(node)
    makers = {name: node for node in nodes for name in node.output}
    fused: dict[str, onnx.NodeProto] = {}   # name of the result -> the node that now makes it
    for erf in nodes:
        found = _gelu_of(erf, makers, users, constants) if erf.op_type == "Erf" else None
        if found is not None:
            x, result = found
            fused[result] = onnx.helper.make_node("Gelu", [x], [result], name=erf.name or erf.output[0])
    return [fused.get(node.output[0], node) if node.output else node for node in nodes]


def _gelu_of(erf: onnx.NodeProto, makers: Makers, users: Users, constants: Constants) -> tuple[str, str] | None:
    """Names of x and of the result, where this erf is the heart of a GELU."""
    scaled = makers.get(erf.input[0])
    x = None if scaled is None else _times(scaled, math.sqrt(0.5), constants)
    added = _only_user(erf.output[0], users)
    if x is None or added is None or not _is_plus_one(added, constants):
        return None
    name, left = added.output[0], {"x", "half"}   # what 1 + erf is still to be multiplied with
    while left:
        step = _only_user(name, users)
        factor = None if step is None else _factor(step, name, x, makers, constants)
        if step is None or factor is None or not factor <= left:
            return None
        left -= factor
        name = step.output[0]
    return x, name


def _factor(step: onnx.NodeProto, name: str, x: str, makers: Makers, constants: Constants) -> set[str] | None:
    """What the node multiplies `name` with: x, a half, or half of x."""
    if _times(step, 0.5, constants) == name:
        return {"half"}
    if step.op_type != "Mul":
        return None
    other = step.input[1] if step.input[0] == name else step.input[0]
    if other == x:
        return {"x"}
    halved = makers.get(other)
    return {"x", "half"} if halved is not None and _times(halved, 0.5, constants) == x else None


def _only_user(name: str, users: Users) -> onnx.NodeProto | None:
    return users[name][0] if len(users[name]) == 1 else None


def _value(name: str, constants: Constants) -> float | None:
    tensor = constants.get(name)
    return tensor.item() if tensor is not None and tensor.numel() == 1 else None


def _times(node: onnx.NodeProto, factor: float, constants: Constants) -> str | None:
    """The name of y where the node is y * factor, or y divided by its inverse."""
    if node.op_type not in ("Mul", "Div") or len(node.input) != 2:
        return None
    first, second = node.input
    wanted = factor if node.op_type == "Mul" else 1 / factor
    for y, c in ((first, second), (second, first)) if node.op_type == "Mul" else ((first, second),):
        value = _value(c, constants)
        if value is not None and math.isclose(value, wanted, rel_tol=1e-5):
            return str(y)
    return None


def _is_plus_one(node: onnx.NodeProto, constants: Constants) -> bool:
    return node.op_type == "Add" and any(_value(name, constants) == 1.0 for name in node.input)
