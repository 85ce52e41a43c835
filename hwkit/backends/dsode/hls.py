"""The engine as HLS C++: the sources for one network, and their simulation with g++.

The kernel itself is shipped (hls/dsode/hls); what is generated are its sizes (config.hpp) and its constant tables
(weights.hpp). A word is `pe` channels of one pixel.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwkit import data, files, process
from hwkit.errors import BadInput, JobFailed
from hwkit.integer.arithmetic import Ints
from hwkit.integer.separable import (
    INNER_HIGH,
    STATE_HIGH,
    STATE_LOW,
    IntegerNetwork,
    OdeBlock,
    Separable,
    convolutions,
    validate,
)

SOURCES = ("dsode.hpp", "dsode.cpp", "testbench.cpp")
SHIM = ("shim/hls_stream.h", "shim/ap_axi_sdata.h")
AP_INT = "shim/ap_int"
ACCUMULATOR_BITS = 48            # of a DSP block; no sum may need more
URAM_FROM_WORDS = 2048           # a URAM is 4096 deep: below half of that block RAM wastes less
_GPP = "apt-get install g++"
# The compiler knows no HLS pragma, and the labels name the loops in the synthesis report.
_FLAGS = ("-std=c++14", "-O2", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-label")
_WORD_WEIGHTS = 16               # INT4 weights in one 64-bit word of the tables


@dataclass(frozen=True)
class Pass:
    """One convolution over one feature map, as the kernel's sequencer reads it: see `Pass` in dsode.hpp."""

    height: int
    width: int
    in_words: int
    out_words: int
    stride: int
    source: int
    depthwise: int
    pointwise: int
    bias: int
    skip: str
    low: int
    high: int

    @property
    def slots(self) -> int:
        """Iterations of the kernel's loop; it starts one a cycle."""
        return (self.height * self.width + self.width + 2) * max(self.in_words, self.out_words)

    def row(self) -> str:
        return "{" + ", ".join(str(getattr(self, name)) for name in self.__dataclass_fields__) + "}"


def check(network: IntegerNetwork, pe: int) -> None:
    """Raise BadInput, naming the layer, where the kernel cannot compute this network with `pe` channels a word."""
    validate(network)
    if not network.core:
        raise BadInput(f"{network.name} has no ODE block for the engine to run")
    if pe < 1 or network.state_shape[0] % pe:
        raise BadInput(f"pe={pe} does not divide the {network.state_shape[0]} channels of the first state")
    if not 0 <= network.middle_high <= STATE_HIGH:
        raise BadInput(f"middle_high is {network.middle_high}, the engine holds 0..{STATE_HIGH}")
    names = dict(convolutions(network))
    for name, conv in names.items():
        if conv.outputs % pe:
            raise BadInput(f"{name}: pe={pe} does not divide its {conv.outputs} channels")
        if min(conv.depthwise_shift.min(), conv.pointwise_shift.min()) < 0:
            raise BadInput(f"{name}: a shift is negative; the engine shifts right only")
        bits = max(_depthwise_bits(conv), _pointwise_bits(conv), _span([conv.depthwise_bias, conv.pointwise_bias]))
        if bits > ACCUMULATOR_BITS:
            raise BadInput(f"{name}: a sum needs {bits} bits, the engine has {ACCUMULATOR_BITS}",
                           "a bias is out of proportion to the weights: quantise again")
    for number, part in enumerate((p for p in network.core if isinstance(p, OdeBlock)), 1):
        inputs, outputs = part.convolutions[0].inputs, part.convolutions[-1].outputs
        if not 1 <= len(part.convolutions) <= 2:
            raise BadInput(f"ode{number}: f has {len(part.convolutions)} convolutions, the engine runs one or two")
        if inputs != outputs or any(conv.stride != 1 for conv in part.convolutions):
            raise BadInput(f"ode{number}: f must keep the state's shape, it takes {inputs} channels and gives "
                           f"{outputs}")


