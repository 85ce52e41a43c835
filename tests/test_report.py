"""A report joins what was built, what a board said and the budget; every number keeps its kind."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from hwkit.artifact import Artifact, Finding
from hwkit.board import Board
from hwkit.budget import Budget
from hwkit.describe import KINDS
from hwkit.errors import BadInput
from hwkit.measurement import Measurement, sampled
from hwkit.render import as_markdown, as_text, verdict
from hwkit.report import Report, Reports, assemble, read
from hwkit.runners import OperatorCost, Run
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
