"""What an operator is to the importer, and the table that the files of this folder fill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from hwkit.errors import BadModel

Result = torch.Tensor | tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Node:
    """One node of an ONNX graph. `attributes` as Python values; `outputs` how many it has; `opset` the graph's."""

    op: str
    name: str
    attributes: dict[str, Any]
    outputs: int
    opset: int

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute; strings as str."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def unsupported(self, why: str) -> BadModel:
        return BadModel(f"node {self.name} ({self.op}): {why} is not supported",
                        "export the network with this part in another form, or deploy it from torch")


@dataclass(frozen=True)
class Operator:
    """How a node is run: function(node, *operands).

    values    operands that must be constants and reach the function as Python numbers or lists of them
    scalars   a constant operand without dimensions reaches the function as a Python number
    """

    function: Callable[..., Result]
    values: frozenset[int] = frozenset()
    scalars: bool = False


OPERATORS: dict[str, Operator] = {}
F = TypeVar("F", bound=Callable[..., Any])


def operator(*names: str, values: tuple[int, ...] = (), scalars: bool = False) -> Callable[[F], F]:
    """Make a function the implementation of these ONNX operators."""
    def enter(function: F) -> F:
        for name in names:
            OPERATORS[name] = Operator(function, frozenset(values), scalars)
        return function
    return enter
