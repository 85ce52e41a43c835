"""Operators that sum, average or choose along axes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch

from hwkit.sources._onnx.operator import Node, operator

T = torch.Tensor
Axes = list[int]

REDUCTIONS: dict[str, Callable[[T, Axes, bool], T]] = {
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keep),
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keep),
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep),
    "ReduceL2": lambda x, axes, keep: (x * x).sum(axes, keep).sqrt(),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(axes, keep),
    "ReduceProd": lambda x, axes, keep: _product(x, axes, keep),
}


def _product(x: T, axes: Axes, keep: bool) -> T:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keep)
    return x


def _reduce(function: Callable[[T, Axes, bool], T], node: Node, x: T, axes: Sequence[int] | None = None) -> T:
    chosen = node.get("axes") if axes is None else axes
    if chosen is None or len(chosen) == 0:
        if node.get("noop_with_empty_axes", 0):
            return x
        chosen = range(x.dim())
    return function(x, list(chosen), bool(node.get("keepdims", 1))) if x.dim() else x


for _name, _function in REDUCTIONS.items():
    operator(_name, values=(1,))(functools.partial(_reduce, _function))


def _along(node: Node, x: T, function: Callable[[T, int], T]) -> T:
    """Before opset 13 softmax works on the input flattened to two axes."""
    if node.opset >= 13:
        return function(x, node.get("axis", -1))
    axis = node.get("axis", 1) % x.dim()
    return function(x.reshape(math.prod(x.shape[:axis]), -1), 1).reshape(x.shape)


@operator("Softmax")
def softmax(node: Node, x: T) -> T:
    return _along(node, x, torch.softmax)


@operator("LogSoftmax")
def log_softmax(node: Node, x: T) -> T:
    return _along(node, x, torch.log_softmax)


@operator("ArgMax")
def argmax(node: Node, x: T) -> T:
    return _arg(node, x, torch.argmax)


@operator("ArgMin")
def argmin(node: Node, x: T) -> T:
    return _arg(node, x, torch.argmin)


def _arg(node: Node, x: T, function: Callable[[T, int, bool], T]) -> T:
    if node.get("select_last_index", 0):
        raise node.unsupported("select_last_index")
    return function(x, node.get("axis", 0), bool(node.get("keepdims", 1)))


@operator("CumSum", values=(1,))
def cumsum(node: Node, x: T, axis: int) -> T:
    if node.get("exclusive", 0) or node.get("reverse", 0):
        raise node.unsupported("exclusive or reverse")
    return x.cumsum(axis)
