"""Reports of Vivado and Vitis HLS, and the scripts for them run end to end by stand-ins of the tools.

The reports are in the tools' format with made-up numbers: tests/eda/reports/README.md.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.artifact import BuildPlan, Command
from hwkit.backends.dsode import lab
from hwkit.backends.dsode.emit import stream_bits, write_design
from hwkit.backends.dsode.engine import engine_for
from hwkit.eda import vitis, vivado
from hwkit.errors import BadInput, JobFailed, ToolMissing
from hwkit.integer.separable import Head, IntegerNetwork, OdeBlock, Separable, Stem, Transition

TESTS = Path(__file__).resolve().parent.parent
REPORTS = TESTS / "eda" / "reports"
STANDINS = TESTS / "standins"
PART = "xczu7ev-ffvc1156-2-e"
needs_tcl = pytest.mark.skipif(shutil.which("tclsh") is None, reason="apt-get install tcl")

PARSERS: dict[str, Callable[[str, str], Any]] = {
    "utilization.rpt": vivado.parse_utilization, "timing.rpt": vivado.parse_timing,
    "power.rpt": vivado.parse_power, "dsode_csynth.xml": vitis.parse_csynth}
each = pytest.mark.parametrize(("file", "parse"), PARSERS.items(), ids=PARSERS.keys())


def text(file: str) -> str:
    return (REPORTS / file).read_text()


def changed(file: str, old: str, new: str) -> str:
    assert old in text(file)
    return text(file).replace(old, new)


# ------------------------------------------------------------------ what they say

def test_resources_are_spelt_and_counted_as_everywhere() -> None:
    found = vivado.parse_utilization(text("utilization.rpt"))
    assert found == {"LUT": 41237, "FF": 52318, "DSP": 848, "BRAM_18K": 207, "URAM": 12}


OLDER = """
+-------------------------+------+-------+-----------+-------+
|        Site Type        | Used | Fixed | Available | Util% |
+-------------------------+------+-------+-----------+-------+
| Slice LUTs*             | 1235 |     0 |     53200 |  2.32 |
|   LUT as Logic          | 1235 |     0 |     53200 |  2.32 |
| Slice Registers         |  180 |     0 |    106400 |  0.17 |
+-------------------------+------+-------+-----------+-------+
+----------------+------+-------+-----------+-------+
|    Site Type   | Used | Fixed | Available | Util% |
+----------------+------+-------+-----------+-------+
| Block RAM Tile |  2.5 |     0 |       140 |  1.79 |
+----------------+------+-------+-----------+-------+
+-----------+------+-------+-----------+-------+
| Site Type | Used | Fixed | Available | Util% |
+-----------+------+-------+-----------+-------+
| DSPs      |    3 |     0 |       220 |  1.36 |
+-----------+------+-------+-----------+-------+
"""


def test_a_part_without_uram_and_a_version_with_fewer_columns() -> None:
    assert vivado.parse_utilization(OLDER) == {"LUT": 1235, "FF": 180, "DSP": 3, "BRAM_18K": 5, "URAM": 0}


def test_regions_of_a_large_part_are_not_taken_for_the_whole() -> None:
    regions = ("\n+-----------+------+------+\n| Site Type | SLR0 | SLR1 |\n+-----------+------+------+\n"
               "| CLB LUTs  |    1 |    2 |\n| DSPs      |    3 |    4 |\n+-----------+------+------+\n")
    assert vivado.parse_utilization(text("utilization.rpt") + regions) == vivado.parse_utilization(
        text("utilization.rpt"))


def test_timing_that_is_met_and_timing_that_is_not() -> None:
    found = vivado.parse_timing(text("timing.rpt"))
    assert found.wns_s == pytest.approx(0.187e-9)
    assert found.whs_s == pytest.approx(0.011e-9)
    assert found.met
    late = changed("timing.rpt", "      0.187        0.000 ", "     -1.402      -50.100 ").replace(
        "All user specified timing constraints are met.", "Timing constraints are not met.")
    found = vivado.parse_timing(late)
    assert found.wns_s == pytest.approx(-1.402e-9)
    assert not found.met


def test_hold_alone_can_fail() -> None:
    late = changed("timing.rpt", "0.011        0.000", "-0.011       -0.011").replace(
        "All user specified timing constraints are met.", "Timing constraints are not met.")
    found = vivado.parse_timing(late)
    assert found.wns_s > 0
    assert not found.met


def test_power_is_split_and_comes_with_the_tools_own_doubt() -> None:
    found = vivado.parse_power(text("power.rpt"))
    assert (found.total_w, found.dynamic_w, found.static_w) == (5.301, 4.577, 0.725)
    assert found.confidence == "Medium"
    hot = changed("power.rpt", "| 5.301        |", "| 5.301 (Junction temp exceeded!) |")
    assert vivado.parse_power(hot) == found


def test_a_kernels_estimates() -> None:
    found = vitis.parse_csynth(text("dsode_csynth.xml"))
    assert (found.top, found.part, found.tool) == ("dsode", PART, "Vitis HLS 2023.2")
    assert found.target_clock_s == pytest.approx(5e-9)
    assert found.estimated_clock_s == pytest.approx(3.587e-9)
    assert found.latency_cycles == (20011, 21044)
    assert found.interval_cycles == (20012, 21045)
    assert found.resources == {"LUT": 61023, "FF": 40110, "DSP": 512, "BRAM_18K": 77, "URAM": 8}


def test_cycles_that_hls_does_not_know_and_older_names() -> None:
    report = changed("dsode_csynth.xml", "20011", "undef").replace("<URAM>8</URAM>\n", "").replace(
        "<DSP>512</DSP>", "<DSP48E>512</DSP48E>")
    found = vitis.parse_csynth(report)
    assert found.latency_cycles is None
    assert found.interval_cycles is not None
    assert (found.resources["DSP"], found.resources["URAM"]) == (512, 0)


# ------------------------------------------------------------------ what is no report

def read_or_refused(parse: Any, report: str, file: str) -> Any:
    """What it says; None where it is refused, in one line that names the file."""
    try:
        return parse(report, file)
    except BadInput as e:
        line = e.line()
    assert line.startswith(f"{file}: ")
    assert "\n" not in line
    return None


@each
def test_a_report_cut_short_anywhere_is_refused_or_whole(file: str, parse: Any) -> None:
    """Every prefix: a number that is cut in two must never be taken for one."""
    whole = text(file)
    expected = parse(whole, file)
    taken = 0
    for end in range(len(whole)):
        found = read_or_refused(parse, whole[:end], file)
        assert found in (None, expected), f"cut at {end}"
        taken += found is not None
    assert taken < len(whole) * 0.8
    with pytest.raises(BadInput):
        parse(whole[:len(whole) // 3], file)


@each
def test_damaged_reports_are_read_or_refused_in_one_line(file: str, parse: Any) -> None:
    rng = random.Random(5)
    lines = text(file).splitlines(keepends=True)
    for _ in range(400):
        mutated = list(lines)
        for _ in range(rng.randint(1, 4)):
            k = rng.randrange(len(mutated))
            kind = rng.randrange(4)
            if kind == 0:
                del mutated[k]
            elif kind == 1:
                mutated.insert(k, rng.choice(lines))
            else:
                at = rng.randrange(len(mutated[k]))
                mutated[k] = mutated[k][:at] + rng.choice("|+- 0\0é.x<\n") + mutated[k][at + kind - 2:]
        read_or_refused(parse, "".join(mutated), file)


@each
def test_other_files_are_refused(file: str, parse: Any) -> None:
    others = [text(other) for other in PARSERS if other != file]
    for wrong in ("", "\n", "\0" * 100, "<profile/>", "a | b | c\n" * 10, *others):
        with pytest.raises(BadInput, match=file):
            parse(wrong, file)


WRONG = {
    "it has no row of FF": ("utilization.rpt", "CLB Registers ", "CLB Rogisters "),
    "CLB LUTs is '-3'|CLB LUTs is -3": ("utilization.rpt", "| 41237 |", "|    -3 |"),
    "Block RAM Tile is 103.3": ("utilization.rpt", "103.5", "103.3"),
    "DSPs is '<1'": ("utilization.rpt", "|  848 |     0 |", "|   <1 |     0 |"),
    "two rows say URAM": ("utilization.rpt", "|   RAMB18   ", "| URAM       "),
    "worst slack is -0.187": ("timing.rpt", "  0.187  ", " -0.187  "),
    'says "Timing constraints are not met."': (
        "timing.rpt", "All user specified timing constraints are met.", "Timing constraints are not met."),
    "no path was timed: the design has no clock": (
        "timing.rpt", "All user specified timing constraints are met.",
        "There are no user specified timing constraints."),
    "no path was timed": ("timing.rpt", "      0.187  ", "         NA  "),
    "WHS.ns. is 'nan'": ("timing.rpt", "0.011  ", "nan    "),
    "are not 5.9": ("power.rpt", "| 5.301        |", "| 5.9          |"),
    "gives no number for Dynamic": ("power.rpt", "| 4.577        |", "| Unspecified* |"),
    "it has no row Confidence Level": ("power.rpt", "| Confidence Level ", "| Canfidence Level "),
    "it has no row Device Static": ("power.rpt", "| Device Static (W) ", "| Device Stitic (W) "),
    "TargetClockPeriod is 0 ns": ("dsode_csynth.xml", ">5.00<", ">0<"),
    "EstimatedClockPeriod is nan ns": ("dsode_csynth.xml", ">3.587<", ">nan<"),
    "EstimatedClockPeriod is 3.587 ps": (
        "dsode_csynth.xml", "<unit>ns</unit>\n<Est", "<unit>ps</unit>\n<Est"),
    "no count of FF": ("dsode_csynth.xml", "<FF>40110</FF>\n", ""),
    "LUT is '6e4'": ("dsode_csynth.xml", "61023", "6e4"),
    "it has no UserAssignments/Part": ("dsode_csynth.xml", "<Part>xczu7ev-ffvc1156-2-e</Part>", ""),
    "declares entities": ("dsode_csynth.xml", "<profile>\n<Rep", "<!DOCTYPE profile>\n<profile>\n<Rep"),
}


@pytest.mark.parametrize(("message", "change"), WRONG.items(), ids=WRONG.keys())
def test_numbers_that_cannot_be_are_refused(message: str, change: tuple[str, str, str]) -> None:
    file, old, new = change
    with pytest.raises(BadInput, match=message):
        PARSERS[file](changed(file, old, new), file)


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"utilization\.rpt: there is no report: No such file"):
        vivado.collect(tmp_path)
    with pytest.raises(BadInput, match=r"dsode_csynth\.xml: there is no report"):
        vitis.collect(tmp_path, "dsode")
    (tmp_path / "utilization.rpt").write_text(" \n")
    with pytest.raises(BadInput, match=r"utilization\.rpt: the report is empty"):
        vivado.collect(tmp_path)


# ------------------------------------------------------------------ the scripts, by stand-ins

def small() -> IntegerNetwork:
    def separable(inputs: int, outputs: int, stride: int = 1) -> Separable:
        ones = np.ones(inputs, np.int64)
        return Separable(np.ones((inputs, 3, 3), np.int64), 8 << 3 * ones, 3 * ones,
                         np.ones((outputs, inputs), np.int64), np.zeros((1, outputs), np.int64),
                         np.ones(outputs, np.int64), stride)
    ones = np.ones(8, np.int64)
    return IntegerNetwork(
        "small", (1, 4, 4), Stem(np.ones((8, 1, 3, 3), np.int64), 0 * ones, ones, 1, 1.0),
        (OdeBlock((separable(8, 8),), 2), Transition(separable(8, 16, 2)), OdeBlock((separable(16, 16),), 1)),
        Head(np.ones((2, 16), np.int64), np.zeros(2, np.int64), 1.0))


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as `lab.emit` writes it, with the stand-ins first on PATH."""
    monkeypatch.setenv("PATH", f"{STANDINS}{os.pathsep}{os.environ['PATH']}")
    network = small()
    engine = engine_for(network, 8)
    write_design(network, engine, stream_bits(engine, 128), tmp_path)
    lab.emit(network, engine, stream_bits(engine, 128), PART, 200e6, tmp_path)
    return tmp_path


