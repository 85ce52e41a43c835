"""The networks all runtimes are given, as files each of them can read, with inputs and torch's own outputs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NETWORKS = ("resnet8", "mobilenet_v2", "dsodenet")
CALIBRATION = 64
COMPARED = 8
SEED = 0
_PHOTOGRAPHS = "imagenet20"     # for networks that are shipped untrained
OPSET = 17


@dataclass(frozen=True)
class Given:
    """One network in `folder`.

    onnx, torchscript   float32, batch 1, channels first, BatchNorm not folded: each converter does its own
    data                .npz for hwkit: 'calibration' and 'images', float32 (n, C, H, W)
    images, expected    what errors are taken over: (n, C, H, W) and torch's (n, classes)
    source              which weights and which inputs
    """

    name: str
    folder: Path
    onnx: Path
    torchscript: Path
    data: Path
    calibration: NDArray[np.float32]
    images: NDArray[np.float32]
    expected: NDArray[np.float32]
    source: str


def given(name: str, folder: Path) -> Given:
    """Export a zoo network into `folder`."""
    import torch

    from hwkit import zoo

    network = zoo.network(name)
    dataset = network.dataset or zoo.source(name).DATASET or _PHOTOGRAPHS
    calibration, images = _inputs(dataset)
    onnx, script, data = folder / f"{name}.onnx", folder / f"{name}.pt", folder / f"{name}.npz"
    one = torch.from_numpy(images[:1])
    torch.set_num_threads(1)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")      # both exporters are deprecated, and what the peers read
        expected = network.module(torch.from_numpy(images)).numpy()
        torch.onnx.export(network.module, (one,), onnx, input_names=["input"], output_names=["output"],
                          opset_version=OPSET, dynamo=False)
        trace: Any = torch.jit.trace
        trace(network.module, one).save(str(script))
    np.savez(data, calibration=calibration, images=images)
    return Given(name=name, folder=folder, onnx=onnx, torchscript=script, data=data, calibration=calibration,
                 images=images, expected=expected,
                 source=f"Weights: {network.history[0]}. Inputs: {dataset}, {len(calibration)} to calibrate, "
                        f"{len(images)} others to compare")


def _inputs(dataset: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Images to calibrate with, from the train split where there is one, and others to compare on."""
    from hwkit import datasets

    test = _shuffled(datasets.load(dataset, "test").images)
    compared, rest = test[:COMPARED], test[COMPARED:]
    if datasets.info(dataset).train:
        rest = _shuffled(datasets.load(dataset, "train").images)
    return rest[:CALIBRATION], compared


def _shuffled(images: NDArray[np.float32]) -> NDArray[np.float32]:
    chosen = np.random.RandomState(SEED).permutation(len(images))[:CALIBRATION + COMPARED]
    return np.ascontiguousarray(images[chosen], dtype=np.float32)
