"""When each pass of the engine's program starts: the cycles of a run, exactly, without running it.

A pass may start once everything it reads has been written; between passes of one shape that is mostly at once.
Where the shape changes the pipeline runs empty first. Simulation must give the same number of cycles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hwkit.backends.dsode.engine import Engine, Shape
from hwkit.integer.separable import IntegerNetwork, OdeBlock, Transition

START = 5           # cycles from the start pulse to the first address
FINISH = 1          # and from the last write to `done`
READ = 3            # address to window
HELD = 19           # token of a pair's last group to its channels being held
UPDATE = 5


@dataclass(frozen=True)
class Pass:
    """One pass over a feature map.

    convolution   index in hwkit.integer.separable.convolutions; step: of the solver, for the bias
    shape         index of the input's shape;  groups_out: output groups of a pair
    source, target  "state" or "middle"
    gap           cycles between the last address of this pass and the first of the next
    """

    name: str
    convolution: int
    step: int
    shape: int
    groups_out: int
    source: str
    target: str
    skip: bool
    strided: bool
    gap: int = 0


def sum_cycles(engine: Engine) -> int:
    """Cycles from a held pair to the sum of its first output group."""
    return 14 + (engine.simd // 8).bit_length() - 1 + len(engine.shapes) - 1


def latency(engine: Engine, shape: Shape) -> int:
    """Cycles from the address of a slot to its result at the write port, in a pass that is not strided."""
    return READ + shape.row_slots + 2 * shape.groups - 1 + HELD + sum_cycles(engine) + UPDATE


def drained(engine: Engine, shape: Shape, strided: bool) -> int:
    """Cycles from the last address of a pass to its last write."""
    if not strided:
        return latency(engine, shape)
    # the last row that is kept may be followed by one that is not; a lone last pair waits for its turn
    skipped = 0 if shape.height % 2 else shape.row_slots
    token = READ + shape.row_slots + shape.groups - skipped
    lone = shape.groups if shape.pairs % 2 else 0
    return token + lone + HELD + 2 * shape.groups - 1 + sum_cycles(engine) + UPDATE


def passes(network: IntegerNetwork, engine: Engine) -> list[Pass]:
    """The program in order, with its gaps."""
    found: list[Pass] = []
    shape = number = block = 0
    for part in network.core:
        convs = part.convolutions
        groups = engine.shapes[shape].groups
        if isinstance(part, OdeBlock):
            block += 1
            for step in range(part.steps):
                for k in range(len(convs)):
                    last = k == len(convs) - 1
                    found.append(Pass(
                        name=f"ode{block}.conv{k + 1}", convolution=number + k, step=step, shape=shape,
                        groups_out=groups, source="state" if k == 0 else "middle",
                        target="state" if last else "middle", skip=last, strided=False))
        else:
            found.append(Pass(name=f"down{shape + 1}", convolution=number, step=0, shape=shape,
                              groups_out=2 * groups, source="state", target="state", skip=False, strided=True))
            shape += 1
        number += len(convs)
    return [replace(p, gap=_gap(engine, p, following))
            for p, following in zip(found, [*found[1:], None], strict=True)]


def _gap(engine: Engine, this: Pass, following: Pass | None) -> int:
    shape = engine.shapes[this.shape]
    if following is None:
        return 0
    if this.shape != following.shape:
        return drained(engine, shape, this.strided) + 1
    # slot k is read slots + gap cycles after its predecessor was: it must have been written before
    return max(0, latency(engine, shape) + 1 - shape.slots)


def lag(shape: Shape) -> int:
    """Cycles from a pass's first address to its first token."""
    return shape.row_slots + shape.groups + 2


def cycles(network: IntegerNetwork, engine: Engine) -> int:
    """From the start pulse to `done`."""
    program = passes(network, engine)
    last = program[-1]
    reading = sum(engine.shapes[p.shape].slots + p.gap for p in program)
    return START + reading - 1 + drained(engine, engine.shapes[last.shape], last.strided) + FINISH


def macs(network: IntegerNetwork, engine: Engine) -> int:
    """Multiply-accumulates of one image inside the core: those of the network, padding not counted."""
    total = shape = 0
    for part in network.core:
        shape += isinstance(part, Transition)
        pixels = engine.shapes[shape].height * engine.shapes[shape].width
        total += part.steps * sum(pixels * c.inputs * (9 + c.outputs) for c in part.convolutions)
    return total


def busy(network: IntegerNetwork, engine: Engine, run_cycles: int) -> float:
    """Share of all multiplier lanes that do a product of the network, over all cycles of a run."""
    return macs(network, engine) / ((engine.pointwise_lanes + engine.depthwise_lanes) * run_cycles)
