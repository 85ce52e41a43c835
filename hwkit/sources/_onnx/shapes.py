"""Operators that move values without changing them, and those that make shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
import torch
import torch.nn.functional as F

from hwkit.sources._onnx.operator import Node, operator

T = torch.Tensor


@operator("Reshape", values=(1,))
def reshape(node: Node, x: T, shape: Sequence[int]) -> T:
    if not node.get("allowzero", 0):
        shape = [x.shape[k] if size == 0 else size for k, size in enumerate(shape)]
    return x.reshape(list(shape))


@operator("Flatten")
def flatten(node: Node, x: T) -> T:
    axis = node.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


@operator("Transpose")
def transpose(node: Node, x: T) -> T:
    return x.permute(node.get("perm", list(reversed(range(x.dim())))))


@operator("Squeeze", values=(1,))
def squeeze(node: Node, x: T, axes: Sequence[int] | None = None) -> T:
    axes = node.get("axes") if axes is None else axes
    if axes is None:
        return x.squeeze()
    if any(x.shape[axis] != 1 for axis in axes):
        raise node.unsupported(f"squeezing axes {list(axes)} of {tuple(x.shape)}")
    return x.squeeze(tuple(axes))


@operator("Unsqueeze", values=(1,))
def unsqueeze(node: Node, x: T, axes: Sequence[int] | None = None) -> T:
    axes = node.get("axes") if axes is None else axes
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Concat")
def concat(node: Node, *operands: T) -> T:
    return torch.cat(operands, node.get("axis"))


@operator("Split", values=(1,))
def split(node: Node, x: T, sizes: Sequence[int] | None = None) -> tuple[T, ...]:
    axis = node.get("axis", 0)
    sizes = node.get("split") if sizes is None else sizes
    if sizes is None:
        each = math.ceil(x.shape[axis] / node.outputs)
        last = x.shape[axis] - each * (node.outputs - 1)
        sizes = [each] * (node.outputs - 1) + [last]
    return tuple(torch.split(x, list(sizes), axis))


@operator("Slice", values=(1, 2, 3, 4))
def slice_(node: Node, x: T, starts: Sequence[int] | None = None, ends: Sequence[int] | None = None,
           axes: Sequence[int] | None = None, steps: Sequence[int] | None = None) -> T:
    starts = node.get("starts") if starts is None else starts
    ends = node.get("ends") if ends is None else ends
    axes = node.get("axes", list(range(len(starts)))) if axes is None else axes
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        axis %= x.dim()
        if step > 0:
            x = x[(slice(None),) * axis + (slice(start, end, step),)]
            continue
        # Python's slice reads a stop below -size as "to the beginning", as ONNX does; torch has no negative steps.
        picked = range(*slice(start, end if end >= -x.shape[axis] else None, step).indices(x.shape[axis]))
        x = x.index_select(axis, torch.tensor(list(picked), dtype=torch.int64))
    return x


@operator("Gather")
def gather(node: Node, x: T, indices: T) -> T:
    axis = node.get("axis", 0) % x.dim()
    if indices.dim() == 0 and not indices.is_floating_point():
        return x.index_select(axis, _wrapped(indices.reshape(1), x.shape[axis])).squeeze(axis)
    picked = x.index_select(axis, _wrapped(indices.reshape(-1), x.shape[axis]))
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1:])


def _wrapped(indices: T, size: int) -> T:
    """Indices counted from the end, made to count from the beginning."""
    return torch.where(indices < 0, indices + size, indices).to(torch.int64)


@operator("GatherElements")
def gather_elements(node: Node, x: T, indices: T) -> T:
    axis = node.get("axis", 0) % x.dim()
    return x.gather(axis, _wrapped(indices, x.shape[axis]))


@operator("Expand", values=(1,))
def expand(_: Node, x: T, shape: Sequence[int]) -> T:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))   # type: ignore[no-untyped-call]


@operator("Tile", values=(1,))
def tile(_: Node, x: T, repeats: Sequence[int]) -> T:
    return x.repeat(*repeats)


PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@operator("Pad", values=(1, 2, 3))
def pad(node: Node, x: T, pads: Sequence[int] | None = None, value: float | None = None,
        axes: Sequence[int] | None = None) -> T:
    pads = node.get("pads", node.get("paddings")) if pads is None else pads
    value = node.get("value", 0.0) if value is None else value
    mode = node.get("mode", "constant")
    axes = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes]
    before, after = [0] * x.dim(), [0] * x.dim()
    for k, axis in enumerate(axes):
        before[axis], after[axis] = pads[k], pads[k + len(axes)]
    first = next((k for k in range(x.dim()) if before[k] or after[k]), x.dim())
    if first == x.dim():
        return x
    if mode != "constant":   # torch pads the last axes of an input with batch and channels
        if x.dim() < 3 or first < 2:
            raise node.unsupported(f"padding {mode} of axis {first} of {tuple(x.shape)}")
        first = 2
    flat = [p for k in reversed(range(first, x.dim())) for p in (before[k], after[k])]
    return F.pad(x, flat, PAD_MODES[mode], value if mode == "constant" else None)


@operator("DepthToSpace")
def depth_to_space(node: Node, x: T) -> T:
    size = node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, size)
    n, c, h, w = x.shape
    split_up = x.reshape(n, size, size, c // size**2, h, w)
    return split_up.permute(0, 3, 4, 1, 5, 2).reshape(n, c // size**2, h * size, w * size)


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: T) -> T:
    size = node.get("blocksize")
    n, c, h, w = x.shape
    split_up = x.reshape(n, c, h // size, size, w // size, size)
    return split_up.permute(0, 3, 5, 1, 2, 4).reshape(n, c * size**2, h // size, w // size)


@operator("Resize", values=(1, 2, 3))
def resize(node: Node, x: T, roi: Sequence[float] | None = None, scales: Sequence[float] | None = None,
           sizes: Sequence[int] | None = None) -> T:
    """What torch's interpolate does; its corner cases differ, which the comparison with onnxruntime catches."""
    if node.opset < 11:   # its second input is scales
        roi, scales = None, roi
    if sizes is None or len(sizes) == 0:
        assert scales is not None
        sizes = [math.floor(size * scale) for size, scale in zip(x.shape, scales, strict=True)]
    if tuple(sizes[:2]) != tuple(x.shape[:2]) or node.get("axes") is not None or x.dim() not in (3, 4, 5):
        raise node.unsupported(f"resizing {tuple(x.shape)} to {tuple(sizes)}")
    mode = node.get("mode", "nearest")
    where = node.get("coordinate_transformation_mode", "half_pixel" if node.opset >= 11 else "asymmetric")
    torch_modes = {"nearest": "nearest" if where == "asymmetric" else "nearest-exact", "cubic": "bicubic",
                   "linear": ("linear", "bilinear", "trilinear")[x.dim() - 3]}
    smooth = mode != "nearest"
    if smooth and where not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise node.unsupported(f"mode {mode} with {where}")
    if mode == "cubic" and node.get("cubic_coeff_a", -0.75) != -0.75:
        raise node.unsupported("cubic_coeff_a other than -0.75")
    return F.interpolate(x, size=list(sizes[2:]), mode=torch_modes[mode],
                         align_corners=where == "align_corners" if smooth else None)


