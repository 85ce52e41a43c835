"""Every shipped target and board loads, and they fit together. No board's name stands in the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import hwkit
from hwkit import board as boards
from hwkit import runners
from hwkit import target as targets
from hwkit.data import data_root
from hwkit.errors import BadDescription, UnknownName
from hwkit.measurement import RESOURCES
from hwkit.runners import _guest

MADE_UP = """
name = "bench-pi"
description = "the one on the bench"
target = "rpi4"
kind = "simulated"
runner = "qemu_user"
options = { cpu = "cortex-a72" }
"""


@pytest.mark.parametrize("name", targets.names())
def test_every_target_loads(name: str) -> None:
    found = targets.target(name)
    assert found.backends
    assert found.precisions
    if found.cpu and found.cpu.instructions_per_cycle:
        assert 0 < found.cpu.instructions_per_cycle.low < found.cpu.instructions_per_cycle.high


@pytest.mark.parametrize("name", boards.names())
def test_every_board_fits_its_target_and_its_runner(name: str) -> None:
    board = boards.board(name)
    assert targets.target(board.target).name == board.target
    assert isinstance(runners.runner(board.runner).missing(board), list)      # validates its options


@pytest.mark.parametrize("name", [n for n in boards.names() if boards.board(n).runner == "qemu_user"])
def test_an_emulated_core_is_the_targets_own(name: str) -> None:
    board = boards.board(name)
    cpu = targets.target(board.target).cpu
    assert cpu is not None
    assert cpu.core == board.options["cpu"]
    assert list(cpu.features) == _guest.cpu(cpu.core).features.split()


def test_every_published_or_assumed_figure_has_a_source_that_says_something() -> None:
    for path in data_root().glob("targets/*/target.toml"):
        for source in re.findall(r'source = "([^"]*)"', path.read_text()):
            assert len(source) > 15, f"{path}: {source}"


def test_the_expected_targets_and_boards_are_shipped() -> None:
    assert {"host", "rpi3", "rpi4", "rpi5", "zcu104", "zcu104-ps", "jetson-nano", "jetson-tx2", "jetson-xavier-nx",
            "jetson-orin-nano", "jetson-agx-orin", "cuda"} <= set(targets.names())
    assert {"host", "qemu-rpi3", "qemu-rpi4", "qemu-rpi5", "qemu-zcu104-ps"} <= set(boards.names())


def test_programmable_logic_has_totals_limits_and_an_assumed_clock() -> None:
    logic = targets.target("zcu104").fpga
    assert logic is not None
    assert {r: logic.total(r) for r in RESOURCES} == {
        "LUT": 230_400, "FF": 460_800, "DSP": 1_728, "BRAM_18K": 624, "URAM": 96}
    assert {r: logic.limit(r) for r in RESOURCES} == {         # rounded down: a part of a DSP is none
        "LUT": 161_280, "FF": 230_400, "DSP": 1_382, "BRAM_18K": 499, "URAM": 76}
    assert logic.totals.LUTRAM.value < logic.totals.LUT.value
    assert logic.clock_hz.kind == "assumed"
    assert targets.target("zcu104").totals["URAM"] == 96
    assert targets.target("rpi4").totals == {}
    assert logic.power is not None
    for name in type(logic.power).model_fields:
        interval = getattr(logic.power, name)
        assert 0 < interval.low < interval.high, name


def test_energy_is_each_count_times_its_coefficient() -> None:
    logic = targets.target("zcu104").fpga
    assert logic is not None
    assert logic.power is not None
    assert logic.power.idle_w() == pytest.approx((2.1, 4.0))
    # 1,312 DSPs and 35,344 LUTs at work for 31,148 cycles, and 8 URAMs read and written in each of them
    low, high = logic.power.inference_j(dsp_cycles=1_312 * 31_148, lut_cycles=35_344 * 31_148, bram_accesses=0,
                                        uram_accesses=16 * 31_148)
    assert low == pytest.approx(61.30e-6 + 22.02e-6 + 7.48e-6, rel=1e-3)
    assert high == pytest.approx(326.93e-6 + 220.18e-6 + 29.90e-6, rel=1e-3)
    assert logic.power.inference_j(dsp_cycles=0, lut_cycles=0, bram_accesses=1, uram_accesses=0) == pytest.approx(
        (3e-12, 15e-12))


@pytest.mark.parametrize(("old", "new", "words"), [
    ("LUT = 0.7", "LUT = 70", "fpga.usable.LUT: input should be less than or equal to 1"),
    ("DSP = { value = 1_728", "DSP = { value = 1_728.5", "fpga.totals: value error, DSP is a count"),
    ("URAM = 0.8", "URAMS = 0.8", "fpga.usable.URAMS: unknown key; did you mean 'URAM'?"),
    ("stream_bits = 128", "stream_bits = 100", "fpga.stream_bits: input should be a multiple of 8"),
])
def test_wrong_programmable_logic_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str,
                                              words: str) -> None:
    text = (data_root() / "targets/zcu104/target.toml").read_text()
    assert old in text
    (tmp_path / "targets/mine").mkdir(parents=True)
    (tmp_path / "targets/mine/target.toml").write_text(
        text.replace('name = "zcu104"', 'name = "mine"').replace(old, new, 1))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadDescription) as caught:
        targets.target("mine")
    assert words in caught.value.line()


def strings(path: Path) -> str:
    """All string constants of a module that are not docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings]
    return "\n".join(node.value for node in constants if isinstance(node.value, str))


def test_no_board_is_named_in_the_code() -> None:
    package = Path(hwkit.__file__).parent
    names = [n for n in (*boards.names(), *targets.names()) if n not in ("host", "cuda")]
    found = [f"{path.relative_to(package)}: {name}" for path in package.rglob("*.py") for text in [strings(path)]
             for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)]
    assert found == []


def test_a_board_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards/bench-pi.toml").write_text(MADE_UP)
    monkeypatch.chdir(tmp_path)
    assert boards.board("bench-pi").description == "the one on the bench"
    assert "bench-pi" in [b.name for b in boards.at_hand("rpi4")]


@pytest.mark.parametrize(("old", "new", "words"), [
    ('kind = "simulated"', 'kind = "guessed"', "kind: "),
    ('runner = "qemu_user"', 'runer = "qemu_user"', "did you mean 'runner'"),
    ('name = "bench-pi"', 'name = "other"', "stands where 'bench-pi' is looked up"),
])
def test_a_wrong_board_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str,
                                   words: str) -> None:
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards/bench-pi.toml").write_text(MADE_UP.replace(old, new))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadDescription) as caught:
        boards.board("bench-pi")
    assert words in caught.value.line()
    assert "bench-pi.toml" in caught.value.line()


def test_a_mistyped_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="nearest: qemu-rpi4"):
        boards.board("qemu-rpi44")
