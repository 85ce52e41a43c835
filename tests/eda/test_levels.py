"""Logic levels of netlists made by hand, and of random ones against a search of all paths."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwkit.eda.levels import Levels, longest
from hwkit.errors import BadInput
from tests.eda.conftest import Run

OUTPUTS = {"O", "Q", "CO", "P", "PCOUT", "DOA", "DOB", "DOUTADOUT", "DOUT_A"}
Cells = dict[str, tuple[Any, ...]]


def netlist(tmp_path: Path, cells: Cells, inputs: tuple[int, ...] = (), outputs: tuple[int, ...] = ()) -> Levels:
    """Levels of name -> (type, {pin: bits}, parameters); net n is called "n<n>"."""
    nets: set[int] = set()
    made = {}
    for name, (kind, pins, *parameters) in cells.items():
        nets |= {b for bits in pins.values() for b in bits if isinstance(b, int)}
        made[name] = {"type": kind, "hide_name": 0, "parameters": parameters[0] if parameters else {},
                      "connections": pins,
                      "port_directions": {p: "output" if p in OUTPUTS else "input" for p in pins}}
    ports = {f"in{n}": {"direction": "input", "bits": [n]} for n in inputs}
    ports |= {f"out{n}": {"direction": "output", "bits": [n]} for n in outputs}
    path = tmp_path / "netlist.json"
    names = {f"n{n}": {"hide_name": 0, "bits": [n]} for n in nets}
    path.write_text(json.dumps({"modules": {"top": {"cells": made, "ports": ports, "netnames": names}}}))
    return longest(path, "top")


def ff(d: int | str, q: int, **pins: int) -> tuple[str, dict[str, list[int | str]]]:
    return "FDRE", {"C": [999], "D": [d], "Q": [q], **{p: [n] for p, n in pins.items()}}


def lut(output: int, *inputs: int | str) -> tuple[str, dict[str, list[int | str]]]:
    return f"LUT{len(inputs)}", {"O": [output], **{f"I{i}": [n] for i, n in enumerate(inputs)}}


def carry(first: int, ci: int | str, select: list[int | str]) -> tuple[str, dict[str, list[int | str]]]:
    """Sum bits are nets first .. first + 3, carries first + 4 .. first + 7."""
    return "CARRY4", {"CI": [ci], "CYINIT": ["0"], "DI": ["0"] * 4, "S": select,
                      "O": [first + i for i in range(4)], "CO": [first + 4 + i for i in range(4)]}


def test_two_luts_between_registers(tmp_path: Path) -> None:
    found = netlist(tmp_path, {"a": ff("0", 1), "x": lut(2, 1, "1"), "y": lut(3, 2, 1), "b": ff(3, 4)})
    assert (found.worst.levels, found.worst.chains) == (2, 0)
    assert found.worst.text() == "n1 (FDRE) -> LUT2 -> LUT2 -> b (FDRE.D)"
    assert found.endpoints == {2: 1}


def test_every_kind_of_endpoint(tmp_path: Path) -> None:
    found = netlist(tmp_path, {
        "a": ff("0", 1), "x": lut(2, 1), "y": lut(3, 2), "z": lut(4, 3),
        "d": ff(2, 10), "ce": ff("0", 11, CE=3), "r": ff("0", 12, R=4),
        "ram": ("RAMB18E2", {"ADDRARDADDR": [2], "CLKARDCLK": [4], "DOUTADOUT": [20]}),
        "ultra": ("URAM288", {"ADDR_A": [3], "CLK": [4], "DOUT_A": [21]}),
        "mul": ("DSP48E2", {"A": [4], "CLK": [4], "P": [22]}),
        "srl": ("SRLC32E", {"D": [2], "A": ["0"], "CLK": [4], "Q": [23]}),
        "lutram": ("RAM32M16", {"DIA": [3], "ADDRA": ["0"], "WCLK": [4], "DOA": [24]})}, outputs=(4,))
    levels = {end: path.levels for end, path in found.by_endpoint.items()}
    assert levels == {"FF.D": 1, "FF.CE": 2, "FF.R": 3, "BRAM": 1, "URAM": 2, "DSP": 3, "SRL": 1, "LUTRAM": 2,
                      "output": 3}


def test_a_long_carry_chain_is_one_level(tmp_path: Path) -> None:
    cells: Cells = {"a": ff("0", 1), "x": lut(2, 1)}
    for i in range(8):
        cells[f"c{i}"] = carry(100 + 10 * i, 2 if i == 0 else 100 + 10 * (i - 1) + 7, [2] * 4)
    cells["b"] = ff(100 + 70 + 3, 3)
    found = netlist(tmp_path, cells).worst
    assert (found.levels, found.chains) == (2, 1)
    assert found.text() == "n1 (FDRE) -> LUT1 -> CARRY4 -> b (FDRE.D)"


def test_a_second_chain_counts_again(tmp_path: Path) -> None:
    found = netlist(tmp_path, {"a": ff("0", 1), "c": carry(10, "0", [1] * 4), "e": carry(20, "0", [13] * 4),
                               "b": ff(23, 3)}).worst
    assert (found.levels, found.chains) == (2, 2)


def test_a_low_sum_bit_may_feed_the_high_bits_of_its_own_chain(tmp_path: Path) -> None:
    found = netlist(tmp_path, {"a": ff("0", 1), "c": carry(10, "0", [1, 1, 1, 2]), "x": lut(2, 10),
                               "b": ff(13, 3)})
    assert (found.worst.levels, found.worst.chains) == (3, 2)


def test_reads_without_a_clock_are_a_level(tmp_path: Path) -> None:
    ram = ("RAM32M16", {"ADDRA": [1], "ADDRB": [5], "DIA": ["0"], "WCLK": [9], "DOA": [2], "DOB": [3]})
    found = netlist(tmp_path, {"a": ff("0", 4), "x": lut(1, 4), "ram": ram, "b": ff(2, 10), "c": ff(3, 11)})
    assert found.by_endpoint["FF.D"].text() == "n4 (FDRE) -> LUT1 -> RAM32M16 -> b (FDRE.D)"
    assert found.by_endpoint["FF.D"].levels == 2
    assert found.endpoints == {0: 1, 1: 2, 2: 1}      # ADDRB at 0, ADDRA and the read of DOB at 1, DOA at 2
    found = netlist(tmp_path, {"s": ("SRLC32E", {"D": [1], "A": ["0"], "CLK": [9], "Q": [2]}), "b": ff(2, 10)})
    assert found.worst.levels == 1


@pytest.mark.parametrize(("registers", "levels"), [({}, 0), ({"PREG": 0}, 0), ({"PREG": 0, "MREG": 0}, 0),
                                                   ({"PREG": 0, "MREG": 0, "AREG": "0" * 32}, 2)])
def test_a_dsp_is_passed_through_only_without_registers(
        tmp_path: Path, registers: dict[str, int | str], levels: int) -> None:
    dsp = ("DSP48E2", {"A": [2], "B": ["0"], "CLK": [9], "P": [3]}, registers)
    found = netlist(tmp_path, {"a": ff("0", 1), "x": lut(2, 1), "mul": dsp, "b": ff(3, 4)}).by_endpoint["FF.D"]
    assert (found.levels, found.dsps) == (levels, int(levels > 0))


def test_a_loop_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"combinational loop: n3 -> n2 -> n3|combinational loop: n2 -> n3 -> n2"):
        netlist(tmp_path, {"x": lut(2, 3, 1), "y": lut(3, 2), "b": ff(3, 4)}, inputs=(1,))


def test_bad_netlists(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="mystery"):
        netlist(tmp_path, {"x": ("mystery", {"A": [1]})})
    with pytest.raises(BadInput, match="no paths"):
        netlist(tmp_path, {"x": lut(2, 1)})
    (tmp_path / "netlist.json").write_text("{}")
    with pytest.raises(BadInput, match="not a netlist of top"):
        longest(tmp_path / "netlist.json", "top")


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_logic_against_all_its_paths(tmp_path: Path, data: st.DataObject) -> None:
    """A LUT may read any net before it; net 0 is a register's. The depth by plain recursion must agree."""
    size = data.draw(st.integers(1, 25))
    reads = [data.draw(st.lists(st.integers(0, i), min_size=1, max_size=4)) for i in range(size)]

    @cache
    def depth(net: int) -> int:
        return 0 if net == 0 else 1 + max(depth(n) for n in reads[net - 1])

    order = data.draw(st.permutations(range(size)))
    cells: Cells = {"a": ff("0", 0)} | {f"x{i}": lut(i + 1, *reads[i]) for i in order}
    cells["end"] = ff(size, 500)
    assert netlist(tmp_path, cells).worst.levels == depth(size)


def test_of_a_real_design(dut: Run) -> None:
    """mac: a register, an unregistered multiplier, adders and a saturation behind it."""
    assert dut.done.netlist_json is not None
    found = longest(dut.done.netlist_json, "dut")
    assert set(found.by_endpoint) == {"BRAM", "DSP", "FF.CE", "FF.D", "FF.R", "LUTRAM", "SRL", "URAM", "output"}
    worst = found.worst
    assert worst.dsps == 1
    assert 1 <= worst.chains <= 3
    assert worst.steps[-1].net.startswith("mac[")
    assert found.by_endpoint["URAM"].levels == 0
