"""A QONNX graph in integers: the golden model of a quantised network of any shape.

Every tensor is an array of integers with an exact scale (see scaled.py). Exact, with nothing rounded: Conv,
MatMul, Gemm, Add, Mul, pooling, sums, Concat, moves of values, and BatchNormalization once its slopes are worked
out in float64. Only quantisers round: each compares integers with integer thresholds and saturates
(requantize.py); weights and the network's input are rounded as QONNX defines it, in float32.

So the result is what hardware with wide enough accumulators gives. An executor that computes in float32, qonnx's
or torch's, gives the same codes wherever its own rounding errors do not carry a value over the edge between two
codes. How many values lie on such an edge (`ties`) or beside it (`near`) is counted for every quantiser.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from hwkit.errors import BadModel, HwkitError
from hwkit.integer.operators import Constant, Floats, Node, Operand, apply
from hwkit.integer.requantize import (
    MODES,
    Mode,
    Quantiser,
    Rounded,
    code_limits,
    mode_named,
    quantized_floats,
    truncated,
)
from hwkit.integer.scaled import Rationals, Scaled, plain, rationals

DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
QUANTISERS = ("Quant", "IntQuant", "BipolarQuant", "Trunc")
WIDEST_ACTIVATION = 16   # bits: a quantiser of activations has a threshold a code
WIDEST_WEIGHT = 32
BATCH = 32               # images at a time: memory

# What was rounded -> what to go on with.
Watch = Callable[[Node, Scaled, Rounded], Scaled]


class _Quantises(Protocol):
    def __call__(self, node: Node, operands: list[Operand], watch: Watch | None) -> Scaled: ...


class IntegerGraph:
    """What `from_qonnx` read.

    name         of the file
    nodes        in the order they are computed
    input_shape  of one image
    output       name of the tensor that `run` gives
    weight_ties  quantiser of weights -> weights that lay exactly half way between two codes
    ties         quantiser -> values of the last run that lay exactly half way, those of weights among them
    near         quantiser -> values of the last run within 1/1024 of a code of where the code changes
    """

    def __init__(self, name: str, nodes: tuple[Node, ...], constants: dict[str, Constant], graph_input: str,
                 graph_output: str, input_shape: tuple[int, ...], trunc_version: int = 2) -> None:
        self.name = name
        self.nodes = nodes
        self.input_shape = input_shape
        self.ties: dict[str, int] = {}
        self.near: dict[str, int] = {}
        self._constants: dict[str, Operand] = dict(constants)
        self._input, self.output = graph_input, graph_output
        self._trunc_version = trunc_version
        self._tables: dict[str, tuple[Quantiser, Any]] = {}
        self.weight_ties: dict[str, int] = {}
        self._fold()
        self.run(np.zeros((1, *input_shape), np.float32))

    @classmethod
    def from_qonnx(cls, path: Path) -> IntegerGraph:
        """Read a QONNX file with constant shapes, one input and one output.

        Raises BadModel naming the node that has no integer form: a float weight, an activation in no quantiser,
        an unknown operator, a scale that is no positive number.
        """
        try:
            model = onnx.load(str(path))
        except Exception as e:   # protobuf and onnx raise what they like for a damaged file
            raise BadModel(f"{path.name} is not a readable ONNX file: {type(e).__name__}: {e}") from None
        graph = model.graph
        constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        inputs = [i for i in graph.input if i.name not in constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise BadModel(f"{path.name} has {len(inputs)} inputs and {len(graph.output)} outputs",
                           "export the part that has one of each")
        shape = tuple(d.dim_value for d in inputs[0].type.tensor_type.shape.dim)
        if len(shape) < 2 or min(shape) < 1:
            raise BadModel(f"{path.name} takes an input of shape {shape}",
                           "export it with constant shapes, batch 1")
        version = next((o.version for o in model.opset_import if o.domain in DOMAINS), 1)
        nodes = tuple(_node(node, k) for k, node in enumerate(graph.node))
        return cls(path.name, nodes, constants, inputs[0].name, graph.output[0].name, shape[1:], version)

    def run(self, images: NDArray[np.float32], watch: Watch | None = None) -> Scaled:
        """(n, *input_shape) float32 -> the output of each image.

        watch  called with every quantiser of activations, what it gave and how it was rounded; the graph goes on
               with what it returns
        """
        self.ties, self.near = dict(self.weight_ties), {}
        parts = [self._part(np.asarray(images[k:k + BATCH], np.float32), watch)
                 for k in range(0, len(images), BATCH)]
        if not parts:
            raise ValueError("no images")
        first = parts[0]
        return Scaled(np.concatenate([p.codes for p in parts]), first.scale, first.offset, first.low, first.high)

    def _part(self, images: NDArray[np.float32], watch: Watch | None) -> Scaled:
        values: dict[str, Operand] = {self._input: Floats(images)}
        last = {name: k for k, node in enumerate(self.nodes) for name in node.inputs}
        for k, node in enumerate(self.nodes):
            if node.output not in self._constants:
                values[node.output] = self._computed(node, self._operands(node, values), watch)
            for name in node.inputs:
                if last[name] == k and name != self.output:
                    values.pop(name, None)
        result = values.get(self.output)
        if not isinstance(result, Scaled):
            raise BadModel(f"{self.name}: its output comes from no quantiser", "quantise the network")
        return result

    def _operands(self, node: Node, values: dict[str, Operand]) -> list[Operand]:
        missing = [n for n in node.inputs if n and n not in values and n not in self._constants]
        if missing:
            raise node.refused(f"reads {missing[0]!r}, which nothing computes before it")
        return [None if not n else values.get(n, self._constants.get(n)) for n in node.inputs]

    def _fold(self) -> None:
        """Weights: whatever depends on constants alone."""
        for node in self.nodes:
            if all(not name or name in self._constants for name in node.inputs):
                self._constants[node.output] = self._computed(node, self._operands(node, {}), None)
        self.weight_ties, self._tables = dict(self.ties), {}

    def _computed(self, node: Node, operands: list[Operand], watch: Watch | None) -> Operand:
        with naming(node):
            if node.op in QUANTISERS:
                quantise: _Quantises = self._trunc if node.op == "Trunc" else self._quant
                return quantise(node, operands, watch)
            return apply(node, operands)

    def _quant(self, node: Node, operands: list[Operand], watch: Watch | None) -> Scaled:
        x = operands[0]
        if x is None:
            raise node.refused("has no input")
        rank = x.values.ndim if isinstance(x, Floats) else x.codes.ndim if isinstance(x, Scaled) else x.ndim
        if not isinstance(x, Scaled):
            quantiser = self._quantiser(node, operands, rank, WIDEST_WEIGHT)
            floats = x.values if isinstance(x, Floats) else np.asarray(x, np.float32)
            if not np.isfinite(floats).all():
                raise node.refused("has NaN or infinity among its values", "load the right weights")
            codes, ties = quantized_floats(floats, quantiser.scale.astype(np.float32), quantiser.zero_point,
                                           quantiser.low, quantiser.high, quantiser.mode, quantiser.sign)
            self._count(node, int(ties.sum()), 0)
            result = plain(codes - quantiser.zero_point, quantiser.scale)
            if not isinstance(x, Floats) or watch is None:
                return result
            return watch(node, result, Rounded(codes, ties, np.zeros(codes.shape, bool)))
        if node.name not in self._tables:
            quantiser = self._quantiser(node, operands, rank, WIDEST_ACTIVATION)
            self._tables[node.name] = quantiser, quantiser.tables(x)
        quantiser, tables = self._tables[node.name]
        done = quantiser(x, tables)
        self._count(node, int(done.ties.sum()), int(done.near.sum()))
        result = plain(done.codes - quantiser.zero_point, quantiser.scale)
        return result if watch is None else watch(node, result, done)

    def _quantiser(self, node: Node, operands: list[Operand], rank: int, widest: int) -> Quantiser:
        scale = _scale(node, operands[1] if len(operands) > 1 else None, rank)
        if node.op == "BipolarQuant":
            return Quantiser(scale, 0, -1, 1, "FLOOR", sign=True)
        zero_point = _whole(node, operands, 2, "zero point")
        bits = _whole(node, operands, 3, "bit width")
        if not 1 <= bits <= widest:
            raise node.refused(f"has a bit width of {bits}", f"between 1 and {widest} can be computed here")
        signed, narrow = bool(node.attributes.get("signed", 1)), bool(node.attributes.get("narrow", 1))
        low, high = code_limits(bits, signed, narrow)
        if signed and bits == 1:   # as the qonnx executor has it
            low, high = -1, 1
        if low >= high:
            raise node.refused("has a single code", "give it more bits, or narrow=0")
        return Quantiser(scale, zero_point, low, high, _mode(node, "ROUND"), sign=signed and bits == 1)

    def _trunc(self, node: Node, operands: list[Operand], watch: Watch | None) -> Scaled:
        x = operands[0]
        if not isinstance(x, Scaled):
            raise node.refused("reads something that comes from no quantiser")
        scale = _scale(node, operands[1], x.codes.ndim)
        zero_point = _whole(node, operands, 2, "zero point")
        if zero_point:
            raise node.refused("has a zero point", "give its input a zero point of 0")
        ratio = x.scale / scale
        if not x.plain or any(r.denominator != 1 for r in ratio.ravel().tolist()):
            raise node.refused("has a scale that its input's is no multiple of", "give it the scale of its input")
        before, after = _whole(node, operands, 3, "bit width"), _whole(node, operands, -1, "output bit width")
        signed, narrow = bool(node.attributes.get("signed", 1)), bool(node.attributes.get("narrow", 0))
        shift, low, high = before - after, -1 << 62, 1 << 62
        out_scale = scale
        if self._trunc_version >= 2:
            out_scale = _scale(node, operands[4], x.codes.ndim)
            shift = round(float(np.log2(float(out_scale.ravel()[0] / scale.ravel()[0]))))
            low, high = code_limits(after, signed, narrow)
        if not 0 <= shift < 62:
            raise node.refused(f"shifts by {shift} bits")
        codes = x.codes * np.array([int(r) for r in ratio.ravel()], np.int64).reshape(ratio.shape)
        found, ties = truncated(codes, shift, _mode(node, "FLOOR"), low, high)
        self._count(node, int(ties.sum()), 0)
        result = plain(found, out_scale)
        return result if watch is None else watch(node, result, Rounded(found, ties, np.zeros(ties.shape, bool)))

    def _count(self, node: Node, ties: int, near: int) -> None:
        for counts, number in ((self.ties, ties), (self.near, near)):
            if number:
                counts[node.name] = counts.get(node.name, 0) + number


def _node(node: onnx.NodeProto, k: int) -> Node:
    name = node.name or f"{node.op_type}_{k}"
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    attributes = {k: v.decode(errors="replace") if isinstance(v, bytes) else v for k, v in attributes.items()}
    outputs = [o for o in node.output if o]
    if node.domain not in ("", "ai.onnx", *DOMAINS):
        raise BadModel(f"node {name} ({node.op_type}) is of the domain {node.domain}, which is not known here",
                       "express it in ONNX and Quant nodes")
    if len(outputs) != 1 and node.op_type != "Dropout":
        raise BadModel(f"node {name} ({node.op_type}) has {len(outputs)} outputs", "use one that has one")
    return Node(name, node.op_type, tuple(node.input), outputs[0], attributes)


def _scale(node: Node, scale: Operand, rank: int) -> Rationals:
    if not isinstance(scale, np.ndarray):
        raise node.refused("has a scale that is not a constant", "export it with constant scales")
    bad = int((~(np.isfinite(scale) & (scale > 0))).sum())
    if bad:
        raise node.refused(f"has {bad} scales among {scale.size} that are not positive numbers (NaN, infinity, 0)",
                           "train or calibrate the network again")
    if scale.ndim > rank:
        raise node.refused(f"has a scale of shape {scale.shape} for an input of {rank} axes")
    return rationals(scale.astype(np.float32)).reshape((1,) * (rank - scale.ndim) + scale.shape)


def _whole(node: Node, operands: list[Operand], k: int, what: str) -> int:
    value = operands[k] if len(operands) > k else None
    if not isinstance(value, np.ndarray) or not value.size or not (value == value.ravel()[0]).all():
        raise node.refused(f"has a {what} that is not one constant")
    number = float(value.ravel()[0])
    if not number.is_integer() or abs(number) >= 1 << 31:
        raise node.refused(f"has a {what} of {number:g}, which is not whole or too large")
    return int(number)


def _mode(node: Node, default: str) -> Mode:
    name = str(node.attributes.get("rounding_mode", default))
    mode = mode_named(name)
    if mode is None:
        raise node.refused(f"rounds by {name!r:.40}", f"known are {', '.join(MODES)}")
    return mode


@contextlib.contextmanager
def naming(node: Node) -> Iterator[None]:
    """Whatever numpy raises for operands that do not fit together, as BadModel naming the node."""
    try:
        yield
    except BadModel as e:
        raise e if f"node {node.name}" in e.message else node.refused(f": {e.message}", e.hint) from None
    except (HwkitError, MemoryError):
        raise
    except (ValueError, IndexError, TypeError, KeyError, ArithmeticError, AttributeError) as e:
        raise node.refused(f"cannot be computed: {type(e).__name__}: {' '.join(str(e).split()):.120}",
                           "export the network again") from e
