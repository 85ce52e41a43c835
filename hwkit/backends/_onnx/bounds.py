"""How fast the network can be on a target's GPU, and how fast it is likely to be, from its operators alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwkit.artifact import Finding
from hwkit.backends._onnx.forms import Piece
from hwkit.backends._onnx.operators import QUANTISERS, behind, macs, values
from hwkit.backends._onnx.options import Precision
from hwkit.gpu.roofline import Layer, estimate, places, roof
from hwkit.measurement import Measurement
from hwkit.target import Target

# What a kernel does beside the layer before it.
FUSED = ("Relu", "Clip", "Add", "Mul", "Sigmoid", "LeakyRelu", "HardSwish", "Tanh", "Flatten", "Reshape",
         "Squeeze", "Unsqueeze", "Identity", "Dropout")


@dataclass(frozen=True)
class Bounds:
    """A latency with its interval, and where its kernels lie; empty where the target's figures are not known."""

    figures: tuple[Measurement, ...] = ()
    findings: tuple[Finding, ...] = ()


def layers(pieces: Sequence[Piece]) -> list[Layer]:
    """Every operator of one inference in order, a repeated stage's as often as it runs.

    A weight counts where it is read first.
    """
    found: list[Layer] = []
    for piece in pieces:
        known = values(piece.model)
        raw = behind(piece.model)
        counted: set[str] = set()
        for step in range(piece.repeat):
            last = ""
            for node in (n for n in piece.model.graph.node if n.op_type not in QUANTISERS):
                names = [raw.get(name, name) for name in node.input if name]
                constants = [n for n in names if n in known and known[n].constant and n not in counted]
                counted.update(constants)
                fused = node.op_type in FUSED and last in names
                moving = [n for n in names if n in known and not known[n].constant and not (fused and n == last)]
                output = known.get(node.output[0])
                found.append(Layer(
                    name=f"{node.name}@{step}" if piece.repeat > 1 else node.name, macs=macs(node, known) or 0,
                    weights=sum(known[n].elements for n in constants),
                    reads=sum(known[n].elements for n in moving),
                    writes=output.elements if output else 0, fused=fused))
                last = node.output[0]
    return found


def bounded(pieces: Sequence[Piece], precision: Precision, target: Target) -> Bounds:
    """The time of one inference by the roofline of the target's GPU (hwkit.gpu.roofline)."""
    listed, under = layers(pieces), roof(target, precision)
    times = estimate(listed, precision, target)
    if times is None or under is None or target.gpu is None:
        return Bounds()
    there = places(listed, precision, under)
    mode = f"in the power mode {target.gpu.power_mode}" if target.gpu.power_mode else "at its clock"
    latency = Measurement(
        quantity="latency", unit="s", kind="estimated", samples=(times.value,), low=times.low, high=times.high,
        source=f"{len(there)} kernels on the roofline of the target's GPU {mode}; low: every kernel at the GPU's "
               "peak or its memory's rate, all launched as one; high: the least efficiency and the longest launch "
               "that published times of other networks leave open; convolutions taken as direct ones, copies to "
               "and from the GPU not counted",
        conditions={"precision": precision, "power_mode": target.gpu.power_mode})
    memory = sum(place.limit == "memory-bound" for place in there)
    slowest = max(there, key=lambda place: place.seconds)
    return Bounds((latency,), (Finding(
        name="roofline", ok=None,
        text=f"{memory} of {len(there)} kernels are memory-bound in {precision} (fewer than "
             f"{under.ridge:.0f} operations a byte); the slowest at best is {slowest.name} with "
             f"{slowest.ops_per_byte:.1f}, {slowest.limit}"),))
