"""Target: what the compiler may use. Data, in targets/<name>/target.toml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hwkit.data import descriptions
from hwkit.describe import Figure, Frozen, Interval, Kind, Name, NonEmpty, load_named
from hwkit.measurement import RESOURCES, Resource
from hwkit.memory import Capacity

MACHINES = {"armv8": "aarch64", "armv7": "armv7l"}
Share = Annotated[float, Field(gt=0, le=1)]
Bits = Annotated[int, Field(gt=0, multiple_of=8)]
Capability = Annotated[str, Field(pattern=r"^\d+\.\d+$")]
GpuPrecision = Literal["f32", "f16", "int8"]


class Cpu(Frozen):
    """The cores the network runs on."""

    core: Name                               # e.g. cortex-a72
    isa: Name                                # e.g. armv8-a
    cores: int
    clock_hz: Figure
    features: tuple[Name, ...] = ()          # as in /proc/cpuinfo: asimd, atomics, asimddp ...
    instructions_per_cycle: Interval | None = None   # sustained, one core, on neural-network kernels

    @property
    def machine(self) -> str | None:
        """How Linux calls a machine with this isa (uname -m); None for one that is not known here."""
        return MACHINES.get(self.isa.split("-")[0].split(".")[0])


class Memories(Frozen):
    """Sizes of the memories a network's weights and maps can live in."""

    dram_bytes: Figure
    l1d_bytes: Figure | None = None          # per core
    l2_bytes: Figure | None = None
    dram_bytes_per_s: Figure | None = None   # peak


class Totals(Frozen):
    """What there is of each resource on the whole chip, spelt as the tools' reports spell it."""

    LUT: Figure
    FF: Figure
    DSP: Figure
    BRAM_18K: Figure                         # halves of a block RAM of 36 kbit
    URAM: Figure
    LUTRAM: Figure                           # those of the LUTs that can be memory

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name in type(self).model_fields:
            value = getattr(self, name).value
            if value < 0 or value != int(value):
                raise ValueError(f"{name} is a count: {value:g} is none")
        return self


class Usable(Frozen):
    """The share of each resource a design may take and still be placed and routed at the clock."""

    LUT: Share
    FF: Share
    DSP: Share
    BRAM_18K: Share
    URAM: Share
    kind: Kind
    source: NonEmpty


class Power(Frozen):
    """Coefficients of the energy model. Each is an interval: none is measured on the design itself.

    static_w       of the whole chip, doing nothing
    processor_w    of the processor and its memory, running
    dsp_cycle_j    one DSP slice through one cycle in which it works
    lut_cycle_j    one used LUT with its registers, wires and share of the clock, through one such cycle
    bram_access_j, uram_access_j    one read or write of a BRAM_18K, of a URAM
    """

    static_w: Interval
    processor_w: Interval
    dsp_cycle_j: Interval
    lut_cycle_j: Interval
    bram_access_j: Interval
    uram_access_j: Interval

    def idle_w(self) -> tuple[float, float]:
        """(low, high) of the chip and its processor while the programmable logic does nothing."""
        return self.static_w.low + self.processor_w.low, self.static_w.high + self.processor_w.high

    def inference_j(self, *, dsp_cycles: float, lut_cycles: float, bram_accesses: float,
                    uram_accesses: float) -> tuple[float, float]:
        """(low, high) of what one inference takes above that, in the programmable logic.

        dsp_cycles, lut_cycles   DSP slices and LUTs, each times the cycles in which it works
        """
        terms = ((dsp_cycles, self.dsp_cycle_j), (lut_cycles, self.lut_cycle_j),
                 (bram_accesses, self.bram_access_j), (uram_accesses, self.uram_access_j))
        return sum(n * each.low for n, each in terms), sum(n * each.high for n, each in terms)


class Fpga(Frozen):
    """The programmable logic and the way to it.

    stream_bits        width of the AXI4-Stream each way between memory and kernel, a word a cycle
    transfer_setup_s   to start one inference's transfers from the processor and to see that they ended
    """

    part: Name                               # as the vendor's tool names it
    totals: Totals
    usable: Usable
    clock_hz: Figure
    stream_bits: Bits
    transfer_setup_s: Interval
    power: Power | None = None

    def total(self, resource: Resource) -> int:
        """How many there are on the chip."""
        return int(getattr(self.totals, resource).value)

    def limit(self, resource: Resource) -> int:
        """How many a design may take."""
        return int(self.total(resource) * getattr(self.usable, resource))

    def capacity(self) -> Capacity:
        """What its memories hold. LUTs as memory are limited by the same share as all LUTs."""
        lutram = int(self.totals.LUTRAM.value)
        return Capacity(
            chip={"LUTRAM": lutram, "BRAM": self.total("BRAM_18K"), "URAM": self.total("URAM")},
            limit={"LUTRAM": int(lutram * self.usable.LUT), "BRAM": self.limit("BRAM_18K"),
                   "URAM": self.limit("URAM")})


