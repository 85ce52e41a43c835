"""What a design costs: time, energy and bytes, from its cycles and its resources. All of it is estimated.

Cycles are exact; what a cycle takes is the target's assumed clock. Energy is an analytic model whose coefficients
are the target's, each with its source and its range.
"""

from __future__ import annotations

from hwkit.backends.dsode import schedule
from hwkit.backends.dsode.emit import state_rows, stream_bits
from hwkit.backends.dsode.engine import Engine
from hwkit.integer.separable import IntegerNetwork
from hwkit.measurement import Measurement, Unit
from hwkit.memory import Placement
from hwkit.target import Fpga, Target

# The clock is assumed before anything is placed and routed: a range of it, as factors.
CLOCK_RANGE = (0.75, 1.5)
# Instructions of the layers outside the chip on a Cortex-A53, a multiply-accumulate and a layer. High: TFLite int8
# with XNNPACK on the emulated core takes 81,494 for dsodenet's stem of 28,224 MACs, more than half of it for
# padding, and 9,671 for its head. Low: eight products an instruction, as that core's SMLAL has them, and as many
# instructions again for everything else.
HOST_PER_MAC = (0.25, 3.0)
HOST_PER_LAYER = (1e3, 5e3)
HOST_LAYERS = 3                  # stem, pooling, linear


def host_macs(network: IntegerNetwork) -> int:
    """Multiply-accumulates of the layers before and after the chip."""
    channels, height, width = network.state_shape
    outputs, inputs = network.head.weights.shape
    return int(channels * height * width * network.input_shape[0] * 9 + outputs * inputs)


def _estimated(quantity: str, unit: Unit, value: float, low: float, high: float, source: str) -> Measurement:
    return Measurement(quantity=quantity, unit=unit, kind="estimated", samples=(value,), low=low, high=high,
                       source=source)


def transfer_cycles(engine: Engine, fpga: Fpga) -> int:
    """Beats of the state in and of the last state out, one a cycle, and a row's fetch at the end."""
    bits = stream_bits(engine, fpga.stream_bits)
    beats = 8 * engine.row_bytes // bits
    return (state_rows(engine, 0) + state_rows(engine, len(engine.shapes) - 1)) * max(beats, 1)


def times(network: IntegerNetwork, engine: Engine, target: Target, cycles: int, told: str,
          total_cycles: int | None = None) -> list[Measurement]:
    """kernel_latency, transfer_latency, host_latency, latency and throughput.

    cycles, total_cycles  of a run, and from the first beat in to the last out; `told` says where they are from
    """
    fpga = target.fpga
    assert fpga is not None
    clock = fpga.clock_hz.value
    slow, fast = (clock * factor for factor in CLOCK_RANGE)
    moved = (total_cycles or cycles + transfer_cycles(engine, fpga)) - cycles
    setup = fpga.transfer_setup_s
    of_clock = (f"the clock of {clock / 1e6:g} MHz is {fpga.clock_hz.kind}, its interval {slow / 1e6:g} to "
                f"{fast / 1e6:g} MHz")
    kernel = (cycles / clock, cycles / fast, cycles / slow)
    middle = (setup.low * setup.high) ** 0.5
    transfer = (moved / clock + middle, moved / fast + setup.low, moved / slow + setup.high)
    found = [
        _estimated("kernel_latency", "s", *kernel, f"{cycles:,} cycles, {told}; {of_clock}"),
        _estimated("transfer_latency", "s", *transfer,
                   f"{moved:,} cycles of beats, {told}, and starting the transfers, {setup.low * 1e6:g} to "
                   f"{setup.high * 1e6:g} µs ({setup.kind}: {setup.source})"),
        _estimated("throughput", "1/s", clock / (cycles + moved), slow / (cycles + moved), fast / (cycles + moved),
                   "of the programmable logic alone, an image after the other, its transfer included and the next "
                   f"always waiting; {of_clock}")]
    host = host_time(network, target)
    if host is not None:
        found.append(host)
        whole = [k + t + h for k, t, h in zip(kernel, transfer, (host.value, host.low or 0, host.high or 0),
                                              strict=True)]
        found.insert(0, _estimated("latency", "s", whole[0], whole[1], whole[2],
                                   "kernel, transfers and the layers on the processor, one after the other"))
    return found


def host_time(network: IntegerNetwork, target: Target) -> Measurement | None:
    """Stem and head on the board's processor; None where the target says nothing of it."""
    if target.cpu is None or target.cpu.instructions_per_cycle is None:
        return None
    macs = host_macs(network)
    least, most = (macs * per + HOST_LAYERS * each
                   for per, each in zip(HOST_PER_MAC, HOST_PER_LAYER, strict=True))
    rate, clock = target.cpu.instructions_per_cycle, target.cpu.clock_hz.value
    low, high = least / (clock * rate.high), most / (clock * rate.low)
    return _estimated("host_latency", "s", (low * high) ** 0.5, low, high,
                      f"stem and head, {macs:,} MACs in {HOST_LAYERS} layers, at {HOST_PER_MAC[0]:g} to "
                      f"{HOST_PER_MAC[1]:g} instructions a MAC and {HOST_PER_LAYER[0]:,.0f} to "
                      f"{HOST_PER_LAYER[1]:,.0f} a layer, on one {target.cpu.core} at {clock / 1e9:g} GHz, "
                      f"{rate.low:g} to {rate.high:g} instructions a cycle ({rate.kind})")


def energy(network: IntegerNetwork, engine: Engine, placement: Placement, fpga: Fpga, cycles: int,
           luts: tuple[float, float]) -> Measurement | None:
    """Energy of one image above idle; None where the target has no coefficients.

    luts  lowest and highest count of the whole design
    """
    power = fpga.power
    if power is None:
        return None
    busy = schedule.busy(network, engine, cycles)
    memories = {name: 2.0 * placement.taken[name] * cycles for name in ("BRAM", "URAM")}

    def taken(share: float, count: float) -> tuple[float, float]:
        return power.inference_j(dsp_cycles=engine.dsps * cycles * share, lut_cycles=count * cycles,
                                 bram_accesses=memories["BRAM"] * share, uram_accesses=memories["URAM"] * share)

    low, high = taken(busy, luts[0])[0], taken(1.0, luts[1])[1]
    return _estimated("energy", "j", (low * high) ** 0.5, low, high,
                      f"of the programmable logic, above idle: {cycles:,} cycles times what the used DSPs, LUTs "
                      f"and memories take in one; the coefficients are the target's, {power.dsp_cycle_j.kind}, "
                      "none measured on this design; the processor counts as idle power")


def idle(fpga: Fpga) -> Measurement | None:
    if fpga.power is None:
        return None
    low, high = fpga.power.idle_w()
    return _estimated("idle_power", "w", (low * high) ** 0.5, low, high,
                      f"of the chip, {fpga.power.static_w.kind}, and its processor, {fpga.power.processor_w.kind};"
                      " the sources are the target's")


def placed_bytes(placement: Placement) -> list[Measurement]:
    """on_chip_bytes and off_chip_bytes, exact: counted from the buffers, each once."""
    return [
        Measurement(quantity="on_chip_bytes", unit="bytes", kind="measured", samples=(placement.on_chip_bytes,),
                    source=f"{len(placement.placed)} buffers of the design, each counted once, of "
                    f"{placement.available_bytes:,.0f} bytes that the chip's memories hold"),
        Measurement(quantity="off_chip_bytes", unit="bytes", kind="measured", samples=(placement.off_chip_bytes,),
                    source="every buffer has its place in a memory of the chip, and the block has no port to any "
                    "other; weights are held once for all solver steps")]
