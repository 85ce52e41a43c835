"""Model: a file that a backend can compile, and what is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hwkit.describe import Frozen

Format = Literal["pt2", "onnx", "tflite", "qonnx"]


class Layer(Frozen):
    """One layer with weights, as much of it as a forecast needs.

    kernel   of a convolution, (1, 1) of a linear layer;  output_shape: of one sample
    """

    kind: Literal["convolution", "linear"]
    inputs: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    groups: int = 1
    output_shape: tuple[int, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one execution."""
        pixels = 1
        for n in self.output_shape[1:]:
            pixels *= n
        return pixels * self.outputs * self.inputs // self.groups * self.kernel[0] * self.kernel[1]


class Stage(Frozen):
    """One piece of a network that is run `repeat` times in a row.

    A neural-ODE block is its single step with repeat = N. `times` holds t of every repeat when the
    step depends on time; it is then the step's second input, float32 of shape (1,). `layers` are those with
    weights, in the order of one execution.
    """

    name: str
    path: Path
    repeat: int = 1
    times: tuple[float, ...] | None = None
    layers: tuple[Layer, ...] = ()


class Model(Frozen):
    """What every source (zoo name, .pt2, factory, .onnx, Keras, .tflite) is brought to.

    input_shape      one sample without batch, as the file takes it: (C, H, W) for .pt2, ONNX and
                     QONNX, (H, W, C) for .tflite images
    onnx             the user's own ONNX file with fixed shapes and all its data, where the model came from one
    opset            of that file
    not_torch        why such a file could not be rebuilt in torch; it is then `path` itself, format "onnx"
    stages           the same network cut at its ODE blocks, empty when it has none
    dataset          name of a data set with real inputs and labels for it, if known
    data             the user's own inputs, an .npz (see hwkit.samples); goes before `dataset`
    quantized        the integer network already made of these weights (hwkit.integer.separable), if there is one
    parameter_bytes  distinct parameters and buffers as float32, each shared one counted once
    history          what was done to it, oldest first
    """

    name: str
    path: Path
    format: Format
    input_shape: tuple[int, ...]
    onnx: Path | None = None
    opset: int | None = None
    not_torch: str = ""
    stages: tuple[Stage, ...] = ()
    dataset: str | None = None
    data: Path | None = None
    quantized: Path | None = None
    parameters: int | None = None
    parameter_bytes: int | None = None
    history: tuple[str, ...] = ()

    @property
    def format_and_why(self) -> str:
        """For a backend that does not take the format: its name, and why the model has no other."""
        return f"{self.format}: {self.not_torch}" if self.not_torch else self.format

    def files(self) -> list[Path]:
        """Every file it consists of."""
        found = [self.path, *(stage.path for stage in self.stages)]
        return found + [path for path in (self.onnx, self.data, self.quantized) if path is not None]

    def placed(self, root: Path) -> Model:
        """With its relative paths below `root`."""
        stages = tuple(stage.model_copy(update={"path": root / stage.path}) for stage in self.stages)
        others = {key: root / path for key in ("path", "onnx", "data", "quantized")
                  if (path := getattr(self, key)) is not None}
        return self.model_copy(update={**others, "stages": stages})
