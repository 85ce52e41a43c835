"""MNN's converter and offline quantiser.

    python host_mnn.py convert FLOAT.onnx OUT.mnn
    python host_mnn.py quantize FLOAT.mnn INPUTS.npy OUT.mnn {KL,EMA}

The entry points are called directly: the console scripts around them install a package and report their
use, and the one around the quantiser hands its arguments over in a form that aborts.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

import _tools
import numpy as np

BATCH = 8


def convert(source: str, result: str) -> None:
    _tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", source, "--MNNModel", result,
                       "--bizCode", "bench"])


def quantize(source: str, inputs: str, result: str, method: str) -> None:
    images = np.load(inputs, allow_pickle=False)
    with tempfile.TemporaryDirectory() as folder:
        shape = [1, *images.shape[1:]]
        for k, image in enumerate(images):
            sample = os.path.join(folder, f"{k:04d}")
            os.mkdir(sample)
            np.savetxt(os.path.join(sample, "input.txt"), image.reshape(1, -1), fmt="%.7g")
            with open(os.path.join(sample, "input.json"), "w") as f:
                json.dump({"inputs": [{"name": "input", "shape": shape}], "outputs": ["output"]}, f)
        config = {"path": folder, "used_sample_num": len(images), "input_type": "sequence", "quant_bits": 8,
                  "feature_quantize_method": method, "weight_quantize_method": "MAX_ABS", "batch_size": BATCH,
                  "width": shape[3], "height": shape[2], "inputs": [{"name": "input", "shape": shape}]}
        with open(result + ".json", "w") as f:
            json.dump(config, f)
        _tools.mnnquant(["mnnquant", source, result, result + ".json"])


if __name__ == "__main__":
    if sys.argv[1] == "convert":
        convert(*sys.argv[2:])
    else:
        quantize(*sys.argv[2:])
