"""Exported programs (.pt2) as torch modules that can be run, folded and converted.

Imports torch: for the conversion job only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import fx

from hwkit.errors import BadInput, BadModel
from hwkit.nn.fold import Folded, fold

_aten = torch.ops.aten
RE_EXPORT = "export it again with torch.export.export(model.eval(), (example,)) and torch.export.save"

# operator -> position of the argument that switches it to training behaviour
_TRAINING = {_aten.batch_norm.default: 5, _aten.dropout.default: 2}

@dataclass(frozen=True)
class Program:
    """One exported network or stage; `module` takes float32 tensors of `input_shapes`, batch included."""

    name: str
    module: fx.GraphModule
    input_shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            out = self.module(*inputs)
        result: torch.Tensor = out[0] if isinstance(out, tuple | list) else out
        return result

    def folded(self) -> tuple[Program, Folded]:
        """A copy with its BatchNorms folded. Weights that need no change are shared with this one."""
        copy = fx.GraphModule(self.module, _copied(self.module))
        done = fold(copy)
        return Program(self.name, copy, self.input_shapes, self.output_shape), done


def _copied(module: fx.GraphModule) -> fx.Graph:
    graph = fx.Graph()
    result = graph.graph_copy(module.graph, {}, return_output_node=False)
    graph.output(result)
    return graph


def load(path: Path, name: str, inputs: int = 1) -> Program:
    """Open a .pt2 and check that it can be deployed.

    Raises BadModel: not a program, training mode, dynamic shapes, other than `inputs` float32 inputs and
    one output, NaN or infinite parameters.
    """
    try:
        exported = torch.export.load(path)
    except Exception as e:   # the archive reader raises whatever its many parsers raise
        raise BadModel(f"{path.name} is not a readable exported program: {type(e).__name__}: {e}",
                       RE_EXPORT) from None
    _check_values(exported, name)
    module = exported.module(check_guards=False)
    module = fx.GraphModule(module, module.graph)   # the class that export makes refuses .eval()
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    if len(placeholders) != inputs:
        raise BadModel(f"{name} takes {len(placeholders)} inputs, not {inputs}",
                       "export a network with one input; a time-dependent ODE step takes (z, t)")
    _check_modes(module, name)
    shapes = tuple(_shape(node.meta["val"], f"input {node.name!r} of {name}") for node in placeholders)
    results = next(node for node in module.graph.nodes if node.op == "output").args[0]
    results = results if isinstance(results, tuple | list) else (results,)
    if len(results) != 1:
        raise BadModel(f"{name} gives {len(results)} outputs, not one", "export a network with a single output")
    return Program(name, module, shapes, _shape(results[0].meta["val"], f"the output of {name}"))


def _shape(value: object, what: str) -> tuple[int, ...]:
    if not isinstance(value, torch.Tensor):
        raise BadModel(f"{what} is a {type(value).__name__}, not a tensor", RE_EXPORT)
    if value.dtype != torch.float32:
        raise BadModel(f"{what} is {str(value.dtype).removeprefix('torch.')}, not float32", RE_EXPORT)
    if not all(isinstance(n, int) for n in value.shape):
        raise BadModel(f"{what} has a dynamic shape {tuple(map(str, value.shape))}", "export it with fixed shapes")
    return tuple(int(n) for n in value.shape)


def _check_values(exported: torch.export.ExportedProgram, name: str) -> None:
    constants = {k: v for k, v in exported.constants.items() if isinstance(v, torch.Tensor)}
    for key, tensor in {**exported.state_dict, **constants}.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise BadModel(f"{name}: parameter {key!r} holds {bad} NaN or infinite values",
                           "train it again, or repair it")


def _check_modes(module: fx.GraphModule, name: str) -> None:
    for node in module.graph.nodes:
        position = _TRAINING.get(node.target)
        if position is not None and len(node.args) > position and node.args[position] is True:
            raise BadModel(f"{name} was exported in training mode: {node.name} still trains", RE_EXPORT)


def check_input(program: Program, shape: tuple[int, ...]) -> None:
    """Raise BadInput unless the program takes one sample of `shape`."""
    if program.input_shapes[0] != (1, *shape):
        raise BadInput(f"{program.name} takes an input of shape {program.input_shapes[0]}, not {(1, *shape)}",
                       "give the shape of one sample with --input-shape, and export with batch 1")


def weights(programs: Sequence[Program]) -> tuple[int, int]:
    """(number, elements) of distinct tensors with two or more dimensions that the programs read."""
    found: dict[int, int] = {}
    for program in programs:
        for node in program.module.graph.nodes:
            if node.op == "get_attr":
                tensor = _attribute(program.module, str(node.target))
                if tensor.dim() >= 2:
                    found[tensor.untyped_storage().data_ptr()] = tensor.numel()
    return len(found), sum(found.values())


def _attribute(module: fx.GraphModule, name: str) -> torch.Tensor:
    owner, _, leaf = name.rpartition(".")
    tensor = getattr(module.get_submodule(owner), leaf)
    assert isinstance(tensor, torch.Tensor)
    return tensor
