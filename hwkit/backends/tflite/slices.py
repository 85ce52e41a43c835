"""Cut a .tflite into files of one operator each, so that a board can time operators one by one."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

from hwkit.artifact import Operator
from hwkit.backends.tflite import flat
from hwkit.backends.tflite.chain import interpreter
from hwkit.backends.tflite.operators import is_constant_cast
from hwkit.errors import BadModel
from hwkit.files import write

# They call another graph of the file, or share a resource with other operators.
_NOT_ALONE = ("WHILE", "IF", "CALL", "CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "HASHTABLE",
              "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE", "STABLEHLO_COMPOSITE", "STABLEHLO_WHILE")


def cut(model: Any, listed: list[Operator], folder: Path) -> list[Operator]:
    """Write ops/<hash>.tflite under `folder` and return the operators with their files.

    Equal operators (the steps of an unrolled ODE block) share one file. An operator has no file when
    nothing variable goes in, or when the runtime refuses it alone.
    """
    found = []
    for position, operator in enumerate(listed):
        content = one_operator(model, position)
        file = None
        if content is not None:
            file = f"ops/{operator.name.lower()}-{hashlib.sha256(content).hexdigest()[:12]}.tflite"
            if not (folder / file).exists():
                if not _runs(content):
                    file = None
                else:
                    write(folder / file, content)
        found.append(operator.model_copy(update={"file": file}))
    return found


def _runs(content: bytes) -> bool:
    try:
        interpreter(content)
    except BadModel:
        return False
    return True


def one_operator(model: Any, position: int) -> bytes | None:
    """A model of the operator at `position` alone, its constants included.

    None when nothing variable goes in, and when it needs more than its inputs: another graph, or a state.
    """
    graph = model.subgraphs[0]
    operator = graph.operators[position]
    touched = [graph.tensors[i] for i in (*flat.inputs(operator), *flat.outputs(operator))]
    depends = flat.operator_name(model, operator) in _NOT_ALONE or any(t.isVariable for t in touched)
    if depends or is_constant_cast(model, operator):
        return None
    casts = {flat.outputs(o)[0]: o for o in graph.operators if is_constant_cast(model, o)}
    needed = [casts[i] for i in flat.inputs(operator) if i in casts]
    kept = _Part(model)
    operators = [kept.operator(o) for o in [*needed, operator]]
    inside = {i for o in needed for i in flat.outputs(o)}
    variable = [i for i in dict.fromkeys(flat.inputs(operator))
                if i not in inside and not flat.is_constant(model, graph.tensors[i])]
    if not variable or not flat.outputs(operator):
        return None
    kept.graph.operators = operators
    kept.graph.inputs = [kept.tensor(i) for i in variable]
    kept.graph.outputs = [kept.tensor(i) for i in flat.outputs(operator)]
    return flat.write(kept.model)


class _Part:
    """A new model that takes over tensors, buffers and operator codes of another as they are asked for."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.model = flat.new("ModelT")
        self.model.version = source.version
        self.model.description = b""
        self.model.operatorCodes = []
        self.model.buffers = [flat.new("BufferT")]   # buffer 0 is the empty one
        self.graph = flat.new("SubGraphT")
        self.graph.tensors = []
        self.graph.name = b"main"
        self.model.subgraphs = [self.graph]
        self.made: dict[int, int] = {}

    def tensor(self, index: int) -> int:
        if index < 0:
            return -1
        if index not in self.made:
            tensor = copy.copy(self.source.subgraphs[0].tensors[index])
            tensor.name = f"t{len(self.made)}".encode()
            if flat.is_constant(self.source, tensor):
                self.model.buffers.append(self.source.buffers[tensor.buffer])
                tensor.buffer = len(self.model.buffers) - 1
            else:
                tensor.buffer = 0
            self.graph.tensors.append(tensor)
            self.made[index] = len(self.graph.tensors) - 1
        return self.made[index]

    def operator(self, source: Any) -> Any:
        operator = copy.copy(source)
        self.model.operatorCodes.append(self.source.operatorCodes[source.opcodeIndex])
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs = [self.tensor(int(i)) for i in source.inputs]
        operator.outputs = [self.tensor(int(i)) for i in source.outputs]
        return operator
