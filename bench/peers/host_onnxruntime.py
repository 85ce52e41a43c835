"""onnxruntime's own static quantisation: QDQ, int8 weights a channel, min-max ranges.

    python host_onnxruntime.py FLOAT.onnx INPUTS.npy OUT.onnx {uint8,int8}

INPUTS is float32 (n, C, H, W); the last word is the datatype of the activations. Runs with the peers'
packages only.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

ACTIVATIONS = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
Array = np.ndarray[Any, Any]


class Inputs(CalibrationDataReader):    # type: ignore[misc]
    def __init__(self, images: Array) -> None:
        self.left = iter(images)

    def get_next(self) -> dict[str, Array] | None:
        image = next(self.left, None)
        return None if image is None else {"input": image[None]}


def main(source: str, inputs: str, result: str, activations: str) -> None:
    prepared = result + ".prepared.onnx"
    quant_pre_process(source, prepared)
    quantize_static(prepared, result, Inputs(np.load(inputs, allow_pickle=False)), quant_format=QuantFormat.QDQ,
                    per_channel=True, activation_type=ACTIVATIONS[activations], weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod.MinMax)


if __name__ == "__main__":
    main(*sys.argv[1:])
