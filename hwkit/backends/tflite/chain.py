"""Run the stages of an artifact one after another, as a board does.

A stage that repeats is invoked again on its own output; integer values go from one stage to the next as
they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from hwkit.errors import BadModel

Kernels = Literal["xnnpack", "builtin", "reference"]
_RESOLVERS = {"xnnpack": OpResolverType.BUILTIN, "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
              "reference": OpResolverType.BUILTIN_REF}


def interpreter(content: bytes, kernels: Kernels = "xnnpack") -> Any:
    """An allocated interpreter, one thread. Raises BadModel when the runtime refuses the file."""
    try:
        made = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=_RESOLVERS[kernels])
        made.allocate_tensors()
    except (RuntimeError, ValueError) as e:
        raise BadModel(f"the TFLite runtime refuses the file: {' '.join(str(e).split()):.300}",
                       "export it again for TFLite builtin operators, without custom ones") from None
    return made


def to_raw(values: NDArray[np.float32], detail: dict[str, Any]) -> NDArray[Any]:
    """Float values in a tensor's own datatype: round half to even, saturate. float32 stays as it is."""
    dtype = np.dtype(detail["dtype"])
    scale, zero_point = detail["quantization"]
    if dtype.kind == "f":
        return values.astype(dtype)
    if scale == 0.0:
        return values.astype(dtype)   # an integer tensor that stands for itself
    limits = np.iinfo(dtype)
    rounded = np.round(values / np.float32(scale)) + zero_point
    raw: NDArray[Any] = np.clip(rounded, limits.min, limits.max).astype(dtype)
    return raw


def to_float(raw: NDArray[Any], detail: dict[str, Any]) -> NDArray[np.float32]:
    """The real values that a tensor's raw ones stand for."""
    scale, zero_point = detail["quantization"]
    if raw.dtype.kind == "f" or scale == 0.0:
        return raw.astype(np.float32)
    return (raw.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


@dataclass(frozen=True)
class Part:
    """One stage: the bytes of its file, how often it runs, and t of each run if it takes the time."""

    content: bytes
    repeat: int = 1
    times: tuple[float, ...] | None = None


class Chain:
    """Allocated stages of one network."""

    def __init__(self, parts: Sequence[Part], kernels: Kernels = "xnnpack") -> None:
        self.parts = list(parts)
        self.runtimes = [interpreter(part.content, kernels) for part in parts]
        self.first = self.runtimes[0].get_input_details()[0]
        self.last = self.runtimes[-1].get_output_details()[0]
        self._times = [self._prepared(part, runtime) for part, runtime in zip(parts, self.runtimes, strict=True)]

    @staticmethod
    def _prepared(part: Part, runtime: Any) -> list[NDArray[Any]] | None:
        """t of every run, in the datatype of the stage's second input."""
        if part.times is None:
            return None
        detail = runtime.get_input_details()[1]
        return [to_raw(np.array([t], np.float32), detail) for t in part.times]

    def raw(self, value: NDArray[Any]) -> NDArray[Any]:
        """Output of the network for one input (1, *shape), both in the artifact's own datatypes."""
        for part, runtime, times in zip(self.parts, self.runtimes, self._times, strict=True):
            inputs, output = runtime.get_input_details(), runtime.get_output_details()[0]["index"]
            for k in range(part.repeat):
                runtime.set_tensor(inputs[0]["index"], value)
                if times is not None:
                    runtime.set_tensor(inputs[1]["index"], times[k])
                runtime.invoke()
                value = runtime.get_tensor(output)
        return value

    def quantized(self, value: NDArray[np.float32]) -> NDArray[Any]:
        """One float input in the datatype the artifact takes."""
        return to_raw(value, self.first)

    def __call__(self, value: NDArray[np.float32]) -> NDArray[np.float32]:
        """Output for one float input (1, *shape), as real values."""
        return to_float(self.raw(self.quantized(value)), self.last)
