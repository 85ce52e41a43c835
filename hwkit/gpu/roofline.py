"""How fast a network can be on a GPU, from what its layers compute and move (Williams et al., CACM 52(4), 2009).

A kernel takes no less than its operations at the GPU's peak rate, nor than its bytes at the memory's. What a real
one takes is more: EFFICIENCY says by how much, and Gpu.kernel_launch_s what a kernel costs beside that. A graph
whose activations TensorRT cannot fuse may take longer than `Times.high`. Convolutions are counted as direct ones:
Winograd's way multiplies less (2.25 times for 3x3), so a float one that computing limits may beat `Times.low`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from hwkit.describe import Interval
from hwkit.target import GpuPrecision, Target

ELEMENT_BYTES: dict[GpuPrecision, int] = {"f32": 4, "f16": 2, "int8": 1}

# Share of its bound's speed at which a kernel of TensorRT runs at batch 1, launch apart. The low ends are the
# largest tenths that explain even the slowest of the networks named.
_TORCH = "github.com/NVIDIA-AI-IOT/torch2trt@4e820ae31b benchmarks"
EFFICIENCY: dict[Literal["tensor cores", "cores"], Interval] = {
    "cores": Interval(
        low=0.4, high=1.0, kind="estimated",
        source=f"float16 on compute capability 5.3: ResNet-18, ResNet-50, VGG-16 and SqueezeNet 1.1 ({_TORCH}); "
               "on 6.2: ResNet-50 (github.com/NVIDIA-AI-IOT/tf_to_trt_image_classification@0aced03dc4 README.md)"),
    "tensor cores": Interval(
        low=0.2, high=1.0, kind="estimated",
        source="float16 on compute capability 7.2: ResNet-18, ResNet-50, VGG-16, MobileNetV2 and SqueezeNet 1.1 "
               f"({_TORCH})"),
}

# Multiply-accumulates a multiprocessor does in a cycle, dense, on tensor cores where there are: f32 (TF32 from 8.0
# on), f16, int8. By compute capability, from NVIDIA's white papers, recalled; 8.7 as derived in its targets.
_PER_CYCLE: dict[str, tuple[int, int, int]] = {
    "5.3": (128, 256, 0), "6.2": (128, 256, 0), "7.0": (64, 512, 256), "7.2": (64, 512, 1024),
    "7.5": (64, 512, 1024), "8.0": (512, 1024, 2048), "8.6": (128, 512, 1024), "8.7": (512, 1024, 2048),
    "8.9": (128, 512, 1024), "9.0": (1024, 2048, 4096), "12.0": (128, 512, 1024),
}


class Layer(NamedTuple):
    """One layer of a network, in elements: one table serves every precision.

    macs      multiply-accumulates
    weights   constants read, without those that a layer before has read already
    reads     elements of its inputs; of a fused one, without the output of the layer before
    writes    elements of its output
    fused     done by the kernel of the layer before (an activation, an addition): it launches none
    """

    name: str
    macs: int
    weights: int
    reads: int
    writes: int
    fused: bool = False


class Roof(NamedTuple):
    """The two rates that bound a kernel, for one precision."""

    ops_per_s: float
    bytes_per_s: float

    @property
    def ridge(self) -> float:
        """Operations a byte at which both rates bind."""
        return self.ops_per_s / self.bytes_per_s

    def seconds(self, ops: float, moved_bytes: float) -> float:
        """The least one kernel can take."""
        return max(ops / self.ops_per_s, moved_bytes / self.bytes_per_s)


class Place(NamedTuple):
    """Where a kernel lies on the roofline.

    ops_per_byte   arithmetic intensity: operations over the bytes that move when no map is in a cache
    seconds        the least it can then take: over the measured time, the share of the roof that was reached
    """

    name: str
    ops_per_byte: float
    limit: Literal["compute-bound", "memory-bound"]
    seconds: float


class Times(NamedTuple):
    """Seconds of one inference: a bound below, the middle of what is likely, and its upper end."""

    low: float
    value: float
    high: float


def peak_ops_per_s(sm: str, sms: int, clock_hz: float) -> dict[GpuPrecision, float]:
    """Peak rates of a GPU by its compute capability ("8.0"); empty for one that is not known here."""
    macs = dict(zip(ELEMENT_BYTES, _PER_CYCLE.get(sm, ()), strict=False))
    return {precision: 2 * per_cycle * sms * clock_hz for precision, per_cycle in macs.items() if per_cycle}


def roof(target: Target, precision: GpuPrecision) -> Roof | None:
    """The target's, in target.gpu.power_mode; None where a rate is not known or there is none for `precision`."""
    rate = target.memories.dram_bytes_per_s
    peak = getattr(target.gpu.peak_ops_per_s, precision) if target.gpu else None
    return Roof(peak.value, rate.value) if peak and rate else None


def kernels(layers: Iterable[Layer]) -> list[Layer]:
    """The layers with each fused one inside the kernel that does it."""
    found: list[Layer] = []
    for layer in layers:
        if layer.fused and found:
            first = found[-1]
            found[-1] = first._replace(macs=first.macs + layer.macs, weights=first.weights + layer.weights,
                                       reads=first.reads + layer.reads, writes=layer.writes)
        else:
            found.append(layer)
    return found


def places(layers: Iterable[Layer], precision: GpuPrecision, under: Roof) -> list[Place]:
    """Every kernel's place."""
    found = []
    for kernel in kernels(layers):
        ops, moved = 2 * kernel.macs, _bytes(kernel, precision)
        intensity = ops / moved if moved else 0.0
        limit: Literal["compute-bound", "memory-bound"] = "memory-bound"
        if intensity >= under.ridge:
            limit = "compute-bound"
        found.append(Place(kernel.name, intensity, limit, under.seconds(ops, moved)))
    return found


def estimate(layers: Sequence[Layer], precision: GpuPrecision, target: Target) -> Times | None:
    """Time of one inference through TensorRT in target.gpu.power_mode; None where figures are missing.

    low    every kernel at its bound, launched together as one, with all that the L2 cache can hold already there
    value  at the geometric means of efficiency and launch
    high   at the least efficiency and the longest launch
    """
    gpu, under = target.gpu, roof(target, precision)
    if gpu is None or under is None or gpu.kernel_launch_s is None:
        return None
    launch, share = gpu.kernel_launch_s, EFFICIENCY["tensor cores" if precision in gpu.tensor_cores else "cores"]
    cache = gpu.l2_bytes.value if gpu.l2_bytes else math.inf
    done = kernels(layers)

    def whole(cached: float) -> float:
        return sum(under.seconds(2 * k.macs, _bytes(k, precision, cached)) for k in done)

    # of the weights, no more than the cache holds stays there until the next inference
    kept = min(cache, ELEMENT_BYTES[precision] * sum(k.weights for k in done))
    computing = under.seconds(sum(2 * k.macs for k in done), 0)
    middle, launched = math.sqrt(share.low * share.high), math.sqrt(launch.low * launch.high)
    return Times(low=launch.low + max(computing, whole(cache) - kept / under.bytes_per_s),
                 value=whole(0) / middle + len(done) * launched,
                 high=whole(0) / share.low + len(done) * launch.high)


def _bytes(kernel: Layer, precision: GpuPrecision, cached: float = 0.0) -> float:
    """What it moves when so many bytes of each of its maps are in the cache."""
    size = ELEMENT_BYTES[precision]
    return size * kernel.weights + sum(max(0.0, size * n - cached) for n in (kernel.reads, kernel.writes))
