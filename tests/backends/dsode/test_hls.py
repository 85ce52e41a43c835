"""The HLS form of the engine, compiled with g++, gives what the integer reference gives, value for value."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from hwkit import data, process
from hwkit.backends.dsode import hls
from hwkit.errors import BadInput, JobFailed, ToolMissing
from hwkit.integer.arithmetic import Ints
from hwkit.integer.separable import Head, IntegerNetwork, OdeBlock, Separable, Stem, Transition

Channels = tuple[int, ...]


def separable(rng: np.random.Generator, inputs: int, outputs: int, stride: int = 1, rows: int = 1) -> Separable:
    """A convolution with weights over all of INT4 whose inner values and results use and exceed their range."""
    shift = rng.integers(6, 9, inputs)
    pointwise = rng.integers(-8, 8, (outputs, inputs))
    return Separable(
        depthwise=rng.integers(-8, 8, (inputs, 3, 3)),
        depthwise_bias=(8 << shift) + rng.integers(-200, 200, inputs),
        depthwise_shift=shift,
        pointwise=pointwise,
        pointwise_bias=rng.integers(-60, 60, (rows, outputs)) - 8 * pointwise.sum(1),
        pointwise_shift=rng.integers(0, 3, outputs),
        stride=stride)


@dataclass(frozen=True)
class Case:
    channels: Channels           # of each ODE block, a transition between any two
    size: tuple[int, int]        # height and width of the first
    steps: int
    convolutions: int
    pe: int
    rows: int = 1                # of pointwise biases
    middle_high: int = 127

    def network(self, seed: int = 0) -> IntegerNetwork:
        rng = np.random.default_rng(seed)
        core: list[OdeBlock | Transition] = []
        for number, channels in enumerate(self.channels):
            if number:
                core.append(Transition(separable(rng, self.channels[number - 1], channels, stride=2)))
            convs = tuple(separable(rng, channels, channels, rows=self.rows) for _ in range(self.convolutions))
            core.append(OdeBlock(convs, self.steps))
        return network_of(core, self.channels[0], self.size, self.middle_high)


def network_of(core: list[OdeBlock | Transition], channels: int, size: tuple[int, int],
               middle_high: int = 127) -> IntegerNetwork:
    """Stem and head are not the engine's: they only say what shape it takes."""
    nothing = np.zeros(channels, np.int64)
    return IntegerNetwork(
        name="random", input_shape=(1, *size), core=tuple(core), middle_high=middle_high,
        stem=Stem(np.ones((channels, 1, 3, 3), np.int64), nothing, nothing, 1, 1.0),
        head=Head(np.ones((10, core[-1].convolution.outputs if isinstance(core[-1], Transition)
                           else core[-1].convolutions[-1].outputs), np.int64), np.zeros(10, np.int64), 1.0))


def states(network: IntegerNetwork, count: int = 3, seed: int = 1) -> Ints:
    """Random states, and with them the two at the ends of INT8."""
    drawn = np.random.default_rng(seed).integers(-128, 128, (count, *network.state_shape))
    ends = [np.full((1, *network.state_shape), value) for value in (-128, 127)]
    return np.concatenate([drawn, *ends])


