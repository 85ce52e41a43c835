"""Operators with weights, and pooling and normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from hwkit.sources._onnx.operator import Node, operator

T = torch.Tensor
CONV: dict[int, Callable[..., T]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE: dict[int, Callable[..., T]] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX_POOL: dict[int, Callable[..., T]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOL: dict[int, Callable[..., T]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _spatial(node: Node, x: T) -> int:
    dims = x.dim() - 2
    if dims not in CONV:
        raise node.unsupported(f"an input of shape {tuple(x.shape)}")
    return dims


def _pads(node: Node, x: T, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int],
          ) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial axis."""
    dims = len(kernel)
    auto = node.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = list(node.get("pads", [0] * 2 * dims))
        return pads[:dims], pads[dims:]
    if auto == "VALID":
        return [0] * dims, [0] * dims
    before, after = [], []
    for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size)
        small, large = total // 2, total - total // 2
        before.append(small if auto == "SAME_UPPER" else large)
        after.append(large if auto == "SAME_UPPER" else small)
    return before, after


def _pad(x: T, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> T:
    """F.pad, which counts axes from the last one."""
    if not any(before) and not any(after):
        return x
    flat = [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair]
    return F.pad(x, flat, value=value)


@operator("Conv")
def conv(node: Node, x: T, weight: T, bias: T | None = None) -> T:
    dims = _spatial(node, x)
    strides, dilations = node.get("strides", [1] * dims), node.get("dilations", [1] * dims)
    before, after = _pads(node, x, weight.shape[2:], strides, dilations)
    padding: list[int] = before
    if before != after:
        x, padding = _pad(x, before, after), [0] * dims
    return CONV[dims](x, weight, bias, strides, padding, dilations, node.get("group", 1))


@operator("ConvTranspose")
def conv_transpose(node: Node, x: T, weight: T, bias: T | None = None) -> T:
    dims = _spatial(node, x)
    strides, dilations = node.get("strides", [1] * dims), node.get("dilations", [1] * dims)
    extra = node.get("output_padding", [0] * dims)
    if node.get("auto_pad", "NOTSET") not in ("NOTSET", "", "VALID") or node.get("output_shape") is not None:
        raise node.unsupported("auto_pad or output_shape")
    pads = node.get("pads", [0] * 2 * dims)
    if pads[:dims] != pads[dims:]:
        raise node.unsupported(f"asymmetric padding {pads}")
    return CONV_TRANSPOSE[dims](x, weight, bias, strides, pads[:dims], extra, node.get("group", 1), dilations)


@operator("MaxPool")
def max_pool(node: Node, x: T) -> T:
    if node.outputs != 1 or node.get("storage_order", 0):
        raise node.unsupported("the output of indices")
    dims, kernel = _spatial(node, x), node.get("kernel_shape")
    strides, dilations = node.get("strides", [1] * dims), node.get("dilations", [1] * dims)
    before, after = _pads(node, x, kernel, strides, dilations)
    padding = before
    if before != after or any(2 * p > k for p, k in zip(before, kernel, strict=True)):
        x, padding = _pad(x, before, after, -math.inf), [0] * dims
    return MAX_POOL[dims](x, kernel, strides, padding, dilations, bool(node.get("ceil_mode", 0)))


@operator("AveragePool")
def average_pool(node: Node, x: T) -> T:
    dims, kernel = _spatial(node, x), node.get("kernel_shape")
    strides = node.get("strides", [1] * dims)
    if any(d != 1 for d in node.get("dilations", [])):
        raise node.unsupported("dilation")
    before, after = _pads(node, x, kernel, strides, [1] * dims)
    count_pads, ceil = bool(node.get("count_include_pad", 0)), bool(node.get("ceil_mode", 0))
    pool = AVERAGE_POOL[dims]
    if before == after and all(2 * p <= k for p, k in zip(before, kernel, strict=True)):
        return pool(x, kernel, strides, before, ceil, count_pads)
    padded = pool(_pad(x, before, after), kernel, strides, 0, ceil)
    if count_pads:
        return padded
    inside = pool(_pad(torch.ones(1, 1, *x.shape[2:]), before, after), kernel, strides, 0, ceil)
    return padded / inside


@operator("GlobalAveragePool")
def global_average_pool(_: Node, x: T) -> T:
    return x.mean(dim=list(range(2, x.dim())), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(_: Node, x: T) -> T:
    return x.amax(dim=list(range(2, x.dim())), keepdim=True)


@operator("BatchNormalization")
def batch_norm(node: Node, x: T, scale: T, bias: T, mean: T, variance: T) -> T:
    if node.get("training_mode", 0) or node.outputs != 1:
        raise node.unsupported("training mode")
    return F.batch_norm(x, mean, variance, scale, bias, eps=node.get("epsilon", 1e-5))


@operator("InstanceNormalization")
def instance_norm(node: Node, x: T, scale: T, bias: T) -> T:
    return F.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


@operator("LayerNormalization")
def layer_norm(node: Node, x: T, scale: T, bias: T | None = None) -> T:
    if node.outputs != 1:
        raise node.unsupported("the output of mean and deviation")
    shape = x.shape[node.get("axis", -1) % x.dim():]
    return F.layer_norm(x, shape, scale.expand(shape), None if bias is None else bias.expand(shape),
                        node.get("epsilon", 1e-5))


@operator("RMSNormalization")
def rms_norm(node: Node, x: T, scale: T) -> T:
    shape = list(x.shape[node.get("axis", -1) % x.dim():])
    return F.rms_norm(x, shape, scale.expand(shape), node.get("epsilon", 1e-5))


@operator("GroupNormalization")
def group_norm(node: Node, x: T, scale: T, bias: T) -> T:
    return F.group_norm(x, node.get("num_groups"), scale, bias, node.get("epsilon", 1e-5))


@operator("LRN")
def local_response_norm(node: Node, x: T) -> T:
    size = node.get("size")
    if size % 2 == 0:
        raise node.unsupported(f"an even size ({size})")
    return F.local_response_norm(x, size, node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0))


@operator("LpNormalization")
def lp_normalization(node: Node, x: T) -> T:
    length: T = torch.linalg.vector_norm(x, node.get("p", 2), dim=node.get("axis", -1), keepdim=True)
    return x / length


@operator("Gemm")
def gemm(node: Node, a: T, b: T, c: T | None = None) -> T:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    a = a.t() if node.get("transA", 0) else a
    weight = b if node.get("transB", 0) else b.t()
    if alpha == 1.0 and (c is None or (beta == 1.0 and c.dim() == 1 and c.shape[0] == weight.shape[0])):
        return F.linear(a, weight, c)
    product: T = alpha * F.linear(a, weight)
    return product if c is None else product + beta * c


@operator("MatMul")
def matmul(_: Node, a: T, b: T) -> T:
    return torch.matmul(a, b)


@operator("Einsum")
def einsum(node: Node, *operands: T) -> T:
    result: T = torch.einsum(node.get("equation"), *operands)   # torch leaves it untyped
    return result