class Peaks(Frozen):
    """Operations a second at Gpu.clock_hz, dense; a multiply-accumulate counts as two. None: it has no unit."""

    f32: Figure | None = None
    f16: Figure | None = None
    int8: Figure | None = None


class PowerMode(Frozen):
    """One setting of the board's own power management (nvpmodel). None: as without any limit.

    number            what `nvpmodel -m` takes
    limit_w           the budget it is named after
    sms               multiprocessors left on
    """

    name: Name
    number: int
    limit_w: float | None = None
    gpu_clock_hz: float | None = None
    sms: int | None = None
    dram_bytes_per_s: float | None = None


class JetPack(Frozen):
    """The software that boards of this kind come with, as far as it decides what is built."""

    version: NonEmpty
    l4t: NonEmpty
    tensorrt: NonEmpty
    cuda: NonEmpty
    cudnn: NonEmpty
    source: NonEmpty


class Gpu(Frozen):
    """An NVIDIA GPU. Everything but `discrete` may be missing: then it is not known before it runs.

    discrete         with memory of its own; otherwise it shares the processor's
    sm               compute capability: "8.7"
    sms              streaming multiprocessors
    power_mode       name of the mode in which clock_hz, sms, the peaks and memories.dram_bytes_per_s hold
    kernel_launch_s  what one kernel costs beside its work: to start it, to fill and to drain the GPU
    """

    discrete: bool
    architecture: NonEmpty | None = None
    sm: Capability | None = None
    sms: Figure | None = None
    clock_hz: Figure | None = None
    tensor_cores: tuple[GpuPrecision, ...] = ()      # the precisions that are computed on them
    peak_ops_per_s: Peaks = Peaks()
    l2_bytes: Figure | None = None
    kernel_launch_s: Interval | None = None
    power_mode: Name | None = None
    power_modes: tuple[PowerMode, ...] = ()
    power_modes_source: str = ""
    jetpack: JetPack | None = None

    @model_validator(mode="after")
    def _modes(self) -> Self:
        if self.power_modes and not self.power_modes_source:
            raise ValueError("power_modes need power_modes_source")
        if self.power_mode and self.power_mode not in [m.name for m in self.power_modes]:
            raise ValueError(f"power_mode {self.power_mode} is none of power_modes")
        return self

    @property
    def capability(self) -> int | None:
        """The compute capability as one number: 87."""
        return int(self.sm.replace(".", "")) if self.sm else None


HINT = "the README shows a whole one under \"Add a target\""


class Target(Frozen):
    """A part and what a backend may use of it. Every figure carries its kind and its source.

    backends     those that can compile for it; the first is taken unless another is asked for
    precisions   as the backends' `precision` option names them
    """

    name: Name
    description: NonEmpty
    part: NonEmpty
    backends: tuple[Name, ...]
    precisions: tuple[Name, ...]
    cpu: Cpu | None = None
    memories: Memories
    fpga: Fpga | None = None
    gpu: Gpu | None = None

    @property
    def totals(self) -> dict[str, float]:
        """Resource -> how many there are; empty without programmable logic."""
        return {r: float(self.fpga.total(r)) for r in RESOURCES} if self.fpga else {}

    def limited(self, lines: Mapping[str, float]) -> Target:
        """This target with no more of each resource than a budget's lines allow (hwkit.budget.Budget.lines)."""
        if self.fpga is None:
            return self
        shares: dict[str, float] = {}
        for resource in RESOURCES:
            total = self.fpga.total(resource)
            allowed = [getattr(self.fpga.usable, resource), lines.get(f"utilisation.{resource}", 1.0),
                       lines.get(f"resources.{resource}", total) / total if total else 1.0]
            shares[resource] = max(min(allowed), 1e-9)       # a share of nothing is not one
        usable = self.fpga.usable.model_copy(update=shares)
        return self.model_copy(update={"fpga": self.fpga.model_copy(update={"usable": usable})})


def names() -> list[str]:
    return list(descriptions("targets"))


def target(name: str) -> Target:
    """The target of that name. Raises UnknownName, BadDescription."""
    return load_named("targets", name, Target, HINT)
