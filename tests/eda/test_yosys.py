"""Synthesis: what a design takes, counted by hand; the cache; mistakes in sources as one line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hwkit.eda import yosys
from hwkit.eda.resources import Resources
from hwkit.eda.yosys import synthesize
from hwkit.errors import BadInput, HwkitError, JobFailed, ToolMissing
from tests.eda.conftest import DUT, TAKES, Run

ADDER = """
module adder #(parameter WIDTH = 4) (input wire clk, input wire [WIDTH-1:0] a, output reg [WIDTH-1:0] sum);
  wire [WIDTH-1:0] next;
  plus #(WIDTH) plus (sum, a, next);
  always @(posedge clk) sum <= next;
endmodule
module plus #(parameter WIDTH = 4) (input wire [WIDTH-1:0] a, input wire [WIDTH-1:0] b, output wire [WIDTH-1:0] y);
  assign y = a + b;
endmodule
"""


def design(tmp_path: Path, text: str, name: str = "design.sv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def refused(tmp_path: Path, text: str, **options: object) -> HwkitError:
    with pytest.raises(HwkitError) as caught:
        synthesize([design(tmp_path, text)], "m", {}, tmp_path / "work", **options)   # type: ignore[arg-type]
    return caught.value


def test_a_design_takes_what_was_counted_by_hand(dut: Run) -> None:
    found = dut.done.resources
    assert found.model_dump(exclude={"lut_logic", "carry8"}) == TAKES.model_dump(exclude={"lut_logic", "carry8"})
    assert 0 < found.lut_logic < 150


def test_files_and_progress(dut: Run) -> None:
    assert dut.done.log.read_text().count("Executing SYNTH_XILINX pass") >= 10
    assert dut.done.netlist_json is not None
    assert dut.done.netlist_json.is_file()
    assert dut.said[0] == "reading the sources"
    assert any(line.startswith("map_dsp (3 of 12") for line in dut.said)
    assert not dut.done.cached


def test_the_same_question_is_answered_from_the_cache(dut: Run, tmp_path: Path) -> None:
    started = time.monotonic()
    again = synthesize([DUT], "dut", {}, tmp_path, netlist_verilog=True, say=pytest.fail)
    assert time.monotonic() - started < 1
    assert again.cached
    assert again.cells == dut.done.cells
    assert again.seconds == dut.done.seconds
    assert again.netlist_json is not None
    assert dut.done.netlist_json is not None
    assert again.netlist_json.read_bytes() == dut.done.netlist_json.read_bytes()


def test_parameters_and_the_other_frontend(cache: Path, tmp_path: Path) -> None:
    source = design(tmp_path, ADDER, "adder.v")
    found = synthesize([source], "adder", {"WIDTH": 24}, tmp_path / "work", frontend="verilog", netlist_json=False)
    assert found.resources == Resources(lut_logic=24, ff=24, carry8=3)
    assert found.netlist_json is None


@pytest.mark.parametrize(("text", "says"), [
    ("module m(input logic a,\n  output logic b);\n  assign b = a +;\nendmodule",
     "design.sv:3: expected expression"),
    ("module m(input logic a);\n  nothere u (.a);\nendmodule", "design.sv:2: unknown module 'nothere'"),
    ("module other(input logic a);\nendmodule", "'m' is not a valid top-level module"),
    ("module m(input logic a, output logic [3:0] q);\n  logic [3:0] t [2]; initial $readmemh(\"no.hex\", t);\n"
     "  assign q = t[a];\nendmodule", "design.sv:2: failed to open file 'no.hex'"),
])
def test_a_mistake_in_the_sources_is_one_line(cache: Path, tmp_path: Path, text: str, says: str) -> None:
    error = refused(tmp_path, text)
    assert isinstance(error, BadInput)
    assert says in error.message
    assert str(cache) not in error.line()
    assert (tmp_path / "work" / yosys.LOG).is_file()


def test_mistakes_with_the_other_frontend(cache: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, "module m(input wire a,\n  output wire b);\n  assign b = a +;\nendmodule",
                    frontend="verilog")
    assert isinstance(error, BadInput)
    assert error.message.startswith("design.sv:3: syntax error")


def test_an_unknown_parameter_is_an_error(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="parameter 'HEIGHT' does not exist in 'adder'"):
        synthesize([design(tmp_path, ADDER)], "adder", {"HEIGHT": 3}, tmp_path / "work")


def test_an_empty_result_is_an_error(cache: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, "module m(input logic a, output logic b); assign b = 1'b1; endmodule")
    assert isinstance(error, BadInput)
    assert "nothing is left of m" in error.message


def test_what_is_wrong_before_yosys_starts(cache: Path, tmp_path: Path) -> None:
    source = design(tmp_path, ADDER)
    with pytest.raises(BadInput, match="no such file"):
        synthesize([tmp_path / "gone.sv"], "m", {}, tmp_path)
    with pytest.raises(BadInput, match="no source files"):
        synthesize([], "m", {}, tmp_path)
    with pytest.raises(BadInput, match="not a name in Verilog"):
        synthesize([source], "m; shell", {}, tmp_path)
    with pytest.raises(BadInput, match="have the same name"):
        synthesize([source, source], "m", {}, tmp_path)


def test_a_timeout(cache: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, ADDER.replace("adder", "m"), timeout_s=0.3)
    assert isinstance(error, JobFailed)
    assert "synthesis of m: took longer than 0.3 s" in error.message


def test_without_pyosys(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> None:
    def missing(name: str) -> str:
        raise yosys.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(yosys.metadata, "version", missing)
    with pytest.raises(ToolMissing) as caught:
        synthesize([DUT], "dut", {}, tmp_path)
    assert caught.value.hint == 'pip install "hwkit[fpga-sim]"'