@operator("Upsample", values=(1,))
def upsample(node: Node, x: T, scales: Sequence[float] | None = None) -> T:
    scales = node.get("scales") if scales is None else scales
    if node.get("mode", "nearest") != "nearest":
        raise node.unsupported(f"mode {node.get('mode')}")
    return F.interpolate(x, size=[math.floor(s * k) for s, k in zip(x.shape[2:], scales[2:], strict=True)],
                         mode="nearest")


@operator("Shape")
def shape(node: Node, x: T) -> T:
    return torch.tensor(list(x.shape)[node.get("start", 0):node.get("end", None)], dtype=torch.int64)


@operator("Size")
def size(_: Node, x: T) -> T:
    return torch.tensor(x.numel(), dtype=torch.int64)


@operator("ConstantOfShape", values=(0,))
def constant_of_shape(node: Node, shape: Sequence[int]) -> T:
    value = node.get("value")
    filled = torch.zeros(1) if value is None else torch.from_numpy(onnx.numpy_helper.to_array(value).copy())
    return filled.reshape(1).expand(tuple(shape)).clone()


@operator("Range")
def range_(_: Node, start: T, limit: T, delta: T) -> T:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


@operator("Constant")
def constant(node: Node) -> T:
    for name in ("value_float", "value_floats"):
        if node.get(name) is not None:
            return torch.tensor(node.get(name), dtype=torch.float32)
    for name in ("value_int", "value_ints"):
        if node.get(name) is not None:
            return torch.tensor(node.get(name), dtype=torch.int64)
    if node.get("value") is None:
        raise node.unsupported("a constant that is not a dense tensor of numbers")
    return torch.from_numpy(onnx.numpy_helper.to_array(node.get("value")).copy())


@operator("Trilu", values=(1,))
def trilu(node: Node, x: T, k: int | None = None) -> T:
    return torch.triu(x, k or 0) if node.get("upper", 1) else torch.tril(x, k or 0)
