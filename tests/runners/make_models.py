"""Make the small .tflite models that the runner tests execute: python make_models.py FOLDER.

A program of its own, because the conversion libraries are slow to import and warn.

    cnn_f32, cnn_int8    a classifier of (8, 8, 3) inputs
    stem, step, head     the same kind of network cut at a block that is repeated; step takes t as second input
    stem_int8, head_int8 ends of it in int8, quantised apart, so that their scales do not agree
    dense_f32            one big matrix: 4 MB of weights
    expected.npz         torch's outputs for inputs.npy: cnn, and the stepped network for `times`
"""

from __future__ import annotations

import sys
from pathlib import Path

import litert_torch
import numpy as np
import torch
from ai_edge_quantizer import quantizer, recipe
from torch import nn

TIMES = (0.0, 0.25, 0.5)
N = 6


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(),
                                  nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.ReLU(),
                                  nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x))


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x + 0.25 * torch.relu(self.conv(x) + t)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.mean((2, 3)))


def export(module: nn.Module, path: Path, *inputs: torch.Tensor, args: tuple[int, ...] = (0,),
           outputs: tuple[int, ...] = ()) -> None:
    """Channels-last in (and out where the output is a map)."""
    nhwc = [x.permute(0, 2, 3, 1).contiguous() if k in args else x for k, x in enumerate(inputs)]
    kept = litert_torch.to_channel_last_io(module.eval(), args=list(args), outputs=list(outputs))
    litert_torch.convert(kept, tuple(nhwc)).export(str(path))


def to_int8(source: Path, target: Path, values: np.ndarray) -> None:
    from ai_edge_litert.interpreter import Interpreter

    key, signature = next(iter(Interpreter(str(source)).get_signature_list().items()))
    quantizing = quantizer.Quantizer(str(source))
    quantizing.load_quantization_recipe(recipe.static_wi8_ai8())
    found = quantizing.calibrate({key: [{signature["inputs"][0]: v[None]} for v in values]})
    quantizing.quantize(found).export_model(str(target), overwrite=True)


def main(folder: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    inputs = torch.randn(N, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    nhwc = inputs.permute(0, 2, 3, 1).contiguous().numpy()
    np.save(folder / "inputs.npy", nhwc)
    one = inputs[:1]
    cnn, stem, step, head = Cnn(), Stem(), Step(), Head()
    with torch.no_grad():
        maps = stem(inputs)
        state = maps
        for t in TIMES:
            state = step(state, torch.tensor([t]))
        np.savez(folder / "expected.npz", cnn=cnn(inputs).numpy(), stepped=head(state).numpy(),
                 ends=head(maps).numpy())
    export(cnn, folder / "cnn_f32.tflite", one)
    export(stem, folder / "stem.tflite", one, outputs=(0,))
    export(step, folder / "step.tflite", maps[:1], torch.tensor([0.5]), outputs=(0,))
    export(head, folder / "head.tflite", maps[:1])
    to_int8(folder / "cnn_f32.tflite", folder / "cnn_int8.tflite", nhwc)
    to_int8(folder / "stem.tflite", folder / "stem_int8.tflite", nhwc)
    # calibrated on other values than the stem gives, so that its input scale differs from the stem's output
    to_int8(folder / "head.tflite", folder / "head_int8.tflite",
            2 * maps.permute(0, 2, 3, 1).contiguous().numpy())
    dense = nn.Linear(1024, 1024)
    litert_torch.convert(dense.eval(), (torch.randn(1, 1024),)).export(str(folder / "dense_f32.tflite"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