# Every stage halves the map, so 5x7 is also 3x4 and 2x2.
CASES = {
    "one convolution, biases of three steps": Case((4, 8, 12), (5, 7), steps=5, convolutions=1, pe=4, rows=3),
    "two convolutions, fewer channels later": Case((24, 8, 16), (6, 5), 3, 2, pe=8, rows=3, middle_high=15),
    "one row, pe no power of two": Case((6, 12, 6), (1, 5), 2, 2, pe=6, middle_high=63),
    "one column, one word": Case((3, 3), (7, 1), 4, 1, pe=3),
    "words of more than one beat": Case((16, 32), (4, 3), 3, 2, pe=16),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_kernel_gives_what_the_integer_reference_gives(case: Case, tmp_path: Path) -> None:
    network = case.network()
    given = states(network, count=20)     # more than the testbench hands over at once
    expected = network.on_chip(given)
    assert (expected.std(0) > 0).mean() > 0.6, "the results hardly depend on the states"
    hls.emit(network, case.pe, tmp_path / "sources")
    found = hls.simulate(tmp_path / "sources", given)
    assert found.shape == expected.shape
    assert int((found != expected).sum()) == 0


def test_sums_at_the_ends_of_their_width_and_any_bias_and_shift(tmp_path: Path) -> None:
    """All weights -8 and all inputs -128 fill the accumulators; shifts beyond them leave the sign."""
    rng = np.random.default_rng(3)
    extreme = Separable(
        depthwise=np.stack([np.full((3, 3), value) for value in (-8, 7, -8, 0)]),
        depthwise_bias=np.array([-1 << 40, 1 << 40, 0, -1]),
        depthwise_shift=np.array([30, 38, 10, 63]),
        pointwise=np.array([[-8] * 4, [7] * 4, [0, 0, -8, 0], [0] * 4]),
        pointwise_bias=np.array([[1 << 20, -1 << 30, 0, -1], [-1 << 40, 1 << 40, 480, 0]]),
        pointwise_shift=np.array([15, 26, 0, 63]))
    network = network_of([OdeBlock((extreme, separable(rng, 4, 4)), 3), OdeBlock((extreme,), 2),
                          Transition(replace(separable(rng, 4, 8), stride=2))], 4, (4, 5))
    given = states(network)
    hls.emit(network, 4, tmp_path)
    assert int((hls.simulate(tmp_path, given) != network.on_chip(given)).sum()) == 0


def test_a_kernel_with_a_fault_is_found_out(tmp_path: Path) -> None:
    """The comparison can fail: at the right edge of the image only, and in the testbench's own words."""
    case = Case((4,), (4, 5), 1, 1, pe=2)
    network = case.network()
    given = states(network)
    names = [*hls.emit(network, case.pe, tmp_path), *hls.vectors(network, given, tmp_path)]
    written = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*") if p.is_file()]
    assert sorted(written) == sorted(names)
    kernel = tmp_path / "dsode.cpp"
    right = "x == pass.width - 1 ? Value(0) : right"
    assert right in kernel.read_text()
    kernel.write_text(kernel.read_text().replace(right, "false ? Value(0) : right"))
    program = tmp_path / "testbench"
    hls.compile_testbench(tmp_path, program)
    wrong = hls.run_testbench(program, given) != network.on_chip(given)
    assert wrong[..., -1].any()
    assert not wrong[..., :-1].any()
    ran = process.run([str(program), *(str(tmp_path / f"{n}.bin") for n in ("states", "results", "expected"))],
                      timeout_s=60, what="testbench", check=False)
    assert ran.stdout == f"{wrong.sum()} of {wrong.size} values differ\n"
    assert ran.returncode == 1
    with pytest.raises(JobFailed, match="not the states of this network"):
        hls.run_testbench(program, given[..., 1:])


def test_it_compiles_without_a_warning_and_with_other_headers(tmp_path: Path) -> None:
    case = CASES["one convolution, biases of three steps"]
    network = case.network()
    hls.emit(network, case.pe, tmp_path)
    assert hls.compile_testbench(tmp_path, tmp_path / "testbench") == ""
    found = importlib.util.find_spec("hls4ml")
    if found is None or found.origin is None:
        pytest.skip("hls4ml, whose ap_int.h this would also compile with, is not installed")
    headers = Path(found.origin).parent / "templates" / "vivado" / "ap_types"
    hls.compile_testbench(tmp_path, tmp_path / "other", headers)
    given = states(network)
    assert int((hls.run_testbench(tmp_path / "other", given) != network.on_chip(given)).sum()) == 0


SHIM_TEST = """
#include "hls_stream.h"
#include "ap_int.h"
#include <iostream>

template <typename T>
void show(long long value) {
    T cut = value;
    std::cout << static_cast<long long>(cut) << " ";
}

int main() {
    for (long long value = -70; value < 70; value += 7) {
        show<ap_int<1>>(value);
        show<ap_int<4>>(value);
        show<ap_uint<4>>(value);
        show<ap_int<64>>(value);
    }
    ap_uint<64> bits = 0;
    bits.range(63, 56) = ap_int<8>(-2).range(7, 0);
    bits.range(11, 4) = 0x5a5;
    std::cout << std::hex << static_cast<unsigned long long>(bits) << std::dec << " ";
    show<ap_int<8>>(bits.range(63, 56));
    hls::stream<int> numbers("numbers");
    numbers.write(1);
    numbers.write(2);
    std::cout << numbers.read() << numbers.read() << std::endl;
    numbers.read();
}
"""


def test_the_stand_in_integers_wrap_around_and_an_empty_stream_is_an_error(tmp_path: Path) -> None:
    def wrapped(value: int, bits: int) -> int:
        return (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)

    shim = data.shipped("hls", "dsode", "hls", "shim")
    (tmp_path / "test.cpp").write_text(SHIM_TEST)
    process.run(["g++", f"-I{shim}", f"-I{shim / 'ap_int'}", str(tmp_path / "test.cpp"), "-o",
                 str(tmp_path / "test")], timeout_s=60, what="compiling the test of the stand-ins")
    ran = process.run([str(tmp_path / "test")], timeout_s=60, what="test", check=False)
    *words, last = ran.stdout.split("\n", 1)[0].split()
    expected = [str(text) for value in range(-70, 70, 7)
                for text in (wrapped(value, 1), wrapped(value, 4), value % 16, value)]
    assert words == [*expected, "fe00000000000a50", "-2"]
    assert last == "12"
    assert ran.returncode != 0
    assert "read of the empty stream numbers" in ran.stdout


def test_the_same_network_gives_the_same_text(tmp_path: Path) -> None:
    case = Case((8, 16), (6, 6), 2, 2, pe=4)
    names = hls.emit(case.network(), 4, tmp_path / "a")
    assert hls.emit(case.network(), 4, tmp_path / "b") == names
    hls.emit(case.network(seed=5), 4, tmp_path / "c")

    def differing(other: str) -> list[str]:
        return [n for n in names if (tmp_path / "a" / n).read_bytes() != (tmp_path / other / n).read_bytes()]

    assert differing("b") == []
    assert "weights.hpp" in differing("c")
    assert set(differing("c")) <= {"config.hpp", "weights.hpp"}


def test_weights_stand_there_once_and_passes_share_them() -> None:
    """Ten steps are ten times the passes over the same rows; only the row of biases moves."""
    network = Case((8,), (6, 6), 10, 2, pe=4, rows=3).network()
    passes = hls.program(network, 4)
    assert len(passes) == 20
    assert {(p.depthwise, p.pointwise) for p in passes} == {(0, 0), (2, 2)}
    assert [p.bias for p in passes[:8]] == [0, 6, 2, 8, 4, 10, 0, 6]
    assert [p.source for p in passes[:4]] == [0, 1, 0, 1]      # the second adds to the state where it stands


def test_the_script_is_for_one_part_and_one_clock() -> None:
    script = hls.build_script("xczu3eg-sbva484-1-e", 5.0)
    assert "set_part xczu3eg-sbva484-1-e\n" in script
    assert "create_clock -period 5 " in script
    assert "Not run with vendor tools" in script
    assert "@" not in script
    for command in ("set_top dsode", "add_files dsode.cpp", "add_files -tb testbench.cpp", "csim_design",
                    "csynth_design", "export_design -format ip_catalog"):
        assert command in script


def one(conv: Separable, **changes: object) -> IntegerNetwork:
    changed = replace(conv, **changes)  # type: ignore[arg-type]
    return network_of([OdeBlock((changed,), 1)], 4, (4, 4))


CONV = separable(np.random.default_rng(2), 4, 4)
REFUSED = {
    "pe=3 does not divide the 4 channels of the first state": (one(CONV), 3),
    "pe=0 does not divide": (one(CONV), 0),
    "down1: pe=4 does not divide its 6 channels": (
        network_of([Transition(separable(np.random.default_rng(2), 4, 6, 2))], 4, (4, 4)), 4),
    "ode1.conv1: a shift is negative": (one(CONV, pointwise_shift=np.array([0, 1, -1, 0])), 4),
    "ode1.conv1: a sum needs 52 bits, the engine has 48": (one(CONV, pointwise_bias=np.full((1, 4), 1 << 50)), 4),
    "ode1: f must keep the state's shape": (one(CONV, stride=2), 4),
    "ode1: f has 3 convolutions": (network_of([OdeBlock((CONV,) * 3, 1)], 4, (4, 4)), 4),
    "middle_high is 255": (replace(one(CONV), middle_high=255), 4),
    "has no ODE block": (replace(one(CONV), core=()), 4),
    "depthwise weights go from": (one(CONV, depthwise=CONV.depthwise * 2), 4),
}


@pytest.mark.parametrize(("message", "case"), REFUSED.items(), ids=REFUSED.keys())
def test_what_the_kernel_cannot_do_is_refused_before_anything_is_written(
        message: str, case: tuple[IntegerNetwork, int], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        hls.emit(*case, tmp_path / "sources")
    assert list(tmp_path.iterdir()) == []


def test_states_outside_int8_are_refused(tmp_path: Path) -> None:
    network = one(CONV)
    with pytest.raises(BadInput, match=r"in -128\.\.127"):
        hls.vectors(network, states(network) + 1, tmp_path)


def test_without_a_compiler_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hls.emit(one(CONV), 4, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match=r"g\+\+ is not installed") as caught:
        hls.simulate(tmp_path, states(one(CONV)))
    assert "apt-get install g++" in caught.value.line()