def execute(commands: tuple[Command, ...], folder: Path) -> None:
    BuildPlan(commands=commands).execute(folder)


@needs_tcl
def test_the_vivado_scripts_run_to_a_bitstream_and_its_reports(build: Path) -> None:
    steps = vivado.commands("lab/vivado")
    assert [step.argv[1:3] for step in steps] == [("-mode", "batch")] * 2
    execute(steps, build)
    for name in ("design.bit", "design.hwh", "design.xsa", "ip/component.xml"):
        assert (build / "lab" / "vivado" / name).is_file(), name
    found = vivado.collect(build / "lab" / "vivado" / "reports")
    assert found.resources["DSP"] == 848
    assert found.timing.met
    assert found.power.static_w == 0.725
    assert found.tool == "Vivado v.2023.2"


@needs_tcl
def test_the_hls_script_runs_to_its_report(build: Path) -> None:
    steps = vitis.commands("lab/hls")
    execute(steps, build)
    assert vitis.collect(build / "lab" / "hls", "dsode").latency_cycles == (20011, 21044)


@needs_tcl
def test_a_board_is_passed_on_and_must_be_known(build: Path) -> None:
    execute(vivado.commands("lab/vivado", "xilinx.com:zcu104:part0:1.1"), build)
    with pytest.raises(JobFailed) as caught:
        execute(vivado.commands("lab/vivado", "xilinx.com:zcu999:part0:1.0")[1:], build)
    assert "no board xilinx.com:zcu999:part0:1.0" in vivado.explained(caught.value).line()


