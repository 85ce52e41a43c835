"""A QONNX file: an .onnx whose Quant nodes say how it is quantised. It is taken as it is.

It is cleaned (constants folded, one parameter a node, domains of today), read as an integer graph, which refuses
whatever has no integer form, and compared with qonnx's own executor on random inputs. External data are read from
the model's own folder only.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from hwkit.errors import BadModel
from hwkit.integer.agreement import compared
from hwkit.integer.graph import DOMAINS, QUANTISERS, IntegerGraph
from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.sources import Opening
from hwkit.sources._child import reading
from hwkit.sources._external import check_external
from hwkit.sources._input import chosen_shape
from hwkit.sources._onnx.interface import single_input

WHOLE = "whole.onnx"
TRIALS = 3
# Operators that hand values on unrounded: a quantiser behind them reads what the one before them gave.
_HAND_ON = ("Relu", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout")


def prepare() -> None:
    """qonnx's transformations are imported once, before forking."""
    import qonnx.transformation.fold_constants
    import qonnx.util.cleanup  # noqa: F401


def opened(opening: Opening, folder: Path, say: Say) -> Model:
    path = opening.source.path
    assert path is not None
    with reading(opening.source.text):
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            check_external(tensor, path.parent, opening.source.text)
        onnx.load_external_data_for_model(model, str(path.parent))
    return write_qonnx(model, opening, folder, say, name=path.stem, dataset=opening.dataset,
                       history=(f"read from {path.name} (QONNX)",))


def write_qonnx(model: ModelProto, opening: Opening, folder: Path, say: Say, *, name: str, dataset: str | None,
                history: tuple[str, ...]) -> Model:
    """Check a QONNX model that holds all its data, and write a cleaned copy into `folder`. Raises BadModel."""
    what = opening.source.text
    model = named(model)
    shape = chosen_shape(opening, input_shape(model, what))
    check_operators(model.graph, what)
    say("cleaning")
    clean, parameters = cleaned(model, what)
    check_quantisers(clean.graph, what)
    onnx.save(clean, folder / WHOLE)
    say("reading it as integers")
    with naming(what):
        graph = IntegerGraph.from_qonnx(folder / WHOLE)
        say("comparing with the qonnx executor")
        noise = np.random.default_rng(0).standard_normal((TRIALS, *graph.input_shape)).astype(np.float32)
        with reading(f"{what} (by qonnx)"), quiet():
            found = compared(folder / WHOLE, noise)
    if found.unexplained:
        node, number = next(iter(found.unexplained.items()))
        raise BadModel(f"{what}: node {node} gives {number} codes in integers that qonnx's executor does not",
                       "export the network again")
    return Model(name=name, path=Path(WHOLE), format="qonnx", input_shape=shape, dataset=dataset,
                 parameters=parameters, parameter_bytes=4 * parameters, history=history)


def named(model: ModelProto) -> ModelProto:
    """The same with a name of its own for every node, the file's where it is one."""
    seen: set[str] = set()
    for k, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{k}"
        node.name = name if name not in seen else f"{name}_{k}"
        seen.add(node.name)
        if node.op_type in QUANTISERS and node.domain in DOMAINS:
            node.domain = DOMAINS[0]
    versions = {o.domain: o.version for o in model.opset_import}
    if not set(versions) & set(DOMAINS[:1]):
        model.opset_import.append(onnx.helper.make_opsetid(
            DOMAINS[0], next((versions[d] for d in DOMAINS if d in versions), 1)))
    return model


def input_shape(model: ModelProto, what: str) -> tuple[int, ...]:
    """Shape of one sample. Raises BadModel unless there is one float input of constant shape and one output."""
    graph = model.graph
    held = single_input(graph, what)
    sizes = [d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in held.shape.dim]
    shape = tuple(size for size in sizes if isinstance(size, int))
    if len(shape) != len(sizes):
        raise BadModel(f"{what} takes inputs of varying shape ({', '.join(map(str, sizes))})",
                       "export it with constant shapes: without dynamic_axes or dynamic_shapes, batch 1")
    if len(shape) < 2 or shape[0] != 1:
        raise BadModel(f"{what} takes an input of shape {shape}; what is deployed here takes one sample, (1, ...)",
                       "export it again with batch 1")
    return shape[1:]