def program(network: IntegerNetwork, pe: int) -> list[Pass]:
    """The passes in the order they run. `network` has passed `check`."""
    passes: list[Pass] = []
    depthwise = pointwise = bias = bank = 0
    _, height, width = network.state_shape
    for part in network.core:
        convs = part.convolutions
        starts = []
        for conv in convs:
            starts.append((depthwise, pointwise, bias))
            depthwise += conv.inputs // pe
            pointwise += conv.outputs // pe
            bias += conv.pointwise_bias.size // pe
        for step in range(part.steps):
            for k, (conv, (first_depthwise, first_pointwise, first_bias)) in enumerate(
                    zip(convs, starts, strict=True)):
                if not isinstance(part, OdeBlock):
                    skip, low, high = "NONE", 0, STATE_HIGH
                elif k < len(convs) - 1:
                    skip, low, high = "NONE", 0, network.middle_high
                else:
                    skip, low, high = "TARGET" if k else "CENTRE", STATE_LOW, STATE_HIGH
                row = step % len(conv.pointwise_bias)
                passes.append(Pass(height, width, conv.inputs // pe, conv.outputs // pe, conv.stride, bank,
                                   first_depthwise, first_pointwise, first_bias + row * (conv.outputs // pe),
                                   skip, low, high))
                bank = 1 - bank
        height, width = -(-height // convs[0].stride), -(-width // convs[0].stride)
    return passes


def emit(network: IntegerNetwork, pe: int, folder: Path) -> list[str]:
    """Write the sources of the kernel and its testbench, with the headers that stand in for the vendor's.

    Returns the files' names within `folder`; the same network gives the same bytes. Raises BadInput.
    """
    check(network, pe)
    texts = {name: data.shipped("hls", "dsode", "hls", name).read_text()
             for name in (*SOURCES, *SHIM, f"{AP_INT}/ap_int.h")}
    texts["config.hpp"] = _config(network, pe)
    texts["weights.hpp"] = _weights(network, pe)
    for name, text in texts.items():
        files.write(folder / name, text)
    return sorted(texts)


def build_script(part: str, clock_ns: float) -> str:
    """Tcl for Vitis HLS that simulates, synthesises and packages the sources beside it."""
    template = data.shipped("hls", "dsode", "hls", "build.tcl").read_text()
    return template.replace("@PART@", part).replace("@CLOCK_NS@", f"{clock_ns:g}")


def vectors(network: IntegerNetwork, states: Ints, folder: Path) -> list[str]:
    """Write states.bin and, from the integer reference, expected.bin, which the testbench compares with."""
    _save(folder / "states.bin", states)
    _save(folder / "expected.bin", network.on_chip(states))
    return ["expected.bin", "states.bin"]


def compile_testbench(folder: Path, program: Path, ap_int: Path | None = None) -> str:
    """Compile what `emit` wrote into an executable; returns the compiler's warnings, "" where there are none.

    ap_int  folder of another ap_int.h, in place of the one that stands in for it
    Raises ToolMissing without g++, JobFailed where the sources do not compile.
    """
    integers = ["-isystem", str(ap_int)] if ap_int else [f"-I{folder / AP_INT}"]
    return process.run(
        ["g++", *_FLAGS, f"-I{folder}", f"-I{folder / 'shim'}", *integers,
         str(folder / "dsode.cpp"), str(folder / "testbench.cpp"), "-o", str(program)],
        timeout_s=600, what="compiling the HLS kernel", hint=_GPP).stdout


def run_testbench(program: Path, states: Ints) -> Ints:
    """(n, C, H, W) states in -128..127 -> (n, C', H', W'), computed by a compiled testbench."""
    with tempfile.TemporaryDirectory(prefix="hwkit-hls-") as name:
        folder = Path(name)
        _save(folder / "states.bin", states)
        process.run([str(program), str(folder / "states.bin"), str(folder / "results.bin")],
                    timeout_s=3600, what="simulating the HLS kernel")
        return _load(folder / "results.bin")


def simulate(folder: Path, states: Ints) -> Ints:
    """(n, C, H, W) states -> (n, C', H', W'): compile what `emit` wrote, and run it."""
    with tempfile.TemporaryDirectory(prefix="hwkit-hls-") as name:
        compile_testbench(folder, Path(name) / "testbench")
        return run_testbench(Path(name) / "testbench", states)


def _save(path: Path, maps: Ints) -> None:
    if maps.ndim != 4 or (maps.size and (maps.min() < STATE_LOW or maps.max() > STATE_HIGH)):
        raise BadInput(f"states have shape {maps.shape} and go from {maps.min()} to {maps.max()}; the kernel "
                       "takes (n, C, H, W) in -128..127")
    files.write(path, np.array(maps.shape, "<i4").tobytes() + maps.astype(np.int8).tobytes())


def _load(path: Path) -> Ints:
    content = path.read_bytes()
    shape = np.frombuffer(content, "<i4", 4)
    if len(content) != 16 + int(np.prod(shape)):
        raise JobFailed(f"{path.name}: {len(content)} bytes do not hold {'x'.join(map(str, shape))} values")
    return np.frombuffer(content, np.int8, offset=16).reshape(shape).astype(np.int64)


def _bits(low: int, high: int) -> int:
    """Width of the two's complement that holds low..high."""
    return max(max(high, 0).bit_length(), max(-low - 1, 0).bit_length()) + 1


def _depthwise_bits(conv: Separable) -> int:
    """Of the sum of nine products and bias, whatever the INT8 input. Zero padding can leave out any product."""
    weights = conv.depthwise.reshape(conv.inputs, 9)
    low = np.minimum(weights * STATE_LOW, weights * STATE_HIGH).clip(max=0).sum(1) + conv.depthwise_bias
    high = np.maximum(weights * STATE_LOW, weights * STATE_HIGH).clip(min=0).sum(1) + conv.depthwise_bias
    return _bits(int(low.min()), int(high.max()))


def _pointwise_bits(conv: Separable) -> int:
    """Of the sum over all inputs and bias, whatever the inner values."""
    low = INNER_HIGH * conv.pointwise.clip(max=0).sum(1) + conv.pointwise_bias
    high = INNER_HIGH * conv.pointwise.clip(min=0).sum(1) + conv.pointwise_bias
    return _bits(int(low.min()), int(high.max()))


def _span(arrays: Iterable[Ints]) -> int:
    listed = list(arrays)
    return _bits(min(int(a.min()) for a in listed), max(int(a.max()) for a in listed))


def _limits(network: IntegerNetwork, pe: int) -> dict[str, int]:
    """The constants of config.hpp."""
    passes = program(network, pe)
    convs = [conv for _, conv in convolutions(network)]
    last = passes[-1]
    channels, height, width = network.state_shape
    out_height, out_width = -(-last.height // last.stride), -(-last.width // last.stride)
    most = max(max(conv.inputs, conv.outputs) for conv in convs)
    pointwise_bits = max(_pointwise_bits(conv) for conv in convs)
    return {
        "PE": pe,
        "BEAT": math.gcd(pe, 8),
        "CHANNELS": -(-most // _WORD_WEIGHTS) * _WORD_WEIGHTS,
        "GROUPS": most // pe,
        "INPUT_CHANNELS": channels,
        "INPUT_HEIGHT": height,
        "INPUT_WIDTH": width,
        "INPUT_WORDS": height * width * channels // pe,
        "OUTPUT_CHANNELS": convs[-1].outputs,
        "OUTPUT_HEIGHT": out_height,
        "OUTPUT_WIDTH": out_width,
        "OUTPUT_WORDS": out_height * out_width * convs[-1].outputs // pe,
        "OUTPUT_BANK": 1 - last.source,
        "WORDS": max(max(p.height * p.width * p.in_words,
                         -(-p.height // p.stride) * -(-p.width // p.stride) * p.out_words) for p in passes),
        "LINE_WORDS": max(p.width * p.in_words for p in passes),
        "DEPTHWISE_BITS": max(_depthwise_bits(conv) for conv in convs),
        "POINTWISE_BITS": pointwise_bits,
        "SUM_BITS": max(pointwise_bits, 8) + 1,
        "DEPTHWISE_BIAS_BITS": _span(conv.depthwise_bias for conv in convs),
        "POINTWISE_BIAS_BITS": _span(conv.pointwise_bias for conv in convs),
        "SHIFT_BITS": 6,
        "DEPTHWISE_ROWS": sum(conv.inputs for conv in convs) // pe,
        "POINTWISE_ROWS": sum(conv.outputs for conv in convs) // pe,
        "POINTWISE_BIAS_ROWS": sum(conv.pointwise_bias.size for conv in convs) // pe,
        "PASSES": len(passes),
    }


def _config(network: IntegerNetwork, pe: int) -> str:
    passes = program(network, pe)
    sizes = _limits(network, pe)
    slots = [p.slots for p in passes]
    storage = "uram" if sizes["WORDS"] >= URAM_FROM_WORDS else "bram"
    row_slots = min(p.width * max(p.in_words, p.out_words) for p in passes)
    return "\n".join([
        _head(network),
        f"// {sum(slots)} iterations of the kernel's loop an image. Cycles are these, the depth",
        "// of the pipeline once a pass, and the beats of the streams.",
        "#pragma once",
        "",
        *(f"constexpr int {name} = {value};" for name, value in sizes.items()),
        "",
        "#define BANKS_STORAGE \\",
        f'    _Pragma("HLS BIND_STORAGE variable=banks type=ram_s2p impl={storage}")',
        "#define LINES_DEPENDENCE \\",
        f'    _Pragma("HLS DEPENDENCE variable=lines type=inter direction=RAW distance={row_slots} true")',
        "#define SLOTS_TRIPCOUNT \\",
        f'    _Pragma("HLS LOOP_TRIPCOUNT min={min(slots)} max={max(slots)} avg={sum(slots) // len(slots)}")',
        ""])


def _weights(network: IntegerNetwork, pe: int) -> str:
    sizes = _limits(network, pe)
    convs = [conv for _, conv in convolutions(network)]
    lanes = (-1, pe)
    depthwise_shift = [np.minimum(conv.depthwise_shift, _depthwise_bits(conv) - 1) for conv in convs]
    pointwise_shift = [np.minimum(conv.pointwise_shift, _pointwise_bits(conv) - 1) for conv in convs]
    pointwise = [np.pad(conv.pointwise, [(0, 0), (0, sizes["CHANNELS"] - conv.inputs)]) for conv in convs]
    return "\n".join([
        _head(network),
        "// Rows are words: of each convolution in turn, PE channels a row. INT4 weights stand 16 in 64 bits, the",
        "// first in the lowest four; a depthwise convolution has nine.",
        "#pragma once",
        "",
        f"static const Pass PROGRAM[PASSES] = {{\n{_rows(p.row() for p in program(network, pe))}}};",
        _table("unsigned long long", "DEPTHWISE", "[DEPTHWISE_ROWS][PE]",
               np.concatenate([_packed(conv.depthwise.reshape(-1, 9)).reshape(lanes) for conv in convs])),
        _table("ap_int<DEPTHWISE_BIAS_BITS>", "DEPTHWISE_BIAS", "[DEPTHWISE_ROWS][PE]",
               np.concatenate([conv.depthwise_bias.reshape(lanes) for conv in convs])),
        _table("ap_uint<SHIFT_BITS>", "DEPTHWISE_SHIFT", "[DEPTHWISE_ROWS][PE]",
               np.concatenate([shift.reshape(lanes) for shift in depthwise_shift])),
        _table("unsigned long long", "POINTWISE", "[POINTWISE_ROWS][PE][CHANNELS / 16]",
               np.concatenate([_packed(weights).reshape(*lanes, sizes["CHANNELS"] // _WORD_WEIGHTS)
                               for weights in pointwise])),
        _table("ap_int<POINTWISE_BIAS_BITS>", "POINTWISE_BIAS", "[POINTWISE_BIAS_ROWS][PE]",
               np.concatenate([conv.pointwise_bias.reshape(lanes) for conv in convs])),
        _table("ap_uint<SHIFT_BITS>", "POINTWISE_SHIFT", "[POINTWISE_ROWS][PE]",
               np.concatenate([shift.reshape(lanes) for shift in pointwise_shift])),
        ""])


def _head(network: IntegerNetwork) -> str:
    return f"// Generated for the network {' '.join(network.name.split())}."


def _packed(weights: Ints) -> Any:
    """(rows, n) INT4 -> (rows, ceil(n / 16)) uint64."""
    count = -(-weights.shape[1] // _WORD_WEIGHTS)
    padded = np.pad(weights, [(0, 0), (0, count * _WORD_WEIGHTS - weights.shape[1])])
    nibbles = (padded & 15).astype(np.uint64).reshape(len(weights), count, _WORD_WEIGHTS)
    places = np.arange(0, 64, 4, dtype=np.uint64)
    return np.bitwise_or.reduce(nibbles << places, axis=2)


def _rows(rows: Iterable[str]) -> str:
    return "".join(f"    {row},\n" for row in rows)


def _table(kind: str, name: str, sizes: str, values: Any) -> str:
    return f"static const {kind} {name}{sizes} = {{\n{_rows(_initialiser(row) for row in values)}}};"


def _initialiser(values: Any) -> str:
    if values.ndim == 0:
        return f"{int(values):#x}ull" if values.dtype == np.uint64 else str(int(values))
    return "{" + ", ".join(_initialiser(value) for value in values) + "}"