@needs_tcl
@pytest.mark.parametrize(("name", "value", "message"), [
    ("STANDIN_SLACK", "-0.125", r"timing is not met: setup slack -0\.125 ns at 200 MHz"),
    ("STANDIN_SLACK", "", "the design has no clock"),
    ("STANDIN_FAILS", "synth_1", "synth_1 failed: synth_1 ERROR; its log is"),
    ("STANDIN_FAILS", "impl_1", "impl_1 failed")])
def test_a_build_that_fails_says_why_and_leaves_no_bitstream(
        name: str, value: str, message: str, build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(vivado.commands("lab/vivado"), build)
    monkeypatch.setenv(name, value)
    with pytest.raises(JobFailed, match=r"Vivado running build\.tcl: failed with exit code 1") as caught:
        execute(vivado.commands("lab/vivado")[1:], build)
    with pytest.raises(JobFailed, match=message):
        raise vivado.explained(caught.value)
    assert not list((build / "lab" / "vivado").glob("design.*"))
    assert (name == "STANDIN_SLACK") == (build / "lab" / "vivado" / "reports" / "timing.rpt").is_file()


@needs_tcl
@pytest.mark.parametrize(("script", "old", "new", "message"), [
    ("build.tcl", "memory/aclk ", "", "memory/aclk is not connected"),
    ("build.tcl", "bus engine/m_axis dma/S_AXIS_S2MM\n", "", "engine/m_axis is not connected"),
    ("build.tcl", "-to_step write_bitstream", "-to_stop write_bitstream", "unknown option -to_stop"),
    ("build.tcl", "create_bd_design design", "create_bd_desing design", "invalid command name"),
    ("build.tcl", "0xA0010000", "0xA0000000", "two segments at one address"),
    ("build.tcl", "pins ps/pl_resetn0 ", "pins ps/pl_clk0 ", "ps/pl_clk0 cannot drive reset/ext_reset_in"),
    ("build.tcl", "bus ps/M_AXI_HPM0_FPD", "bus ps/M_AXI_HPM1_FPD", "ps has no pin M_AXI_HPM1_FPD"),
    ("build.tcl", "proc bus {from to} {", "proc bus {from to} {{", "missing close-brace"),
    ("package_ip.tcl", "{s_axi s_axis m_axis}", "{s_axi s_axis}", "clocks of s_axi s_axis aresetn only"),
    ("package_ip.tcl", "$top.sv]", "$top.v]", "get_files: no file dsode_top.v"),
])
def test_the_stand_in_finds_faults_of_a_script(script: str, old: str, new: str, message: str, build: Path) -> None:
    """Else a run by it would show nothing."""
    path = build / "lab" / "vivado" / script
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(JobFailed) as caught:
        execute(vivado.commands("lab/vivado"), build)
    assert message in caught.value.log


@needs_tcl
def test_scripts_need_the_rtl_and_the_ip(build: Path) -> None:
    with pytest.raises(JobFailed, match=r"run package_ip\.tcl first"):
        execute(vivado.commands("lab/vivado")[1:], build)
    (build / "rtl" / "core.sv").unlink()
    with pytest.raises(JobFailed, match=r"core\.sv is missing"):
        execute(vivado.commands("lab/vivado"), build)


def test_without_the_tools_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not vivado.available()
    assert not vitis.available()
    with pytest.raises(ToolMissing, match="vivado is not installed"):
        vivado.commands("lab/vivado")
    with pytest.raises(ToolMissing, match="vitis_hls or vitis-run is not installed"):
        vitis.commands("lab/hls")


def test_the_newer_name_of_the_hls_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vitis-run").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert vitis.commands("lab/hls")[0].argv[1:] == ("--mode", "hls", "--tcl", "lab/hls/build.tcl")


def test_an_error_without_a_line_of_the_tool_stays_as_it_is() -> None:
    error = JobFailed("Vivado running build.tcl: took longer than 5 s", log="INFO: going on\n")
    assert vivado.explained(error) is error
