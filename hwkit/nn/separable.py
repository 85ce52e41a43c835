"""Depthwise-separable neural-ODE networks, read out of exported stages into plain tensors.

    stem          3x3 convolution, bias, ReLU
    ODE step      z + f(z), f of one or two separable convolutions with a ReLU between them; run N times
    transition    separable convolution, bias, ReLU
    head          mean over the image, linear layer

This is the shape of network that hwkit.integer.separable computes in integers. BatchNorm and the step length h
must be folded into the convolutions; `extract` does so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from hwkit.errors import BadModel
from hwkit.nn import ode, program

if TYPE_CHECKING:
    from hwkit.model import Stage
    from hwkit.nn._chain import Op

SUPPORTED = ("an ODE network of a 3x3 stem with ReLU, ODE blocks of one or two depthwise-separable convolutions, "
             "separable convolutions with ReLU between them, and a mean-pool + linear head")
Watch = Callable[[str, torch.Tensor], None]


@dataclass(frozen=True, eq=False)
class FloatConv:
    """A 3x3 depthwise convolution (padding 1) and a pointwise one.

    depthwise (I, 3, 3), depthwise_bias (I,), pointwise (O, I), pointwise_bias (O,); float64
    """

    depthwise: torch.Tensor
    depthwise_bias: torch.Tensor
    pointwise: torch.Tensor
    pointwise_bias: torch.Tensor
    stride: int = 1

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        """(n, I, H, W) -> (n, I, H', W'), what the depthwise half gives."""
        return F.conv2d(x, self.depthwise[:, None].to(x.dtype), self.depthwise_bias.to(x.dtype), self.stride, 1,
                        groups=len(self.depthwise))

    def outer(self, inner: torch.Tensor) -> torch.Tensor:
        """(n, I, H', W') -> (n, O, H', W')."""
        weight, bias = self.pointwise[:, :, None, None], self.pointwise_bias
        return F.conv2d(inner, weight.to(inner.dtype), bias.to(inner.dtype))


@dataclass(frozen=True, eq=False)
class FloatOde:
    """`steps` times z + f(z); h is inside f's last convolution."""

    convolutions: tuple[FloatConv, ...]
    steps: int


@dataclass(frozen=True, eq=False)
class FloatTransition:
    """relu(convolution(z))."""

    convolution: FloatConv


@dataclass(frozen=True, eq=False)
class FloatStem:
    """relu of a 3x3 convolution (padding 1): weights (O, I, 3, 3), bias (O,)."""

    weights: torch.Tensor
    bias: torch.Tensor
    stride: int


@dataclass(frozen=True, eq=False)
class FloatHead:
    """Mean over the image, then weights (classes, C) and bias (classes,)."""

    weights: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True, eq=False)
class FloatSeparable:
    """The whole network; images are (n, *input_shape)."""

    name: str
    input_shape: tuple[int, int, int]
    stem: FloatStem
    core: tuple[FloatOde | FloatTransition, ...]
    head: FloatHead

    def __call__(self, images: torch.Tensor, watch: Watch | None = None) -> torch.Tensor:
        """(n, C, H, W) -> (n, classes), in the images' datatype.

        `watch(name, value)` sees "state<k>" (the k-th group of channels, which changes at each transition),
        "<conv>.in" and "<conv>.inner" of each convolution and "<conv>.out" of those inside f.
        """
        seen = watch or (lambda name, value: None)
        z = F.relu(F.conv2d(images, self.stem.weights.to(images.dtype), self.stem.bias.to(images.dtype),
                            self.stem.stride, 1))
        group = 0
        seen("state0", z)
        names = iter(name for name, _ in self.convolutions())
        for part in self.core:
            if isinstance(part, FloatTransition):
                z = F.relu(_run(next(names), part.convolution, z, seen))
                group += 1
                seen(f"state{group}", z)
                continue
            own = [next(names) for _ in part.convolutions]
            for _ in range(part.steps):
                value = z
                for name, conv in zip(own[:-1], part.convolutions, strict=False):
                    value = F.relu(_run(name, conv, value, seen))
                    seen(f"{name}.out", value)
                z = z + _run(own[-1], part.convolutions[-1], value, seen)
                seen(f"state{group}", z)
        return F.linear(z.mean((2, 3)), self.head.weights.to(z.dtype), self.head.bias.to(z.dtype))

    def convolutions(self) -> Iterator[tuple[str, FloatConv]]:
        """Every separable convolution, named as hwkit.integer.separable.convolutions does."""
        blocks = downs = 0
        for part in self.core:
            if isinstance(part, FloatOde):
                blocks += 1
                yield from ((f"ode{blocks}.conv{k}", conv) for k, conv in enumerate(part.convolutions, 1))
            else:
                downs += 1
                yield f"down{downs}", part.convolution


def _run(name: str, conv: FloatConv, x: torch.Tensor, seen: Watch) -> torch.Tensor:
    seen(f"{name}.in", x)
    inner = conv.inner(x)
    seen(f"{name}.inner", inner)
    return conv.outer(inner)


def extract(stages: Sequence[Stage], name: str, input_shape: tuple[int, ...]) -> FloatSeparable:
    """Read a network out of its exported stages.

    Raises BadModel that names the stage, the node and its operator where the network is of another shape.
    """
    if len(input_shape) != 3:
        raise BadModel(f"{name} takes inputs of shape {input_shape}, not images (channels, height, width)",
                       f"deploy {SUPPORTED}")
    if not stages:
        raise BadModel(f"{name} has no ODE blocks that were cut out", f"deploy {SUPPORTED}")
    channels, height, width = input_shape
    reading = _Reading(name)
    for stage in stages:
        if stage.times is not None:
            reading.refuse_time(stage)
        reading.stage(stage)
    return reading.finished((channels, height, width))


