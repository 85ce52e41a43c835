"""The peer: torch's own ONNX file under onnxruntime as its documentation shows it.

    python bare_onnxruntime.py FILE.onnx SECONDS        prints the median of an inference in seconds
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from pathlib import Path

BARE = Path(__file__).resolve()


def exported(name: str, folder: Path) -> Path:
    """A zoo network as torch.onnx.export writes it by default."""
    import logging

    import torch

    from hwkit import zoo

    network = zoo.network(name)
    path = folder / f"{name}-bare.onnx"
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.module.eval(), (torch.randn(1, *network.input_shape),), path, dynamo=True,
                          verbose=False)
    return path


def measure(file: str, seconds: float) -> float:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    inputs = {given.name: np.random.default_rng(0).standard_normal(given.shape).astype(np.float32)}
    for _ in range(5):
        session.run(None, inputs)
    samples = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < 30:
        start = time.perf_counter()
        session.run(None, inputs)
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


if __name__ == "__main__":
    print(measure(sys.argv[1], float(sys.argv[2])))
