"""What the driver wrote, as frozen values."""

from __future__ import annotations

from hwkit.describe import Frozen


class Layer(Frozen):
    """One hardware layer by FINN's estimates.

    loop, repeat   the FINNLoop it is inside, and how often that runs it an inference; "" and 1 outside
    cycles         of one run; of a FINNLoop itself: all its steps
    used           resource -> count; a resource that is missing is one FINN has no formula for
    modelled       False where FINN gives no look-up tables: it has no model of this layer's logic
    """

    name: str
    kind: str
    loop: str
    repeat: int
    cycles: int
    used: dict[str, float]
    folding: dict[str, str | int]
    weight_bits: int
    macs: int
    output_shape: tuple[int, ...]
    datatype: str
    modelled: bool


class Check(Frozen):
    """FINN's Python execution against the wanted outputs.

    largest     largest absolute difference        scale    largest wanted output
    different   inputs with an output off by more than 1e-4 of `scale`
    agree       inputs with the same largest output
    """

    inputs: int
    largest: float
    scale: float
    different: int
    agree: int


class Checks(Frozen):
    """After streamlining, after conversion to hardware layers; and the latter against the network with halves
    rounded up, where there are ties."""

    streamlined: Check
    hardware: Check
    half_up: Check | None = None


class Performance(Frozen):
    """FINN's own estimate_network_performance.json, with its own keys; for a rolled network only some of them."""

    max_cycles: int
    max_cycles_node_name: str
    estimated_throughput_fps: float
    critical_path_cycles: int | None = None
    estimated_latency_ns: float | None = None


class Driven(Frozen):
    """The whole result.

    bottleneck, max_cycles   the slowest layer at the chosen folding: an inference every so many cycles
    copies, floors   weights that were copied; quantisers that round down
    steps            of a rolled neural ODE; None where nothing was rolled
    outside          operators left to the processor, in front of the accelerator or behind it
    external         interfaces to memory outside the chip, by the layers that have them
    seconds          of each step of the build
    """

    layers: tuple[Layer, ...]
    used: dict[str, float]
    bottleneck: str
    max_cycles: int
    performance: Performance
    checks: Checks
    copies: int
    floors: int
    steps: int | None
    outside: tuple[str, ...]
    external: dict[str, list[str]]
    codegen: tuple[str, ...]
    reports: tuple[str, ...]
    seconds: dict[str, float]
    versions: dict[str, str]


class Reference(Frozen):
    """What reference.job wrote: where the inputs are from, and the activations half way between two levels."""

    source: str
    random: bool
    ties: dict[str, int]
