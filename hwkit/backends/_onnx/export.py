"""From a folded exported program to a small ONNX graph in which every weight stands once.

The exporter that follows a trace is used, not the newer one: it reaches down to the opset 13 that TensorRT 8.2
reads, where the newer one ends at 18, and it keeps a weight that many operators read as one tensor.
"""

from __future__ import annotations

import io
import logging
import math
import warnings
from pathlib import Path

import onnx
import torch
from onnx import ModelProto
from torch import fx

from hwkit.backends._onnx.tidy import rename, tidied
from hwkit.errors import BadModel
from hwkit.nn.program import Program

_aten = torch.ops.aten
INPUTS, OUTPUT = ("x", "t"), "y"


def exported(program: Program, opset: int, first: int = 0) -> ModelProto:
    """`program` (folded) with inputs "x" (and "t") and output "y", float32; its nodes are numbered from `first`.

    Raises BadModel naming the operator that has no form in that opset.
    """
    module = _static(program.module)
    example = tuple(torch.zeros(shape) for shape in program.input_shapes)
    written = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, example, written, dynamo=False,  # type: ignore[arg-type]
                              input_names=list(INPUTS[:len(example)]),
                              output_names=[OUTPUT], opset_version=opset, verbose=False)
    except Exception as e:   # the exporter raises whatever its symbolic functions raise
        raise BadModel(f"{program.name} cannot be written as ONNX opset {opset}: {_first_line(e)}",
                       "replace that operator in the network") from None
    return tidied(onnx.load_from_string(written.getvalue()), program.name, first)


def given(path: Path, stage: str) -> ModelProto:
    """The user's own graph with inputs and outputs named as those written here; the same function."""
    model = onnx.load(path)
    constants = {t.name for t in model.graph.initializer}
    new = {next(i.name for i in model.graph.input if i.name not in constants): INPUTS[0],
           model.graph.output[0].name: OUTPUT}
    for node in model.graph.node:
        rename(node, new)
    kept = [i for i in model.graph.input if i.name in new]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for value in (*model.graph.input, *model.graph.output):
        value.name = new[value.name]
    return tidied(model, stage)


def content(model: ModelProto, name: str) -> bytes:
    """The checked file, weights inside. Shapes of values between nodes are left out: whoever reads it infers them.

    Raises BadModel for a network too large for that (2 GB).
    """
    size = model.ByteSize()
    if size >= 2**31 - 2**20:
        raise BadModel(f"{name} takes {size / 1e9:.2f} GB; an ONNX file without external data holds 2 GB",
                       "compress the network first")
    onnx.checker.check_model(model, full_check=True)
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    written: bytes = bare.SerializeToString(deterministic=True)
    return written


def _first_line(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return f"{text:.250}"


def _static(module: fx.GraphModule) -> fx.GraphModule:
    """A copy in which shapes are numbers and attention is its two products: fewer and older operators."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}, return_output_node=False))
    for node in list(graph.nodes):
        if node.target is _aten.flatten.using_ints and len(node.meta["val"].shape) != 2:
            shape = [int(n) for n in node.meta["val"].shape]
            node.target, node.args, node.kwargs = _aten.reshape.default, (node.args[0], shape), {}
        elif node.target is _aten.scaled_dot_product_attention.default and len(node.args) == 3:
            _spell_out(graph, node)
    graph.lint()
    return fx.GraphModule(module, graph)


def _spell_out(graph: fx.Graph, node: fx.Node) -> None:
    """softmax(q k^T * scale) v, of an attention without mask."""
    if node.kwargs.get("is_causal") or node.kwargs.get("enable_gqa"):
        return
    query, key, value = node.args
    assert isinstance(query, fx.Node)
    scale = node.kwargs.get("scale") or 1 / math.sqrt(query.meta["val"].shape[-1])
    with graph.inserting_before(node):
        turned = graph.call_function(_aten.transpose.int, (key, -2, -1))
        scaled = graph.call_function(_aten.mul.Scalar, (query, scale))
        weights = graph.call_function(_aten.softmax.int, (graph.call_function(_aten.matmul.default,
                                                                              (scaled, turned)), -1))
        product = graph.call_function(_aten.matmul.default, (weights, value))
    product.meta = dict(node.meta)
    node.replace_all_uses_with(product)
    graph.erase_node(node)
