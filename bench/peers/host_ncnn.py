"""int8 for ncnn, in the form that its ncnn2table and ncnn2int8 write; those programs are in no wheel.

    python host_ncnn.py FLOAT INPUTS.npy OUT        (names of .param and .bin files, without the ending)

One scale a channel for weights, one a tensor for what a convolution reads; a convolution that only feeds
convolutions hands on int8. Ranges are the largest magnitudes seen: ncnn2table's own Kullback-Leibler ranges
take the same instructions and gave errors 2 to 14 times as large on these networks. Layouts: ncnn's
docs/developer-guide/operators.md and src/layer/convolution.cpp.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

Array = np.ndarray[Any, Any]

INT8_DATA = 0x000D4B38     # tag before int8 weights; 0 stands before float32 ones
CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")


class Layer:
    """A line of a .param file: its type, name, tensors in and out, and key=value parameters."""

    def __init__(self, line: str) -> None:
        words = line.split()
        self.type, self.name = words[:2]
        ins, outs = int(words[2]), int(words[3])
        self.bottoms, self.tops = words[4:4 + ins], words[4 + ins:4 + ins + outs]
        self.parameters = dict(word.split("=") for word in words[4 + ins + outs:])

    def number(self, key: int) -> int:
        return int(self.parameters.get(str(key), 0))

    @property
    def quantized(self) -> bool:
        return self.type in (*CONVOLUTIONS, "InnerProduct")

    def line(self) -> str:
        given = [f"{key}={value}" for key, value in self.parameters.items()]
        return " ".join([self.type, self.name, str(len(self.bottoms)), str(len(self.tops)),
                         *self.bottoms, *self.tops, *given])


def scales(source: str, tensors: Sequence[str], images: Array) -> dict[str, float]:
    """Tensor -> 127 / largest magnitude seen."""
    net = ncnn.Net()
    net.opt.use_vulkan_compute = net.opt.lightmode = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(source + ".param")
    net.load_model(source + ".bin")
    entry = net.input_names()[0]
    largest = dict.fromkeys(tensors, 1e-9)
    for image in images:
        extractor = net.create_extractor()
        extractor.set_light_mode(False)
        extractor.input(entry, ncnn.Mat(np.ascontiguousarray(image)).clone())
        for tensor in tensors:
            value = image if tensor == entry else np.array(extractor.extract(tensor)[1])
            largest[tensor] = max(largest[tensor], float(np.abs(value).max()))
    return {tensor: 127.0 / magnitude for tensor, magnitude in largest.items()}


def next_scale(layer: Layer, readers: Mapping[str, list[Layer]], scale: Mapping[str, float]) -> float | None:
    """Scale of the int8 this convolution hands on, None where anything else than convolutions reads it."""
    follows = readers.get(layer.tops[0], [])
    if len(follows) == 1 and follows[0].type == "Split":
        follows = [reader for top in follows[0].tops for reader in readers[top]]
    if layer.type in CONVOLUTIONS and follows and all(f.type in CONVOLUTIONS for f in follows):
        return scale[follows[0].bottoms[0]]
    return None


def quantized(layer: Layer, raw: bytes, offset: int, scale: float, handed_on: float | None) -> tuple[bytes, int]:
    """The layer's int8 data, and where its float data ends; its parameters are changed to fit."""
    dense = layer.type == "InnerProduct"
    outputs, biased, size = layer.number(0), layer.number(1 if dense else 5), layer.number(2 if dense else 6)
    if np.frombuffer(raw, np.uint32, 1, offset)[0] != 0:
        raise SystemExit(f"{layer.name}: weights are not float32")
    weights = np.frombuffer(raw, np.float32, size, offset + 4)
    bias = np.frombuffer(raw, np.float32, outputs * biased, offset + 4 + 4 * size)
    rows = weights.reshape(layer.number(7) if layer.type == "ConvolutionDepthWise" else outputs, -1)
    factors = (127.0 / np.maximum(np.abs(rows).max(axis=1), 1e-9)).astype(np.float32)
    scaled = rows * factors[:, None]
    whole = np.clip(np.sign(scaled) * np.floor(np.abs(scaled) + 0.5), -127, 127).astype(np.int8).tobytes()
    parts = [np.uint32(INT8_DATA).tobytes(), whole, bytes(-len(whole) % 4), bias.tobytes(), factors.tobytes(),
             np.float32(scale).tobytes()]
    term = 1 if layer.type == "ConvolutionDepthWise" else 2
    if handed_on is not None:
        parts.append(np.float32(handed_on).tobytes())
        term += 100
    layer.parameters["8"] = str(term)
    return b"".join(parts), offset + 4 + 4 * size + 4 * outputs * biased


def main(source: str, inputs: str, result: str) -> None:
    magic, counts, *lines = Path(source + ".param").read_text().splitlines()
    layers = [Layer(line) for line in lines if line.strip()]
    readers: dict[str, list[Layer]] = {}
    for layer in layers:
        for bottom in layer.bottoms:
            readers.setdefault(bottom, []).append(layer)
    tensors = sorted({layer.bottoms[0] for layer in layers if layer.quantized})
    scale = scales(source, tensors, np.load(inputs, allow_pickle=False))
    raw, offset = Path(source + ".bin").read_bytes(), 0
    data = []
    for layer in layers:
        if layer.quantized:
            content, offset = quantized(layer, raw, offset, scale[layer.bottoms[0]],
                                        next_scale(layer, readers, scale))
            data.append(content)
    if offset != len(raw):
        raise SystemExit(f"{len(raw) - offset} bytes of weights belong to layers that are not known here")
    Path(result + ".param").write_text("\n".join([magic, counts, *(layer.line() for layer in layers)]) + "\n")
    Path(result + ".bin").write_bytes(b"".join(data))


if __name__ == "__main__":
    main(*sys.argv[1:])