def check_operators(graph: onnx.GraphProto, what: str) -> None:
    """Raises BadModel for a node of a domain that is neither ONNX nor a quantiser's."""
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") and not (node.domain == DOMAINS[0] and node.op_type in QUANTISERS):
            raise BadModel(f"{what}: node {node.name} ({node.op_type}) of the domain {node.domain!r:.60} has no "
                           "integer form here", f"express it in ONNX and {', '.join(QUANTISERS)} nodes")


def cleaned(model: ModelProto, what: str) -> tuple[ModelProto, int]:
    """Constants folded, shared parameters taken apart, shapes inferred; node names stay. With the number of
    parameters, each shared one counted once.

    Raises BadModel where a tensor's shape is not known, or qonnx cannot read the model.
    """
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.fold_constants import FoldConstants
    from qonnx.transformation.general import (
        GiveUniqueParameterTensors,
        RemoveStaticGraphInputs,
        RemoveUnusedTensors,
    )
    from qonnx.transformation.infer_shapes import InferShapes
    from qonnx.transformation.quant_constant_folding import FoldTransposeIntoQuantInit

    with reading(what), quiet():
        wrapper = ModelWrapper(model)
        for step in (InferShapes(), FoldConstants(exclude_op_types=list(QUANTISERS)), RemoveUnusedTensors()):
            wrapper = wrapper.transform(step, cleanup=False)   # which would take shared weights apart
        parameters = sum(_parameters(wrapper.model.graph))
        for step in (GiveUniqueParameterTensors(), FoldTransposeIntoQuantInit(), RemoveUnusedTensors(),
                     RemoveStaticGraphInputs(), InferShapes()):
            wrapper = wrapper.transform(step)
        clean: ModelProto = wrapper.model
        unknown = next((node for node in clean.graph.node for name in node.output
                        if name and not all(wrapper.get_tensor_shape(name) or [0])), None)
        _as_global_average(clean.graph)
    if unknown is not None:
        raise BadModel(f"{what}: node {unknown.name} ({unknown.op_type}) gives a shape that is not constant",
                       "export it with constant shapes: without dynamic_axes or dynamic_shapes, batch 1")
    return clean, parameters


def _as_global_average(graph: onnx.GraphProto) -> None:
    """The mean over height and width by its own name, which hardware compilers know."""
    shapes = {v.name: len(v.type.tensor_type.shape.dim) for v in (*graph.value_info, *graph.input)}
    constants = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type != "ReduceMean" or shapes.get(node.input[0]) != 4:
            continue
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        axes = given.get("axes", [])
        if len(node.input) > 1 and node.input[1] in constants:
            axes = numpy_helper.to_array(constants[node.input[1]]).tolist()
        if sorted(axis % 4 for axis in axes) == [2, 3] and given.get("keepdims", 1):
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]
            del node.input[1:]


def check_quantisers(graph: onnx.GraphProto, what: str) -> None:
    """Raises BadModel for a quantiser that the hardware flow cannot turn into thresholds, naming the nodes."""
    made_by = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type not in ("Quant", "IntQuant") or node.input[0] not in made_by:
            continue
        if not _attribute(node, "signed"):
            continue
        before: NodeProto | None = made_by[node.input[0]]
        if before is not None and before.op_type == "Relu":
            raise BadModel(f"{what}: the signed quantiser {node.name} reads the ReLU {before.name}, whose values "
                           "have no sign", "quantise what a ReLU gives with an unsigned quantiser (signed=0)")
        while before is not None and before.op_type in _HAND_ON:
            before = made_by.get(before.input[0])
        if before is not None and before.op_type in ("Quant", "IntQuant") and not _attribute(before, "signed"):
            raise BadModel(f"{what}: the signed quantiser {node.name} reads what the unsigned quantiser "
                           f"{before.name} gave, which cannot be turned into thresholds",
                           f"leave {node.name} out, or give {before.name} its scale and add them as they are")


def _attribute(node: NodeProto, name: str) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), 1)


def _parameters(graph: onnx.GraphProto) -> Iterator[int]:
    """Sizes of weights, biases and BatchNorm's vectors; not of scales, bit widths, shapes and axes."""
    of_quantisers = {name for node in graph.node if node.op_type in QUANTISERS for name in node.input[1:]}
    for tensor in graph.initializer:
        if tensor.name not in of_quantisers and tensor.data_type == TensorProto.FLOAT and tensor.dims:
            yield math.prod(tensor.dims)


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Errors of the integer graph begin with the model's name."""
    try:
        yield
    except BadModel as e:
        raise e if what in e.message else BadModel(f"{what}: {e.message}", e.hint) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """qonnx prints and warns about what it puts right."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
