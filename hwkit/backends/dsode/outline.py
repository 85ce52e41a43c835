"""The network's outline: its convolutions' sizes without their values, enough to plan and to cost a design.

It is an IntegerNetwork full of zeros, so that whatever plans for a real one plans for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwkit.backends.dsode.engine import SHIFT_RANGE
from hwkit.errors import BadModel
from hwkit.integer.separable import Head, IntegerNetwork, OdeBlock, Separable, Stem, Transition
from hwkit.model import Layer, Model, Stage

SUPPORTED = ("a neural-ODE network as nn.Sequential: stem (3x3 convolution), ODE blocks of one or two "
             "depthwise-separable convolutions solved by euler, strided depthwise-separable convolutions between "
             "them, pooling and a linear layer")


def outline(model: Model) -> IntegerNetwork:
    """Raises BadModel naming the stage and the layer that the engine has no place for."""
    if not model.stages:
        raise BadModel(f"{model.name} has no ODE blocks that could be cut out", f"deploy {SUPPORTED}")
    stem_stage, *core_stages, head_stage = model.stages
    stem = _stem(stem_stage)
    core: list[OdeBlock | Transition] = []
    for stage in core_stages:
        convs = _separable(stage)
        if _is_step(stage):
            if len(convs) > 2:
                raise BadModel(f"stage {stage.name}: f has {len(convs)} convolutions, the engine takes one or two",
                               f"deploy {SUPPORTED}")
            core.append(OdeBlock(convs, stage.repeat))
        else:
            core += [Transition(conv) for conv in convs]
    if not any(isinstance(part, OdeBlock) for part in core):
        raise BadModel(f"{model.name} has no ODE block", f"deploy {SUPPORTED}")
    head = _head(head_stage)
    channels, height, width = model.input_shape
    return IntegerNetwork(name=model.name, input_shape=(channels, height, width), stem=stem, core=tuple(core),
                          head=head)


def _is_step(stage: Stage) -> bool:
    """An ODE step keeps its shape; a transition does not, nor does any group of layers between blocks."""
    first, last = stage.layers[0], stage.layers[-1]
    return first.inputs == last.outputs and all(layer.stride == 1 for layer in stage.layers)


def _stem(stage: Stage) -> Stem:
    match stage.layers:
        case [Layer(kind="convolution", kernel=(3, 3), groups=1) as layer]:
            return Stem(np.zeros((layer.outputs, layer.inputs, 3, 3), np.int64), np.zeros(layer.outputs, np.int64),
                        np.zeros(layer.outputs, np.int64), layer.stride, 1.0)
        case _:
            raise BadModel(f"stage {stage.name} is not one full 3x3 convolution: {_listed(stage.layers)}",
                           f"deploy {SUPPORTED}")


def _head(stage: Stage) -> Head:
    match stage.layers:
        case [Layer(kind="linear") as layer]:
            return Head(np.zeros((layer.outputs, layer.inputs), np.int64), np.zeros(layer.outputs, np.int64), 1.0)
        case _:
            raise BadModel(f"stage {stage.name} is not pooling and one linear layer: {_listed(stage.layers)}",
                           f"deploy {SUPPORTED}")


def _separable(stage: Stage) -> tuple[Separable, ...]:
    if len(stage.layers) % 2 or not stage.layers:
        raise BadModel(f"stage {stage.name} is not made of depthwise-separable convolutions: "
                       f"{_listed(stage.layers)}", f"deploy {SUPPORTED}")
    return tuple(_pair(stage, depthwise, pointwise)
                 for depthwise, pointwise in zip(stage.layers[::2], stage.layers[1::2], strict=True))


def _pair(stage: Stage, depthwise: Layer, pointwise: Layer) -> Separable:
    good = (depthwise.kernel == (3, 3) and depthwise.groups == depthwise.inputs == depthwise.outputs
            and pointwise.kernel == (1, 1) and pointwise.groups == 1 and pointwise.stride == 1
            and pointwise.kind == "convolution")
    if not good:
        raise BadModel(f"stage {stage.name}: {_listed((depthwise, pointwise))} is not a depthwise 3x3 convolution "
                       "and a pointwise one", "choose separable=everywhere, or another target")
    # the widest spread of shifts that the engine allows: a forecast must not promise too little
    spread = np.arange(depthwise.inputs) % 2 * SHIFT_RANGE
    return Separable(
        np.zeros((depthwise.inputs, 3, 3), np.int64), np.zeros(depthwise.inputs, np.int64), spread + 3,
        np.zeros((pointwise.outputs, depthwise.inputs), np.int64), np.zeros((1, pointwise.outputs), np.int64),
        np.arange(pointwise.outputs) % 2 * SHIFT_RANGE + 2, depthwise.stride)


def _listed(layers: Sequence[Layer]) -> str:
    """The layers in words."""

    def one(layer: Layer) -> str:
        groups = f" in {layer.groups} groups" if layer.groups > 1 else ""
        kernel = "x".join(map(str, layer.kernel))
        return f"{kernel} {layer.kind} of {layer.inputs} to {layer.outputs} channels{groups}"

    return ", ".join(map(one, layers)) or "no layer"


def sized(channels: int, side: int, shapes: int, convolutions: int, steps: int) -> IntegerNetwork:
    """The outline of a dsodenet with `shapes` ODE blocks, the first of `channels` x `side` x `side`."""

    def conv(inputs: int, outputs: int, stride: int = 1) -> Separable:
        depthwise = Layer(kind="convolution", inputs=inputs, outputs=inputs, kernel=(3, 3), stride=stride,
                          groups=inputs, output_shape=(inputs,))
        pointwise = Layer(kind="convolution", inputs=inputs, outputs=outputs, output_shape=(outputs,))
        return _pair(Stage(name="", path=Path()), depthwise, pointwise)

    core: list[OdeBlock | Transition] = []
    for k in range(shapes):
        width = channels << k
        core.append(OdeBlock(tuple(conv(width, width) for _ in range(convolutions)), steps))
        if k < shapes - 1:
            core.append(Transition(conv(width, 2 * width, 2)))
    stem = Layer(kind="convolution", inputs=1, outputs=channels, kernel=(3, 3),
                 output_shape=(channels, side, side))
    head = Layer(kind="linear", inputs=channels << shapes - 1, outputs=10, output_shape=(10,))
    return IntegerNetwork(name=f"{shapes} stages from {channels}x{side}x{side}", input_shape=(1, side, side),
                          stem=_stem(Stage(name="stem", path=Path(), layers=(stem,))), core=tuple(core),
                          head=_head(Stage(name="head", path=Path(), layers=(head,))))
