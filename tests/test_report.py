"""A report joins what was built, what a board said and the budget; every number keeps its kind."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from hwkit.artifact import Artifact, Built, Finding, Manifest, Operator, ResourceRow
from hwkit.board import Board
from hwkit.budget import Budget
from hwkit.describe import KINDS
from hwkit.errors import BadInput
from hwkit.measurement import Measurement, sampled, synthesised
from hwkit.memory import Buffer, place
from hwkit.render import as_markdown, as_text, verdict
from hwkit.report import Report, Reports, assemble, read
from hwkit.runners import OperatorCost, OperatorEnergy, Run
from hwkit.target import target

BOARD = Board(name="b", description="a board", target="rpi4", kind="simulated", runner="qemu_user")
RUN = Run(board="b",
          measurements=(Measurement(quantity="instructions", unit="instructions", kind="simulated",
                                    samples=(900.0, 900.0, 900.0)),
                        sampled("latency", "s", "measured", [0.001 * k for k in range(1, 41)])),
          operator_costs=(OperatorCost(index=0, value=700), OperatorCost(index=1, value=50)),
          operator_unit="instructions", operator_kind="simulated",
          findings=(Finding(name="operators add up", ok=True, text="sum/whole 1.00"),),
          not_measured={"energy": "an emulator has no power"}, tool_versions={"qemu": "7.2"})


def made(artifact: Artifact, budget: Budget | None = None, run: Run | None = RUN) -> Report:
    return assemble(artifact, target("rpi4"), BOARD if run else None, run, budget, "hwkit deploy ...", "no board")


def drawn(report: Report) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(as_text([report]))
    return console.export_text()


def test_operator_shares_count_repetitions(small_artifact: Artifact) -> None:
    rows = made(small_artifact).operators
    assert [r.cost for r in rows] == [700, 200]            # the second runs four times
    assert [r.share for r in rows] == pytest.approx([7 / 9, 2 / 9])


def test_no_board_means_no_number_and_a_reason(small_artifact: Artifact) -> None:
    report = made(small_artifact, run=None)
    assert report.board is None
    assert report.find("latency") is None
    assert report.not_measured["latency"] == "no board"
    assert all(r.cost is None for r in report.operators)
    assert "no board" in drawn(report)


def test_every_shown_number_says_its_kind(small_artifact: Artifact) -> None:
    report = made(small_artifact)
    text = drawn(report)
    for m in report.measurements:
        (line,) = [x for x in text.splitlines() if x.strip().startswith(f"{m.quantity} ")]
        assert any(kind in line for kind in KINDS)
        assert m.kind in line
    for line in as_markdown([report]).splitlines():
        if line.startswith("| latency "):
            assert line.endswith("| measured |")


def test_latency_shows_its_tail_and_interval(small_artifact: Artifact) -> None:
    (line,) = [x for x in drawn(made(small_artifact)).splitlines() if x.strip().startswith("latency ")]
    assert "20.5 ms" in line         # median of 1..40 ms
    assert "36.1 ms" in line         # p90
    assert "39.6 ms" in line         # p99
    assert " 40 " in line            # n


def test_energies_of_operators_are_those_of_all_their_runs(small_artifact: Artifact) -> None:
    """The second operator runs four times: 0.2 J each, 0.1 to 0.3."""
    energies = (OperatorEnergy(index=1, value_j=0.2, low_j=0.1, high_j=0.3, kind="measured", source="a meter"),)
    report = made(small_artifact, run=RUN.model_copy(update={"operator_energies": energies}))
    assert report.operator_energies == energies
    row = next(line for line in as_markdown([report]).splitlines() if "400 mJ .. 1.20 J" in line)
    assert "| 4 | 800 mJ |" in row
    assert row.endswith("| measured |")
    assert "Energy of the heaviest operators" not in drawn(made(small_artifact))


def test_over_budget_names_the_line_and_the_operator(small_artifact: Artifact) -> None:
    budget = Budget.model_validate({"instructions": {"per_inference": 100}, "memory": {"flash_bytes": 1000}})
    report = made(small_artifact, budget)
    assert report.within_budget is False
    assert not report.ok
    assert verdict(report) == "OVER BUDGET: instructions.per_inference"
    assert "net/0 CONV_2D, 78 %" in drawn(report)


def test_a_failed_check_is_not_ok_even_within_budget(small_artifact: Artifact) -> None:
    run = RUN.model_copy(update={"findings": (Finding(name="outputs", ok=False, text="differ"),)})
    report = made(small_artifact, Budget.model_validate({"memory": {"flash_bytes": 1000}}), run)
    assert report.within_budget is True
    assert not report.ok


def test_json_round_trip_and_schema(small_artifact: Artifact, tmp_path: Path) -> None:
    reports = Reports(reports=(made(small_artifact),))
    (tmp_path / "report.json").write_text(reports.model_dump_json())
    assert read(tmp_path) == reports
    kinds = {m["kind"] for m in json.loads(reports.model_dump_json())["reports"][0]["measurements"]}
    assert kinds <= set(KINDS)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema_version": 9, "reports": []}', "\0"])
def test_what_is_no_report_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(BadInput) as caught:
        read(tmp_path)
    assert "\n" not in caught.value.line()


def test_markdown_tables_are_whole(small_artifact: Artifact) -> None:
    """Every table row has as many cells as its header."""
    width = None
    report = made(small_artifact, Budget.model_validate({"memory": {"flash_bytes": 1}}))
    for line in as_markdown([report]).splitlines():
        if not line.startswith("|"):
            width = None
            continue
        cells = line.replace("\\|", "").count("|")
        width = width or cells
        assert cells == width, line


def an_fpga_design(**changes: object) -> Artifact:
    """What a backend for programmable logic hands over, by hand."""
    logic = target("zcu104").fpga
    assert logic is not None
    buffers = (Buffer(name="state", words=3072, width_bits=512, contents="feature map", preferred=("URAM",)),
               Buffer(name="weights", words=512, width_bits=72, contents="weights", initialised=True,
                      preferred=("BRAM",)))
    figures = (
        Measurement(quantity="cycles", unit="cycles", kind="simulated", samples=(24_000,)),
        Measurement(quantity="latency", unit="s", kind="estimated", samples=(2e-4,), low=1e-4, high=3e-4),
        Measurement(quantity="off_chip_bytes", unit="bytes", kind="measured", samples=(0,)),
        Measurement(quantity="lane_utilisation", unit="1", kind="simulated", samples=(0.936,)),
        synthesised("LUT", 35_344, "Yosys 0.70"), synthesised("DSP", 1_312, "Yosys 0.70"),
        synthesised("BRAM_18K", 2, "Yosys 0.70"), synthesised("URAM", 8, "Yosys 0.70"))
    operators = (Operator(index=0, name="separable conv", stage="ode1", repeat=12, macs=300_000, weight_bytes=400,
                          cost=1_500),
                 Operator(index=1, name="separable conv", stage="ode2", repeat=12, macs=300_000, weight_bytes=900,
                          cost=500))
    built = Built(
        files=(), stages=(), operators=operators, operator_unit="cycles", operator_kind="simulated",
        figures=figures,
        memory=place(buffers, logic.capacity()).rows(),
        resources=(ResourceRow(part="pointwise", resource="LUT", used=20_000, kind="estimated"),
                   ResourceRow(part="depthwise", resource="LUT", used=9_000, kind="estimated"),
                   ResourceRow(part="pointwise", resource="DSP", used=1_024, kind="estimated"),
                   ResourceRow(part="pool", resource="LUT", used=None, kind="estimated")))
    return Artifact(folder=Path("nowhere"), manifest=Manifest(
        name="net", target="zcu104", backend="dsode", precision="w4a4", dataset=None, input_shape=(1, 8, 8),
        history=(), built=built.model_copy(update=changes), sha256={}))


def reported(artifact: Artifact, budget: Budget | None = None) -> Report:
    return assemble(artifact, target("zcu104"), None, None, budget, "hwkit deploy ...", "no board")


def lines_of(text: str, start: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip().startswith(start)]


def test_resources_stand_against_the_chip_and_the_limit() -> None:
    report = reported(an_fpga_design())
    assert [(r.resource, r.used, r.available) for r in report.resources] == [
        ("LUT", 35_344, 230_400), ("DSP", 1_312, 1_728), ("BRAM_18K", 2, 624), ("URAM", 8, 96)]
    text = drawn(report)
    assert "LUT 35,344 26,508 .. 37,112 230,400 15.3 % 70 % estimated" in lines_of(text, "LUT ")
    assert "DSP 1,312 1,728 75.9 % 80 % estimated" in lines_of(text, "DSP ")
    assert "lane_utilisation 93.60 % 1 simulated" in lines_of(text, "lane_utilisation ")


def test_a_part_without_a_model_is_never_nothing() -> None:
    text = drawn(reported(an_fpga_design()))
    assert "pool not modelled - estimated" in lines_of(text, "pool ")
    assert "depthwise 9,000 - estimated" in lines_of(text, "depthwise ")


def test_every_buffer_has_a_row_and_a_place_on_the_map() -> None:
    report = reported(an_fpga_design())
    text, markdown = drawn(report), as_markdown([report])
    row = "state feature map 3,072 x 512 URAM 8 URAM288 4096x72 8 1 196,608 67 % 8.3 %"
    assert row in lines_of(text, "state ")
    total = 3072 * 512 // 8 + 512 * 72 // 8
    last = f"{total:,} bytes placed of the 5,790,720 that these memories hold; 0 bytes outside the chip"
    for shown in (text, markdown):
        assert "URAM   [AAAAA..." in shown
        assert last in shown
    assert markdown.count("```") == 2


def test_passes_cost_cycles_and_are_in_order_of_cost() -> None:
    report = reported(an_fpga_design())
    assert [(r.cost, r.share) for r in report.operators] == [(18_000, 0.75), (6_000, 0.25)]
    text = drawn(report)
    assert "ode1/0 separable conv 12 3,600,000 400 18,000 75.0 %" in lines_of(text, "ode1/0 ")
    assert "MACs and cycles of all runs" in text
    assert "delegate" not in text


def test_what_the_design_estimates_is_not_called_not_measured() -> None:
    report = reported(an_fpga_design())
    assert report.not_measured == {"energy": "no board"}


@pytest.mark.parametrize(("budget", "heaviest"), [
    ({"cycles": {"per_inference": 1e6}}, "ode1/0 separable conv, 75 %"),
    ({"latency": {"median_s": 1.0}}, "ode1/0 separable conv, 75 %"),
    ({"utilisation": {"LUT": 0.7}}, "pointwise, 20,000"),
    ({"resources": {"DSP": 1_400.0}}, "pointwise, 1,024"),
    ({"resources": {"URAM": 10.0}}, "state (feature map), 8"),
    ({"resources": {"BRAM_18K": 10.0}}, "weights (weights), 2"),
])
def test_a_budget_line_names_what_weighs_most(budget: dict[str, object], heaviest: str) -> None:
    report = reported(an_fpga_design(), Budget.model_validate(budget))
    assert report.verdicts[0].heaviest == heaviest
    assert report.within_budget
    assert heaviest.split(",")[0] in drawn(report)


def test_memories_the_tool_did_not_make_are_noted() -> None:
    (finding,) = reported(an_fpga_design()).findings
    assert (finding.ok, finding.text) == (True, "2 BRAM_18K for 2 placed, 8 URAM for 8 placed")
    (finding,) = reported(an_fpga_design(figures=(synthesised("URAM", 0, "Yosys 0.70"),))).findings
    assert (finding.ok, finding.text) == (None, "0 URAM for 8 placed")


def test_a_design_goes_through_json_and_back(tmp_path: Path) -> None:
    reports = Reports(reports=(reported(an_fpga_design()),))
    (tmp_path / "report.json").write_text(reports.model_dump_json())
    assert read(tmp_path) == reports
