"""Where the layers of a run lie on the roofline of the GPU of this machine that ran them; see hwkit.gpu.roofline.

A layer's bound is the time of its multiplications, or of the bytes of its weights and output where that is more;
what it reads beside is not counted. Bytes that the GPU's cache holds may beat it, and so may a float32 convolution
done in Winograd's way.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, ValidationError

from hwkit.artifact import Artifact, Finding, Operator
from hwkit.describe import Frozen
from hwkit.errors import BoardError, HwkitError
from hwkit.gpu.roofline import ELEMENT_BYTES, Layer, Roof, peak_ops_per_s, places
from hwkit.process import run as run_process
from hwkit.runners import OperatorCost, Run
from hwkit.target import GpuPrecision
from hwkit.units import shown

PROVIDERS = ("CUDAExecutionProvider",)      # that run a kernel a layer; TensorRT's makes one node of them all
FILE = "roofline.json"
NAME = "roofline"
MOST_LISTED = 5
PROBE_S = 60.0
_PRECISION: dict[str, GpuPrecision] = {"FLOAT32": "f32", "FLOAT16": "f16", "INT8": "int8"}

# In a process of its own: a process that has called cuInit must not fork. The numbers are of CUdevice_attribute
# (docs.nvidia.com, CUDA driver API): clock in kHz, multiprocessors, memory clock in kHz, width of its bus in bits,
# compute capability. A memory moves two words in a cycle of the clock that the driver names.
PROBE = """
import ctypes, json, sys
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as e:
    raise SystemExit("no NVIDIA driver here (%s)" % str(e).splitlines()[0][:100])
def call(name, *words):
    code = getattr(cuda, name)(*words)
    if code:
        raise SystemExit("%s of the CUDA driver failed with code %d" % (name, code))
call("cuInit", 0)
device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
call("cuDeviceGet", ctypes.byref(device), int(sys.argv[1]))
call("cuDeviceGetName", name, len(name), device)
def get(number):
    value = ctypes.c_int()
    call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
    return value.value
print("probed: " + json.dumps({
    "name": name.value.decode("utf-8", "replace"), "sm": "%d.%d" % (get(75), get(76)), "sms": get(16),
    "clock_hz": 1e3 * get(13), "dram_bytes_per_s": 2e3 * get(36) * get(37) / 8}))
"""


class Gpu(Frozen):
    """A GPU as the CUDA driver describes it, at its usual highest clocks. sm: compute capability, "8.0"."""

    name: str
    sm: str = Field(pattern=r"^\d+\.\d+$")
    sms: int = Field(gt=0)
    clock_hz: float = Field(gt=0)
    dram_bytes_per_s: float = Field(gt=0)

    def text(self) -> str:
        return (f"{self.name} (compute capability {self.sm}, {self.sms} multiprocessors at "
                f"{self.clock_hz / 1e9:.3g} GHz, {shown(self.dram_bytes_per_s, 'bytes')}/s)")


class Position(Frozen):
    """One execution of one layer.

    layer         <stage>/<operator><index>
    ops_per_byte  operations over the bytes of its weights and output
    bound_s       the least it can take; over measured_s, the share of the roof that it reached
    """

    layer: str
    precision: GpuPrecision
    ops_per_byte: float
    limit: Literal["compute-bound", "memory-bound"]
    bound_s: float
    measured_s: float

    @property
    def share(self) -> float:
        return self.bound_s / self.measured_s if self.measured_s else math.inf


def gpu(device: int) -> Gpu:
    """The GPU that the CUDA driver of this machine counts as `device`. Raises BoardError where there is none."""
    try:
        said = run_process([sys.executable, "-c", PROBE, str(device)], timeout_s=PROBE_S,
                           what="the CUDA driver").stdout
        told = next(line.removeprefix("probed: ") for line in said.splitlines() if line.startswith("probed: "))
        return Gpu.model_validate_json(told)
    except HwkitError as e:
        raise BoardError(f"no GPU {device}: {e.message.rpartition('exit code 1: ')[2][-200:]}") from None
    except (StopIteration, ValidationError):
        raise BoardError(f"the CUDA driver does not tell the rates of GPU {device}") from None


def positions(operators: Sequence[Operator], costs: Sequence[OperatorCost], under: Gpu) -> list[Position]:
    """Of every operator that a run costed, in order, those left out that compute on neither floats nor int8."""
    peaks = peak_ops_per_s(under.sm, under.sms, under.clock_hz)
    seconds = {c.index: c.value for c in costs}
    found = []
    for o in operators:
        precision = _PRECISION.get(o.datatype)
        if o.index not in seconds or precision not in peaks:
            continue
        layer = Layer(name=f"{o.stage}/{o.name}{o.index}", macs=o.macs or 0, reads=0,
                      weights=o.weight_bytes // ELEMENT_BYTES[precision], writes=math.prod(o.output_shape))
        (place,) = places([layer], precision, Roof(peaks[precision], under.dram_bytes_per_s))
        found.append(Position(layer=place.name, precision=precision, ops_per_byte=place.ops_per_byte,
                              limit=place.limit, bound_s=place.seconds, measured_s=seconds[o.index]))
    return found


def with_positions(run: Run, artifact: Artifact, device: int) -> Run:
    """The run with its layers' positions: a finding, and roofline.json with all of them."""
    if not run.operator_costs:
        return run
    try:
        under = gpu(device)
    except BoardError as e:
        return _noted(run, f"not known: {e.message}")
    operators = artifact.manifest.built.operators
    found = positions(operators, run.operator_costs, under)
    if not found:
        return _noted(run, f"not known: the peak rates of {under.text()} are not, or no layer of the artifact ran "
                           "as a node of its own")
    listed = {"gpu": under.model_dump(mode="json"), "layers": [p.model_dump(mode="json") for p in found]}
    return _noted(run, _text(found, under)).model_copy(
        update={"files": {**run.files, FILE: json.dumps(listed, indent=1)}})


def _noted(run: Run, text: str) -> Run:
    return run.model_copy(update={"findings": (*run.findings, Finding(name=NAME, ok=None, text=text))})


def _text(found: Sequence[Position], under: Gpu) -> str:
    bound = sum(p.limit == "compute-bound" for p in found)
    dear = sorted(found, key=lambda p: -p.measured_s)[:MOST_LISTED]
    each = "; ".join(f"{p.layer} {100 * p.share:.2g} % ({p.limit}, {p.ops_per_byte:.3g} operations a byte)"
                     for p in dear)
    text = (f"{bound} of {len(found)} layers are compute-bound on {under.text()}; share of the roof that the "
            f"costliest reach, their launch included: {each}")
    if len(found) > len(dear):
        text += f"; all are in {FILE}, beside the raw samples of this run"
    beat = [p.layer for p in found if p.share > 1]
    return text + (f"; above it, from a cache or in Winograd's way: {', '.join(beat)}" if beat else "")
