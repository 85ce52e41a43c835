"""The engine's arithmetic, unit by unit: several low-bit products in a multiplier, of DSPs and of LUTs.

Each unit is compiled alone under a testbench that gives it a new vector in every cycle.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwkit import process
from hwkit.data import shipped
from hwkit.eda import verilator
from hwkit.integer.arithmetic import Ints, saturated, shifted

# SHIFT and SHIFT_BITS
DEPTHWISE = ((0, 3), (5, 2), (7, 1), (10, 0))
# SHIFT, SHIFT_BITS and MIDDLE_HIGH
UPDATE = ((0, 3, 127), (4, 3, 15), (5, 2, 63), (3, 1, 7), (6, 3, 31), (12, 0, 3), (2, 3, 127), (1, 2, 15))

CHAIN_UNIT = """
module chain_unit (
    input wire clk, input wire [31:0] a0, input wire [31:0] a1, input wire [31:0] w0, input wire [31:0] w1,
    output wire [43:0] of_dsps, output wire [43:0] of_luts
);
    dsode_chain #(.USE_DSP(1)) dsps (.clk(clk), .a0(a0), .a1(a1), .w0(w0), .w1(w1), .y(of_dsps));
    dsode_chain #(.USE_DSP(0)) luts (.clk(clk), .a0(a0), .a1(a1), .w0(w0), .w1(w1), .y(of_luts));
endmodule
"""
DEPTHWISE_UNIT = """
module depthwise_unit (
    input wire clk, input wire [71:0] x0, input wire [71:0] x1, input wire [35:0] w, input wire [15:0] bias,
    input wire [2:0] shift, input wire twin, output wire [63:0] y
);
""" + "".join(f"""\
    dsode_depthwise #(.USE_DSP({dsp}), .SHIFT({shift}), .SHIFT_BITS({bits})) unit_{k}_{dsp} (
        .clk(clk), .x0(x0), .x1(x1), .w(w), .bias(bias), .shift(shift), .twin(twin),
        .y0(y[{8 * (2 * k + 1 - dsp)} +: 4]), .y1(y[{8 * (2 * k + 1 - dsp) + 4} +: 4]));
""" for k, (shift, bits) in enumerate(DEPTHWISE) for dsp in (1, 0)) + "endmodule\n"
UPDATE_UNIT = """
module update_unit (
    input wire clk, input wire [19:0] sum, input wire [19:0] bias, input wire [2:0] shift, input wire [7:0] x,
    input wire skip, input wire signed_state, input wire middle, input wire zero, output wire [63:0] y
);
""" + "".join(f"""\
    dsode_update #(.SHIFT({shift}), .SHIFT_BITS({bits}), .MIDDLE_HIGH({high})) unit_{k} (
        .clk(clk), .sum(sum), .bias(bias), .shift(shift), .x(x), .skip(skip), .signed_state(signed_state),
        .middle(middle), .zero(zero), .y(y[{8 * k} +: 8]));
""" for k, (shift, bits, high) in enumerate(UPDATE)) + "endmodule\n"


def vectors_checked(name: str, wrapper: str, rtl: tuple[str, ...], folder: Path, *words: str) -> int:
    """Compile `wrapper` with hls/dsode/sim/<name>_tb.cpp and run it: how many vectors were equal."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "unit.sv").write_text(wrapper)
    sources = [shipped("hls", "dsode", "rtl", n) for n in rtl] + [shipped("hls", "dsode", "sim", "dsp48e2.sv")]
    bench = verilator.Bench(
        top=f"{name}_unit", prefix=f"{name}_unit", sources=("unit.sv", *map(str, sources)),
        testbench=str(shipped("hls", "dsode", "sim", f"{name}_tb.cpp")), config="", stream_bytes=1, beats_in=1,
        beats_out=1, limit_cycles=1)
    program = verilator.build(bench, folder, lambda _: None)
    done = process.run([str(program), *words], timeout_s=120, what=f"{name} testbench", check=False)
    assert done.returncode == 0, done.stdout
    return int(done.stdout)


def test_four_products_share_a_multiplier_and_no_field_borrows(tmp_path: Path) -> None:
    """All 2^16 products at the first and the last of a chain, with the other seven at 0 and at either end."""
    checked = vectors_checked("chain", CHAIN_UNIT, ("dsp.sv", "pointwise.sv"), tmp_path)
    assert checked > 2 * 3 * 2**16


def test_both_pixels_of_a_depthwise_convolution_share_nine_multipliers(tmp_path: Path) -> None:
    """All 2^20 products of both pixels, at biases and shifts that show the sum's last bit."""
    checked = vectors_checked("depthwise", DEPTHWISE_UNIT, ("delay.sv", "dsp.sv", "depthwise.sv"), tmp_path,
                              *(str(n) for choice in DEPTHWISE for n in choice))
    assert checked > 2 * 2**20


def test_bias_shift_state_and_saturation(tmp_path: Path) -> None:
    count = 200_000
    rng = np.random.default_rng(4)
    shift, x = rng.integers(0, 8, count), rng.integers(-128, 128, count)
    skip, zero = rng.random(count) < 0.5, rng.random(count) < 0.05
    state = rng.random(count) < 0.5
    middle = ~state & (rng.random(count) < 0.5)
    total = rng.integers(0, 1 << 17, count)
    # one unit's result lies within 2 of an end of a range, with the bits shifted out at their ends or random
    unit = rng.integers(0, len(UPDATE), count)
    all_by = np.stack([least + (shift & (1 << bits) - 1) for least, bits, _ in UPDATE])
    by = all_by[unit, np.arange(count)]
    ends = np.array([[-128, 0, 127, high] for _, _, high in UPDATE])[unit, rng.integers(0, 4, count)]
    low = np.where(rng.random(count) < 0.5, rng.integers(0, 1 << 20, count), rng.choice([0, -1], count))
    bias = ((ends + rng.integers(-2, 3, count) - skip * x) << by) + low % (1 << by) - total
    bias = np.where(rng.random(count) < 0.1, rng.integers(-(1 << 18), 1 << 18, count), bias)
    bias = saturated(bias, -(1 << 19), (1 << 19) - 1 - (1 << 17))

    def expected(shifts: Ints, high: int) -> Ints:
        value = shifted(total + bias, shifts) + skip * x
        upper = np.where(state, 127, np.where(middle, high, 127))
        return np.where(zero, 0, np.clip(value, np.where(state, -128, 0), upper))

    records = np.zeros(count, [("sum", "<i4"), ("bias", "<i4"), ("shift", "u1"), ("x", "i1"), ("flags", "u1"),
                               ("padding", "u1"), ("expected", "u1", 8)])
    records["sum"], records["bias"], records["shift"], records["x"] = total, bias, shift, x
    records["flags"] = skip | state << 1 | middle << 2 | zero << 3
    for k, (_, _, high) in enumerate(UPDATE):
        records["expected"][:, k] = expected(all_by[k], high) & 255
    records.tofile(tmp_path / "vectors.bin")
    assert vectors_checked("update", UPDATE_UNIT, ("update.sv",), tmp_path, str(tmp_path / "vectors.bin")) == count
