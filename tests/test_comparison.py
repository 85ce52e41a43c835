"""Reports side by side: every cell keeps its kind, and no sentence says more than the numbers bear."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from hwkit.artifact import Finding
from hwkit.budget import Verdict
from hwkit.comparison import COMMON, Comparison, compare
from hwkit.describe import Kind
from hwkit.measurement import QUANTITIES, Measurement
from hwkit.render import as_markdown, as_text, comparison
from hwkit.report import Report, Reports


def m(quantity: str, value: float, kind: Kind = "measured", low: float | None = None, high: float | None = None,
      n: int | None = None, **conditions: Any) -> Measurement:
    return Measurement(quantity=quantity, unit=QUANTITIES[quantity][0], kind=kind, samples=(value,), low=low,
                       high=high, n=n, source="by hand", conditions=conditions)


def report(target: str, *measurements: Measurement, **changes: Any) -> Report:
    plain: dict[str, Any] = {
        "name": "net", "dataset": "digits", "input_shape": (1, 8, 8), "parameters": 10, "history": (),
        "target": target, "target_description": "", "board": None, "board_description": "", "backend": "tool",
        "precision": "int8", "digest": "d", "measurements": measurements, "not_measured": {}, "operators": (),
        "operator_unit": "", "operator_kind": "", "findings": (), "verdicts": (), "within_budget": None,
        "tool_versions": {}, "reproduce": "hwkit deploy"}
    return Report(**{**plain, **changes})


CPU = report("rpi4", m("latency", 1.12e-3, "estimated", 435e-6, 2.9e-3), m("flash", 39_100), m("weights", 18_700),
             m("accuracy", 0.8991, n=10_000), m("accuracy_float", 0.9015, n=10_000),
             m("instructions", 1.96e6, "simulated"),
             not_measured={"energy": "an emulator has no power"}, board="qemu", within_budget=True)
GPU = report("jetson-orin-nano", m("latency", 300e-6, "estimated", 80e-6, 600e-6), m("flash", 52_000),
             m("weights", 21_000), m("accuracy", 0.9010, n=10_000), m("accuracy_float", 0.9015, n=10_000),
             not_measured={"energy": "no board", "throughput": "no board"},
             findings=(Finding(name="outputs", ok=False, text="differ"),))
LATE = Verdict(line="latency.median_s", limit=5e-5, unit="s", value=84e-6, kind="estimated", ok=False,
               headroom=-0.8)
FPGA = report("zcu104", m("latency", 84e-6, "estimated", 60e-6, 90e-6),
              m("energy", 8e-6, "estimated", 2e-6, 25e-6), m("throughput", 41_500, "estimated", 3e4, 6e4),
              m("on_chip_bytes", 26_700), m("accuracy", 0.85, n=10_000), m("accuracy_float", 0.9015, n=10_000),
              m("LUT", 30_000, "estimated", 20_000, 31_000), board="verilator", precision="w4a4",
              verdicts=(LATE,), within_budget=False)
THREE = (CPU, GPU, FPGA)


def row(found: Comparison, quantity: str) -> tuple[str, ...]:
    return next(r[1:] for r in found.rows if r[0] == quantity)


def said(found: Comparison, quantity: str) -> str:
    (line,) = [s for s in found.sentences if s.startswith(f"{quantity}: ")]
    return line


def drawn(*reports: Report, width: int = 120) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(as_text(reports))
    return console.export_text()


def test_a_column_each_and_a_row_each_in_order() -> None:
    found = compare(THREE)
    assert found.columns == ("rpi4 int8", "jetson-orin-nano int8", "zcu104 w4a4")
    names = [r[0] for r in found.rows]
    assert names == [q for q in COMMON if q in names]        # LUT and instructions belong to one column alone
    assert row(found, "latency") == ("1.12 ms est.\n(435 µs .. 2.90 ms)", "300 µs est.\n(80.0 µs .. 600 µs)",
                                     "84.0 µs est.\n(60.0 µs .. 90.0 µs)")
    assert row(found, "flash") == ("39.1 kB meas.", "52.0 kB meas.", "-")
    assert row(found, "accuracy") == ("89.91 % meas.", "90.10 % meas.", "85.00 % meas.")


def test_every_number_in_the_table_says_its_kind() -> None:
    kinds = (m("latency", 1e-3), m("latency", 1e-3, "simulated"), m("latency", 1e-3, "estimated", 1e-4, 2e-3),
             m("latency", 1e-3, "published"), m("latency", 1e-3, "assumed"))
    cells = row(compare([report(f"t{i}", one) for i, one in enumerate(kinds)]), "latency")
    assert cells == ("1.00 ms meas.", "1.00 ms sim.", "1.00 ms est.\n(100 µs .. 2.00 ms)", "1.00 ms publ.",
                     "1.00 ms assumed")


def test_what_is_not_known_has_its_reason_below() -> None:
    assert set(compare(THREE).missing) == {
        ("rpi4 int8", "energy", "an emulator has no power"),
        ("rpi4 int8", "throughput, on_chip_bytes", "its report knows nothing of it"),
        ("jetson-orin-nano int8", "throughput, energy", "no board"),
        ("jetson-orin-nano int8", "on_chip_bytes", "its report knows nothing of it"),
        ("zcu104 w4a4", "flash, weights", "its report knows nothing of it")}


def test_what_nobody_knows_is_still_a_row() -> None:
    found = compare([report(t, not_measured={"latency": f"{t} is far"}) for t in ("a", "b")])
    assert row(found, "latency") == ("-", "-")
    assert found.missing == (("a int8", "latency", "a is far"), ("b int8", "latency", "b is far"))
    assert not found.sentences


def test_overlapping_intervals_are_said() -> None:
    assert said(compare(THREE), "latency") == (
        "latency: lowest on zcu104 w4a4 (estimated 84.0 µs); intervals overlap: rpi4 int8 with "
        "jetson-orin-nano int8, jetson-orin-nano int8 with zcu104 w4a4")
    apart = report("zcu104", m("latency", 84e-6, "estimated", 70e-6, 79e-6))
    assert "overlap" not in said(compare([apart, GPU]), "latency")


def test_accuracies_are_apart_only_if_there_are_samples_enough() -> None:
    line = said(compare(THREE), "accuracy")       # 95 % of a share of 0.9 in 10,000: 0.0059 each way
    assert line == ("accuracy: highest on jetson-orin-nano int8 (measured 90.10 %); with n = 10,000 the 95 % "
                    "intervals overlap: rpi4 int8 with jetson-orin-nano int8")
    few = [report("a", m("accuracy", 0.9, "estimated", 0.8, 0.95)), report("b", m("accuracy", 0.85, n=100))]
    assert said(compare(few), "accuracy").endswith("; intervals overlap: a int8 with b int8")


def test_different_kinds_are_not_ranked_in_silence() -> None:
    found = compare([report("a", m("energy", 1e-3)), report("b", m("energy", 2e-3, "estimated", 1.5e-3, 3e-3))])
    assert said(found, "energy") == (
        "energy: lowest on a int8 (measured 1.00 mJ); the kinds differ: measured on a int8, estimated on b int8")


def test_equal_numbers_have_no_winner() -> None:
    found = compare(THREE)
    assert said(found, "accuracy_float") == (
        "accuracy_float: the same on rpi4 int8, jetson-orin-nano int8 and zcu104 w4a4 (measured 90.15 %)")
    assert said(found, "flash") == "flash: lowest on rpi4 int8 (measured 39.1 kB), of those known"


def test_settings_that_differ_are_said() -> None:
    found = compare([report("a", m("latency", 1e-3, batch=1, threads=4)),
                     report("b", m("latency", 2e-3, batch=32)),
                     report("c", m("latency", 3e-3, batch=[8], threads=4))])
    assert said(found, "latency").endswith("; batch differs: 1 on a int8, 32 on b int8, [8] on c int8")


def test_different_tasks_are_said_first() -> None:
    found = compare([CPU, CPU.model_copy(update={"name": "other", "dataset": None, "input_shape": (3, 4, 4)})])
    assert found.columns == ("net rpi4 int8", "other rpi4 int8")
    assert found.sentences[:3] == (
        "these are different networks",
        "different shapes of the input: 1x8x8 on net rpi4 int8, 3x4x4 on other rpi4 int8",
        "different data sets: digits on net rpi4 int8, none on other rpi4 int8")


@pytest.mark.parametrize(("change", "columns"), [
    ({}, ("rpi4 int8 tool qemu #1", "rpi4 int8 tool qemu #2")),
    ({"precision": "f16"}, ("rpi4 int8", "rpi4 f16")),
    ({"backend": "else"}, ("rpi4 int8 tool", "rpi4 int8 else")),
    ({"board": None}, ("rpi4 int8 tool qemu", "rpi4 int8 tool not executed")),
])
def test_no_two_columns_are_called_alike(change: dict[str, Any], columns: tuple[str, str]) -> None:
    assert compare([CPU, CPU.model_copy(update=change)]).columns == columns


def test_the_last_rows_are_the_board_and_the_verdict() -> None:
    table = comparison(THREE)[0]
    assert table.rows[-2:] == (
        ("executed on", "qemu", "nothing", "verilator"),
        ("verdict", "within budget,\nchecks ok", "no budget given,\nchecks FAILED: outputs",
         "OVER BUDGET: latency.median_s,\nchecks ok"))
    assert table.title == "Comparison (meas. measured, sim. simulated, est. estimated)"


def test_three_columns_are_readable_at_120() -> None:
    text = drawn(*THREE)
    lines = text[text.index("Comparison ("):].splitlines()
    assert max(map(len, lines)) <= 120
    at = next(i for i, line in enumerate(lines) if line.strip().startswith("latency "))
    assert lines[at].split() == ["latency", "1.12", "ms", "est.", "300", "µs", "est.", "84.0", "µs", "est."]
    assert re.findall(r"\([^)]*\)", lines[at + 1]) == ["(435 µs .. 2.90 ms)", "(80.0 µs .. 600 µs)",
                                                       "(60.0 µs .. 90.0 µs)"]


def test_one_report_is_not_compared() -> None:
    assert comparison([CPU]) == []
    assert "Comparison" not in drawn(CPU)
    assert "Comparison" not in as_markdown([CPU])


def test_markdown_has_a_line_a_row() -> None:
    text = as_markdown(THREE)
    text = text[text.index("## Comparison"):]
    assert ("| latency | 1.12 ms est. (435 µs .. 2.90 ms) | 300 µs est. (80.0 µs .. 600 µs) | 84.0 µs est. "
            "(60.0 µs .. 90.0 µs) |") in text
    (table, *_) = text.split("\n## ")
    assert {line.count("|") for line in table.splitlines() if line.startswith("|")} == {5}


def test_the_verbs_show_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwkit import pipeline
    from hwkit.cli.deploy import command as deploy
    from hwkit.cli.report import command as show

    for one in THREE:
        pipeline.save(Reports(reports=(one,)), tmp_path / one.target)
    paths = [str(tmp_path / one.target) for one in THREE]
    done = CliRunner().invoke(show, [*paths, "-o", str(tmp_path / "all")])
    assert "Comparison (meas. measured" in done.stdout
    assert "## Comparison" in (tmp_path / "all" / "report.md").read_text()
    assert "Comparison" not in (tmp_path / "rpi4" / "report.md").read_text()

    # what it builds is tested elsewhere
    monkeypatch.setattr(pipeline, "deploy", lambda *given: Reports(reports=THREE))
    done = CliRunner().invoke(deploy, ["--target", "rpi4", "net", "-o", str(tmp_path / "out")])
    assert done.exit_code == 1                       # one is over budget
    assert "Comparison (meas. measured" in done.stdout
    assert (tmp_path / "out" / "comparison.md").read_text().startswith("## Comparison (meas. measured")
