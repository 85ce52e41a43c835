"""What each operator of a QONNX graph does to scaled integers. All of them are exact; only quantisers round.

An operand is one of
    Scaled    integers with a scale: what a quantiser gave, and what was made of it
    Floats    the network's input before its quantiser; (n, ...) float32
    constant  a float or integer array of the graph, in no quantiser
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hwkit.errors import BadModel
from hwkit.integer import scaled
from hwkit.integer.arithmetic import Ints
from hwkit.integer.scaled import Rationals, Scaled, rationals

QUANTISE = "quantise what it reads (a Quant node)"
Constant = NDArray[Any]


@dataclass(frozen=True)
class Floats:
    """The network's input, not yet quantised."""

    values: NDArray[np.float32]


Operand = Scaled | Floats | Constant | None


@dataclass(frozen=True)
class Node:
    """One node of the graph. name: the file's own, or the type and a number where it has none."""

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)

    def refused(self, why: str, hint: str = "") -> BadModel:
        return BadModel(f"node {self.name} ({self.op}) {why}", hint)

    def ints(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        return tuple(int(v) for v in self.attributes.get(name, default))


F = TypeVar("F", bound=Callable[..., Operand])
OPERATORS: dict[str, Callable[..., Operand]] = {}


def operator(*names: str) -> Callable[[F], F]:
    """Enter a function under the names of the ONNX operators that it computes."""
    def entered(function: F) -> F:
        OPERATORS.update(dict.fromkeys(names, function))
        return function
    return entered


def apply(node: Node, operands: Sequence[Operand]) -> Operand:
    """The node's output. Raises BadModel naming the node."""
    if node.op not in OPERATORS:
        raise node.refused("is an operator with no integer form here", f"known are {', '.join(sorted(OPERATORS))}")
    if any(isinstance(o, Floats) for o in operands) and OPERATORS[node.op] not in (_moved, _identity):
        raise node.refused("reads the network's float input", "put a Quant node behind the input")
    return OPERATORS[node.op](node, *operands)


def integers(node: Node, x: Operand, what: str = "input") -> Scaled:
    """An operand that must be scaled integers, with no offset and no ReLU that is yet to be quantised."""
    if not isinstance(x, Scaled):
        raise node.refused(f"has a float {what}: it comes from no quantiser", QUANTISE)
    if not x.plain:
        raise node.refused(f"has a float {what}: a bias, BatchNorm or ReLU stands between it and its quantiser",
                           QUANTISE)
    return x


def _scaled(node: Node, x: Operand) -> Scaled:
    if not isinstance(x, Scaled):
        raise node.refused("reads something that comes from no quantiser", QUANTISE)
    return x


def _constant(node: Node, x: Operand, axes: int) -> Rationals:
    """A constant with `axes` axes, the first (images) of size 1."""
    if isinstance(x, Scaled):
        settled = scaled.settled(x)
        exact: Rationals = settled.codes * settled.scale
    else:
        assert isinstance(x, np.ndarray)
        exact = rationals(x)
    if exact.ndim > axes or (exact.ndim == axes and exact.shape[0] != 1):
        raise node.refused(f"combines with a constant of shape {exact.shape}, which has a value an image")
    return exact.reshape((1,) * (axes - exact.ndim) + exact.shape)


@operator("Conv")
def _conv(node: Node, x: Operand, w: Operand, bias: Operand = None) -> Scaled:
    image, weight = scaled.on_one_scale(integers(node, x)), integers(node, w, "weight")
    group, spatial = int(node.attributes.get("group", 1)), weight.codes.ndim - 2
    strides, dilations = node.ints("strides", (1,) * spatial), node.ints("dilations", (1,) * spatial)
    outputs, inputs = weight.codes.shape[:2]
    if image.codes.ndim != spatial + 2 or image.codes.shape[1] != inputs * group or outputs % group:
        raise node.refused(f"has weights of shape {weight.codes.shape} for an input of {image.codes.shape}")
    if weight.scale.size not in (1, outputs) or weight.scale.shape[0] != weight.scale.size:
        weight = scaled.on_one_scale(weight)
    codes = _padded(node, image.codes, spatial, 0)
    n, kernel = len(codes), weight.codes.shape[2:]
    grouped = weight.codes.reshape(group, outputs // group, inputs, *kernel)
    out: Any = 0
    for place in np.ndindex(kernel):
        seen = _seen(codes, place, kernel, strides, dilations)
        size = seen.shape[2:]
        seen = seen.reshape(n, group, inputs, -1)
        part = scaled.matrix_product(grouped[(..., *place)], seen, f"node {node.name} (Conv)")
        out = out + part.reshape(n, outputs, *size)
    axes = (1, outputs) + (1,) * spatial
    scale = image.scale.item() * np.broadcast_to(weight.scale.ravel(), (outputs,)).reshape(axes)
    made = scaled.plain(out, scale)
    return made if bias is None else scaled.shifted_by(made, _bias(node, bias, outputs).reshape(axes))


def _bias(node: Node, bias: Operand, outputs: int) -> Rationals:
    exact = _constant(node, bias[None] if isinstance(bias, np.ndarray) else bias, 2)
    return np.broadcast_to(exact.ravel(), (outputs,))


def _padded(node: Node, codes: Ints, spatial: int, value: int) -> Ints:
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode not in ("NOTSET", "VALID"):
        raise node.refused(f"pads by auto_pad={mode}", "export it with explicit pads")
    if node.attributes.get("ceil_mode", 0):
        raise node.refused("has ceil_mode", "export it without")
    pads = node.ints("pads", (0,) * 2 * spatial) if mode == "NOTSET" else (0,) * 2 * spatial
    if min(pads, default=0) < 0 or len(pads) != 2 * spatial:
        raise node.refused(f"has pads {pads}")
    return np.pad(codes, [(0, 0), (0, 0), *zip(pads[:spatial], pads[spatial:], strict=True)],
                  constant_values=value)


def _seen(codes: Ints, place: Sequence[int], kernel: Sequence[int], strides: Sequence[int],
          dilations: Sequence[int]) -> Ints:
    """What the kernel's position `place` meets as it slides."""
    cuts = []
    for k, size, stride, step, have in zip(place, kernel, strides, dilations, codes.shape[2:], strict=True):
        count = (have - (size - 1) * step - 1) // stride + 1
        cuts.append(slice(k * step, k * step + (count - 1) * stride + 1, stride))
    return codes[(slice(None), slice(None), *cuts)]


@operator("MatMul")
def _matmul(node: Node, x: Operand, w: Operand) -> Scaled:
    a, b = scaled.on_one_scale(integers(node, x)), integers(node, w, "weight")
    if b.codes.ndim != 2 or b.scale.shape[0] != 1:   # rows of different scale, or another activation
        b = scaled.on_one_scale(b)
    scale = a.scale.item() * b.scale.reshape((1,) * (a.codes.ndim - 1) + (-1,))
    return scaled.plain(scaled.matrix_product(a.codes, b.codes, f"node {node.name} (MatMul)"), scale)


@operator("Gemm")
def _gemm(node: Node, x: Operand, w: Operand, bias: Operand = None) -> Scaled:
    if node.attributes.get("transA", 0):
        raise node.refused("transposes its input")
    weight = integers(node, w, "weight")
    if node.attributes.get("transB", 0):
        weight = replace(weight, codes=weight.codes.T, scale=weight.scale.T)
    product = _matmul(node, x, weight)
    alpha, beta = (rationals(np.float32(node.attributes.get(k, 1.0))).item() for k in ("alpha", "beta"))
    product = scaled.plain(product.codes, product.scale * alpha)
    if bias is None:
        return product
    return scaled.shifted_by(product, beta * _bias(node, bias, product.codes.shape[-1])[None])


@operator("Add", "Sub")
def _add(node: Node, a: Operand, b: Operand) -> Scaled:
    sign = -1 if node.op == "Sub" else 1
    if isinstance(a, Scaled) and isinstance(b, Scaled):
        return scaled.total(_settled_limits(a), _settled_limits(b), sign)
    if isinstance(a, Scaled):
        value, other = _settled_limits(a), b
    else:
        value, other = _settled_limits(_scaled(node, b)), a
        if sign < 0:
            value = scaled.scaled_by(value, _ones(value, -1))
            sign = 1
    return scaled.shifted_by(value, sign * _constant(node, other, value.codes.ndim))


def _settled_limits(value: Scaled) -> Scaled:
    return value if value.low is None and value.high is None else scaled.settled(value)


def _ones(value: Scaled, number: int) -> Rationals:
    return np.full((1,) * value.codes.ndim, Fraction(number), object)


@operator("Mul", "Div")
def _mul(node: Node, a: Operand, b: Operand) -> Scaled:
    if isinstance(a, Scaled) and isinstance(b, Scaled):
        if node.op == "Div":
            raise node.refused("divides by something that depends on the input")
        left, right = integers(node, a), integers(node, b)
        return scaled.plain(left.codes * right.codes, left.scale * right.scale)
    if node.op == "Div" and not isinstance(a, Scaled):
        raise node.refused("divides by something that depends on the input")
    value, other = (a, b) if isinstance(a, Scaled) else (_scaled(node, b), a)
    factor = _constant(node, other, value.codes.ndim)
    if node.op == "Div":
        if not all(factor.ravel().tolist()):
            raise node.refused("divides by zero")
        factor = np.asarray(1 / factor, object)
    return scaled.scaled_by(value, factor)


@operator("BatchNormalization")
def _batch_norm(node: Node, x: Operand, gamma: Operand, beta: Operand, mean: Operand, variance: Operand) -> Scaled:
    """Per channel gamma / sqrt(variance + epsilon), worked out once in float64; from there on exact."""
    value = _settled_limits(_scaled(node, x))
    constants = [np.asarray(c, np.float64) for c in (gamma, beta, mean, variance) if isinstance(c, np.ndarray)]
    if len(constants) != 4:
        raise node.refused("has parameters that are not constants")
    if (constants[3] < 0).any():
        raise node.refused("has a negative variance", "train the network again, or load the right weights")
    epsilon = float(np.float32(node.attributes.get("epsilon", 1e-5)))
    axes = (1, -1) + (1,) * (value.codes.ndim - 2)
    slope, shift, centre = (rationals(c).reshape(axes) for c in (
        constants[0] / np.sqrt(constants[3] + epsilon), constants[1], constants[2]))
    return scaled.shifted_by(scaled.scaled_by(scaled.shifted_by(value, -centre), slope), shift)


@operator("Relu")
def _relu(node: Node, x: Operand) -> Scaled:
    return scaled.limited(_scaled(node, x), Fraction(0), None)


@operator("Clip")
def _clip(node: Node, x: Operand, low: Operand = None, high: Operand = None) -> Scaled:
    ends = [rationals(end).item() if isinstance(end, np.ndarray) else None for end in (low, high)]
    return scaled.limited(_scaled(node, x), *ends)


@operator("MaxPool")
def _max_pool(node: Node, x: Operand) -> Scaled:
    value, kernel, strides = _pooled(node, x)
    dilations = node.ints("dilations", (1,) * len(kernel))
    codes = _padded(node, value.codes, len(kernel), -scaled.WIDEST)
    out = None
    for place in np.ndindex(kernel):
        seen = _seen(codes, place, kernel, strides, dilations)
        out = seen if out is None else np.maximum(out, seen)
    assert out is not None
    return replace(value, codes=out)


@operator("AveragePool")
def _average_pool(node: Node, x: Operand) -> Scaled:
    value, kernel, strides = _pooled(node, x)
    pads = node.ints("pads", ())
    if any(pads):
        if not node.attributes.get("count_include_pad", 0):
            raise node.refused("averages fewer values at the border", "export it with count_include_pad=1")
        value = scaled.settled(value)
    value = _settled_limits(value)
    codes = _padded(node, value.codes, len(kernel), 0)
    out = sum(_seen(codes, place, kernel, strides, (1,) * len(kernel)) for place in np.ndindex(kernel))
    return replace(value, codes=np.asarray(out), scale=value.scale / math.prod(kernel))


def _pooled(node: Node, x: Operand) -> tuple[Scaled, tuple[int, ...], tuple[int, ...]]:
    value, kernel = _scaled(node, x), node.ints("kernel_shape", ())
    if len(kernel) != value.codes.ndim - 2:
        raise node.refused(f"pools {len(kernel)} axes of an input of shape {value.codes.shape}")
    if any(size != 1 for array in (value.scale, value.offset) for size in array.shape[2:]):
        value = scaled.on_one_scale(scaled.settled(value))
    return value, kernel, node.ints("strides", (1,) * len(kernel))


@operator("GlobalAveragePool", "ReduceMean", "ReduceSum", "GlobalMaxPool")
def _reduce(node: Node, x: Operand, axes: Operand = None) -> Scaled:
    value = _settled_limits(_scaled(node, x))
    rank = value.codes.ndim
    if node.op.startswith("Global"):
        over = tuple(range(2, rank))
    else:
        given = axes.tolist() if isinstance(axes, np.ndarray) else node.ints("axes", range(rank))
        over = tuple(sorted(int(a) % rank for a in given))
    if 0 in over:
        raise node.refused("adds up over the images of a batch")
    if any(array.shape[a] != 1 for array in (value.scale, value.offset) for a in over):
        value = scaled.on_one_scale(scaled.settled(value))
    keep = bool(node.attributes.get("keepdims", 1))
    if node.op == "GlobalMaxPool":
        return replace(value, codes=value.codes.max(over, keepdims=True))
    count = math.prod(value.codes.shape[a] for a in over)
    codes, scale, offset = value.codes.sum(over, keepdims=True), value.scale, value.offset
    if node.op == "ReduceSum":
        offset = np.asarray(offset * count, object)
    else:
        scale = np.asarray(scale / count, object)
    if not keep:
        codes, scale, offset = (a.squeeze(over) for a in (codes, scale, offset))
    return Scaled(codes, scale, offset)


@operator("Concat")
def _concat(node: Node, *parts: Operand) -> Scaled:
    values = [_settled_limits(_scaled(node, part)) for part in parts]
    rank = values[0].codes.ndim
    axis = int(node.attributes.get("axis", 1)) % rank
    if axis == 0:
        raise node.refused("joins the images of a batch")

    def joined(arrays: Sequence[Rationals]) -> Rationals:
        shape = [max(a.shape[k] for a in arrays) for k in range(rank)]
        wide = [np.broadcast_to(a, [*shape[:axis], v.codes.shape[axis], *shape[axis + 1:]])
                for a, v in zip(arrays, values, strict=True)]
        return np.concatenate(wide, axis)

    return Scaled(np.concatenate([v.codes for v in values], axis), joined([v.scale for v in values]),
                  joined([v.offset for v in values]))


@operator("Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze")
def _moved(node: Node, x: Operand, how: Operand = None) -> Operand:
    if isinstance(x, Floats):
        return Floats(_rearranged(node, x.values, how))
    value = _scaled(node, x)
    codes = _rearranged(node, value.codes, how)

    def follows(array: Rationals) -> Rationals:
        if array.size == 1:
            return array.reshape((1,) * codes.ndim)
        return _rearranged(node, np.broadcast_to(array, (1, *value.codes.shape[1:])), how)

    return replace(value, codes=codes, scale=follows(value.scale), offset=follows(value.offset))


def _rearranged(node: Node, array: NDArray[Any], how: Operand) -> NDArray[Any]:
    """The array moved as the node says for one image: the first axis stays what it is."""
    given = [int(v) for v in how.tolist()] if isinstance(how, np.ndarray) else list(node.ints("axes", ()))
    rank = array.ndim
    match node.op:
        case "Transpose":
            order = node.ints("perm", range(rank)[::-1])
            if order[0] != 0:
                raise node.refused("moves the axis of the batch")
            return array.transpose(order)
        case "Flatten":
            if node.attributes.get("axis", 1) != 1:
                raise node.refused("flattens the axis of the batch too")
            return array.reshape(len(array), -1)
        case "Squeeze":
            axes = [a % rank for a in given] or [k for k, size in enumerate(array.shape) if size == 1 and k]
            shape = [size for k, size in enumerate(array.shape[1:], 1) if k not in axes]
        case "Unsqueeze":
            shape = list(np.expand_dims(array[:1], tuple(given)).shape[1:])
        case _:
            start = (1, *array.shape[1:])
            wanted = [start[k] if size == 0 else size for k, size in enumerate(given)]
            shape = list(np.empty(start, bool).reshape(wanted).shape)
            if not shape or shape[0] != 1:
                raise node.refused(f"gives a shape of {shape} for one image", "keep the batch the first axis")
            shape = shape[1:]
    return array.reshape(len(array), *shape)


@operator("Identity", "Dropout")
def _identity(node: Node, x: Operand, *rest: Operand) -> Operand:
    return x


@operator("Pad")
def _pad(node: Node, x: Operand, pads: Operand = None, value: Operand = None, axes: Operand = None) -> Scaled:
    image = _scaled(node, x)
    rank = image.codes.ndim
    given = pads.tolist() if isinstance(pads, np.ndarray) else list(node.ints("pads", ()))
    filled = isinstance(value, np.ndarray) and value.size and bool(value.any())
    if node.attributes.get("mode", "constant") != "constant" or filled or axes is not None:
        raise node.refused("pads with something else than zeros on all sides")
    if len(given) != 2 * rank or min(given) < 0 or given[0] or given[rank]:
        raise node.refused(f"has pads {given}")
    image = scaled.on_one_scale(scaled.settled(image))
    return replace(image, codes=np.pad(image.codes, list(zip(given[:rank], given[rank:], strict=True))))
