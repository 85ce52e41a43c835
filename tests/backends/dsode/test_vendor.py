"""The vendor's tools in the plan: run where they are on PATH, and their reports are what the build says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hwkit.artifact import BuildPlan, Built, Finding
from hwkit.backends import dsode
from hwkit.backends.dsode import lab, vendor
from hwkit.backends.dsode.emit import stream_bits, write_design
from hwkit.backends.dsode.engine import engine_for
from hwkit.backends.dsode.options import Options
from hwkit.errors import BadInput
from hwkit.measurement import Measurement
from hwkit.model import Model
from hwkit.target import target
from tests.backends.dsode.networks import Plan

STANDINS = Path(__file__).resolve().parents[2] / "standins"
needs_tcl = pytest.mark.skipif(shutil.which("tclsh") is None, reason="apt-get install tcl")
BUILT = Built(files=(), stages=(), findings=(Finding(name=vendor.NOT_RUN, ok=None, text="not run"),),
              figures=(Measurement(quantity="LUT", unit="1", kind="estimated", samples=(1.0,), low=1.0, high=1.0),
                       Measurement(quantity="cycles", unit="cycles", kind="simulated", samples=(9.0,))))


@pytest.fixture
def standins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{STANDINS}{os.pathsep}{os.environ['PATH']}")


def planned(**options: str) -> list[str]:
    model = Model(name="net", path=Path("whole.pt2"), format="pt2", input_shape=(1, 8, 8))
    plan = dsode.plan(model, target("zcu104"), Options.model_validate(options))
    return [Path(step.argv[0]).name for step in plan.commands]


def test_without_the_tools_the_plan_is_ours_alone() -> None:
    assert vendor.commands() == ()
    assert len(planned()) == 2


@pytest.mark.usefixtures("standins")
def test_with_them_the_plan_runs_them_unless_told_not_to() -> None:
    assert planned()[2:] == ["vitis_hls", "vivado", "vivado"]
    assert len(planned(vendor="no")) == 2


@needs_tcl
@pytest.mark.usefixtures("standins")
def test_their_reports_replace_the_estimates(tmp_path: Path) -> None:
    network = Plan(8, 4, 4).network()
    engine = engine_for(network, 8)
    write_design(network, engine, stream_bits(engine, 128), tmp_path / "engine")
    lab.emit(network, engine, stream_bits(engine, 128), "xczu7ev-ffvc1156-2-e", 200e6, tmp_path / "engine")
    BuildPlan(commands=vendor.commands()).execute(tmp_path)
    found = vendor.collected(BUILT, tmp_path)
    figures = {m.quantity: m for m in found.figures}
    assert figures["DSP"].value == 848                     # what the stand-in reports
    assert "placed and routed by Vivado" in figures["LUT"].source
    assert figures["cycles"].value == 9
    checks = {f.name: f for f in found.findings}
    assert vendor.NOT_RUN not in checks
    assert checks["timing"].ok is True
    assert "HLS kernel" in checks
    assert any(name.endswith("design.bit") for name in found.files)


def test_a_report_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / vendor.LAB / "vivado" / "reports").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"utilization\.rpt"):
        vendor.collected(BUILT, tmp_path)


def test_a_build_without_them_is_left_as_it_is(tmp_path: Path) -> None:
    assert vendor.collected(BUILT, tmp_path) == BUILT