def from_module(module: torch.nn.Module, name: str, input_shape: tuple[int, ...]) -> FloatSeparable:
    """Read a network in eval mode out of a torch module, by way of exported stages. Raises BadModel."""
    from hwkit.model import Stage

    found = []
    z = torch.zeros(1, *input_shape)
    with tempfile.TemporaryDirectory(prefix="hwkit-stages-") as scratch, torch.no_grad():
        for k, piece in enumerate(ode.stages(module)):
            inputs = (z,) if piece.times is None else (z, torch.zeros(1))
            path = Path(scratch) / f"{k}.pt2"
            torch.export.save(torch.export.export(piece.module, inputs, strict=False), path)
            found.append(Stage(name=piece.name, path=path, repeat=piece.repeat, times=piece.times))
            z = piece(z)
        return extract(found, name, input_shape)


class _Reading:
    """Stages one after another; what was found so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stem: FloatStem | None = None
        self.core: list[FloatOde | FloatTransition] = []
        self.head: FloatHead | None = None
        self.last = ""

    def stage(self, stage: Stage) -> None:
        from hwkit.nn._chain import chain

        loaded, _ = program.load(stage.path, stage.name, 1).folded()
        found = chain(loaded)
        self.last = stage.name
        if found.residual is not None:
            if self.stem is None or self.head is not None:
                raise found.residual.refused("stands before the stem or after the head", SUPPORTED)
            self.core.append(FloatOde(self._f(found.ops, found.residual), stage.repeat))
            return
        if stage.repeat != 1:
            raise BadModel(f"stage {stage.name} is run {stage.repeat} times but does not end in z + f(z)",
                           "use Euler's method, or no ODE block")
        rest = list(found.ops)
        while rest:
            rest = self._layer(rest)

    def _layer(self, ops: list[Op]) -> list[Op]:
        """Take one layer from the front; gives the rest."""
        first = ops[0]
        if self.head is not None:
            raise first.refused("comes after the head", SUPPORTED)
        if self.stem is None:
            first.expect("conv3x3", "where the stem's 3x3 convolution should be")
            _next(ops, 1, "relu", "the stem's convolution")
            self.stem = FloatStem(first.weight, first.bias, first.stride)
            return ops[2:]
        if first.kind == "depthwise":
            _next(ops, 1, "pointwise", "a depthwise convolution")
            _next(ops, 2, "relu", "a separable convolution between ODE blocks")
            self.core.append(FloatTransition(_joined(first, ops[1])))
            return ops[3:]
        first.expect("pool", "where a depthwise convolution, or the head's mean over the image, should be")
        linear = next((k for k, op in enumerate(ops) if k and op.kind != "flatten"), len(ops))
        _next(ops, linear, "linear", "the mean over the image")
        self.head = FloatHead(ops[linear].weight, ops[linear].bias)
        return ops[linear + 1:]

    def _f(self, ops: Sequence[Op], residual: Op) -> tuple[FloatConv, ...]:
        wanted = ["depthwise", "pointwise"] if len(ops) <= 2 else ["depthwise", "pointwise", "relu"] * 2
        for op, kind in zip(ops, wanted, strict=False):
            op.expect(kind, "in the function of an ODE step")
        if len(ops) not in (2, 5):
            extra = ops[5] if len(ops) > 5 else residual
            raise extra.refused(f"ends a function of {len(ops)} operators; it may have 2 (depthwise, pointwise) "
                                "or 5 (with a ReLU and a second pair)", SUPPORTED)
        return tuple(_joined(ops[k], ops[k + 1]) for k in range(0, len(ops), 3))

    def refuse_time(self, stage: Stage) -> None:
        loaded, _ = program.load(stage.path, stage.name, 2).folded()
        time = [n for n in loaded.module.graph.nodes if n.op == "placeholder"][1]
        reader = next(iter(time.users), time)
        raise BadModel(f"stage {stage.name}: {reader.name} ({reader.target}) reads the time, and the on-chip step "
                       "has none", "train the network without a time channel (time_channel=false)")

    def finished(self, input_shape: tuple[int, int, int]) -> FloatSeparable:
        if self.stem is None or self.head is None:
            missing = "stem" if self.stem is None else "head"
            raise BadModel(f"{self.name} has no {missing}: it ends with stage {self.last}", f"deploy {SUPPORTED}")
        if not any(isinstance(part, FloatOde) for part in self.core):
            raise BadModel(f"{self.name} has no ODE step z + f(z)", f"deploy {SUPPORTED}")
        return FloatSeparable(self.name, input_shape, self.stem, tuple(self.core), self.head)


def _next(ops: list[Op], at: int, kind: str, after: str) -> None:
    if at >= len(ops):
        raise ops[-1].refused(f"ends its stage where a {kind} should follow {after}", SUPPORTED)
    ops[at].expect(kind, f"where a {kind} should follow {after}")


def _joined(depthwise: Op, pointwise: Op) -> FloatConv:
    return FloatConv(depthwise.weight[:, 0], depthwise.bias, pointwise.weight[:, :, 0, 0], pointwise.bias,
                     depthwise.stride)
