"""A program that was exported for one sample, for several at once.

torch.export fixes the batch of 1 into the shapes that reshapes and expansions name. They are changed to the new
batch, and whether that was right is tried: every sample of a batch must give what it gives alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from hwkit.errors import BadModel
from hwkit.nn.program import Program

_aten = torch.ops.aten
Floats = NDArray[np.float32]
# Operators with a list of sizes as their second argument.
_SIZED = (_aten.reshape.default, _aten.view.default, _aten._unsafe_view.default, _aten.expand.default)
TOLERANCE = 1e-4        # of the largest output: another order of additions
MANY = 256              # samples from which on trying a batch takes less time than it saves
AT_ONCE = 16


def batched(program: Program, batch: int) -> Program:
    """`program` for `batch` samples at once; an input of shape (1,), the time of an ODE step, stays as it is.

    Raises BadModel when its samples would not be independent of each other.
    """
    if batch == 1:
        return program
    graph = fx.Graph()
    graph.output(graph.graph_copy(program.module.graph, {}, return_output_node=False))
    for node in graph.nodes:
        if node.target in _SIZED and _of_batch_one(node):
            node.args = (node.args[0], [batch, *node.args[1][1:]], *node.args[2:])
    module = fx.GraphModule(program.module, graph)
    shapes = tuple(shape if len(shape) == 1 else (batch, *shape[1:]) for shape in program.input_shapes)
    made = Program(program.name, module, shapes, (batch, *program.output_shape[1:]))
    _try(program, made)
    _Shapes(module).run(*(torch.zeros(shape) for shape in shapes))
    return made


def for_many(program: Program, samples: int) -> tuple[Callable[[Floats], Floats], int]:
    """A network of arrays (batch, *shape) -> (batch, *output), and its batch.

    AT_ONCE where there are MANY samples and the program can, else 1: starting an operator takes as long for one
    sample as for several, and most of the time of a small network.
    """
    many = program
    if samples >= MANY:
        with contextlib.suppress(BadModel):
            many = batched(program, AT_ONCE)
    return lambda values: many(torch.from_numpy(values)).numpy(), many.input_shapes[0][0]


def _of_batch_one(node: fx.Node) -> bool:
    """Names sizes that begin with 1, of a value whose first dimension is the batch."""
    sizes, source = node.args[1], node.args[0]
    if not isinstance(sizes, Sequence) or not sizes or sizes[0] != 1 or not isinstance(source, fx.Node):
        return False
    of_a_value = source.op != "get_attr" and source.meta["val"].dim() > 1
    return of_a_value or node.target is _aten.expand.default


def _try(one: Program, many: Program) -> None:
    """Every sample of a batch against the same sample alone."""
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(shape, generator=generator) for shape in many.input_shapes]
    hint = "choose batch=1, or export the network with a batch of its own"
    try:
        together = many(*given)
    except (RuntimeError, ValueError, IndexError) as e:
        raise BadModel(f"{many.name} cannot take {len(given[0])} inputs at once: {' '.join(str(e).split()):.150}",
                       hint) from None
    for k, got in enumerate(together):
        wanted = one(*(x if x.dim() == 1 else x[k:k + 1] for x in given))[0]
        apart, scale = float((got - wanted).abs().max()), float(wanted.abs().max())
        if got.shape != wanted.shape or not apart <= TOLERANCE * max(scale, 1e-6):
            raise BadModel(f"{many.name} gives another result for an input in a batch than for that input alone "
                           f"(they differ by {apart:.2g})", hint)


class _Shapes(fx.Interpreter):
    """Write the new shape of every value into its node."""

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            n.meta = {**n.meta, "val": value.detach()}
        return value
