"""The peers on a CUDA GPU, each as its documentation shows it: torch.compile, and onnxruntime's CUDA provider.

    python bare_cuda.py FILE.pt2|FILE.onnx INPUT.npy SECONDS

Prints the median of an inference in seconds, from an array of the host to an array of the host. It needs torch or
onnxruntime and numpy, not hwkit; where they have no CUDA it says so and ends with exit code 3.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

CUDA = "CUDAExecutionProvider"
WARMUP, LEAST = 20, 30


class NoCuda(Exception):
    """Why the peer cannot be measured."""


def compiled(file: str, x: Any) -> Callable[[], Any]:
    """torch.compile in the mode that looks longest for fast kernels and replays CUDA graphs."""
    try:
        import torch
        from torch.export.passes import move_to_device_pass
    except ImportError as e:
        raise NoCuda(f"this interpreter cannot import torch ({e})") from None
    if not torch.cuda.is_available():
        raise NoCuda(f"torch {torch.__version__} of this interpreter has no CUDA")
    module = move_to_device_pass(torch.export.load(file), "cuda").module()
    fast = torch.compile(module, mode="max-autotune")

    def infer() -> Any:
        with torch.no_grad():
            return fast(torch.from_numpy(x).to("cuda")).cpu().numpy()

    return infer


def provided(file: str, x: Any) -> Callable[[], Any]:
    try:
        import onnxruntime
    except ImportError as e:
        raise NoCuda(f"this interpreter cannot import onnxruntime ({e})") from None
    if CUDA not in onnxruntime.get_available_providers():
        raise NoCuda(f"onnxruntime {onnxruntime.__version__} of this interpreter has no {CUDA}")
    session = onnxruntime.InferenceSession(file, providers=[CUDA, "CPUExecutionProvider"])
    if CUDA not in session.get_providers():
        raise NoCuda(f"{CUDA} did not load")
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})[0]


def measure(infer: Callable[[], Any], seconds: float) -> float:
    for _ in range(WARMUP):
        infer()
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < LEAST:
        start = time.perf_counter()
        infer()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def main(file: str, inputs: str, seconds: str) -> int:
    x = np.load(inputs, allow_pickle=False)
    try:
        infer = (compiled if file.endswith(".pt2") else provided)(file, x)
    except NoCuda as e:
        print(f"none: {e}", flush=True)
        return 3
    print(f"median: {measure(infer, float(seconds))!r}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
