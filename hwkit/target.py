"""Target: what the compiler may use. Data, in targets/<name>/target.toml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from hwkit.data import descriptions
from hwkit.describe import Figure, Frozen, Interval, Kind, Name, NonEmpty, load_named
from hwkit.measurement import RESOURCES, Resource
from hwkit.memory import Capacity

Share = Annotated[float, Field(gt=0, le=1)]
Bits = Annotated[int, Field(gt=0, multiple_of=8)]


class Cpu(Frozen):
    """The cores the network runs on."""

    core: Name                               # e.g. cortex-a72
    isa: Name                                # e.g. armv8-a
    cores: int
    clock_hz: Figure
    features: tuple[Name, ...] = ()          # as in /proc/cpuinfo: asimd, atomics, asimddp ...
    instructions_per_cycle: Interval | None = None   # sustained, one core, on neural-network kernels


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
