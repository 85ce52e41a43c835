"""A trained network on the chip: what the build finds, what the forecast promised, what is refused before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hwkit.artifact import open_artifact
from hwkit.backends.dsode import forecast, schedule
from hwkit.backends.dsode.engine import Engine
from hwkit.backends.dsode.options import Options
from hwkit.integer import separable
from hwkit.report import Report, read
from tests.commands import hwkit

NETWORK = "dsodenet@digits"


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one deployment on the chip, without synthesis: 360 test images, 100 of them through RTL."""
    folder = tmp_path_factory.mktemp("chip")
    (folder / "budget.toml").write_text("[memory]\noff_chip_bytes = 0\n[utilisation]\nDSP = "
                                        "0.1\n[accuracy]\nfloor = 0.9\n")
    done = hwkit("deploy", "--target", "zcu104", NETWORK, "--set", "synthesise=no", "--set", "verify=100",
                 "--set", "multipliers=dsp",
                 "--budget", "budget.toml", "-o", "out", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture(scope="session")
def report(deployed: Path) -> Report:
    (found,) = read(deployed).reports
    return found


def test_five_forms_agree_on_a_hundred_images(report: Report) -> None:
    checks = {f.name: f for f in report.findings}
    for name in ("torch = integers", "QONNX = integers", "HLS C simulation = integers", "RTL = integers"):
        assert checks[name].ok is True, checks[name].text
        assert checks[name].text.startswith("0 of ")
    assert "over 100 test images" in checks["RTL = integers"].text
    assert checks["five forms, bit for bit"].ok is True
    assert checks["accuracy of the RTL"].ok is True
    assert checks["outputs as built with both streams stalling"].ok is True


def test_cycles_are_the_schedules(report: Report, deployed: Path) -> None:
    cycles = report.find("cycles")
    assert cycles is not None
    assert cycles.kind == "simulated"
    network = separable.load(deployed / "network.npz")
    engine = Engine.model_validate_json((deployed / "engine" / "design.json").read_bytes())
    assert set(cycles.samples) == {float(schedule.cycles(network, engine))}


def test_nothing_is_off_chip_and_the_budget_shaped_the_design(report: Report, deployed: Path) -> None:
    off = report.find("off_chip_bytes")
    assert off is not None
    assert off.value == 0
    dsp = report.find("DSP")
    assert dsp is not None
    assert dsp.value <= 0.1 * 1728                       # PE 16 would take 272: the budget allowed PE 8
    folding = next(f for f in report.findings if f.name == "folding")
    assert "PE 16 does not fit" in folding.text
    assert report.within_budget is True
    rows = open_artifact(deployed).manifest.built.memory
    assert sum(row.data_bits for row in rows) / 8 == report.find("on_chip_bytes").value  # type: ignore[union-attr]


def test_accuracy_is_of_the_integers_on_the_whole_test_split(report: Report, deployed: Path) -> None:
    from hwkit import datasets

    accuracy, trained = report.find("accuracy"), report.find("accuracy_float")
    assert accuracy is not None
    assert trained is not None
    test = datasets.load("digits", "test")
    logits = separable.load(deployed / "network.npz").logits(test.images)
    assert accuracy.value == float(np.mean(logits.argmax(1) == test.labels))
    assert trained.value - accuracy.value <= 0.02


def test_every_number_says_what_it_is(report: Report) -> None:
    kinds = {m.quantity: m.kind for m in report.measurements}
    assert kinds["cycles"] == "simulated"
    for quantity in ("latency", "kernel_latency", "energy", "throughput", "LUT", "DSP"):
        assert kinds[quantity] == "estimated", quantity


def test_the_lab_gets_everything(deployed: Path) -> None:
    for name in ("engine/rtl/dsode_top.sv", "engine/tables.bin", "engine/lab/vivado/build.tcl",
                 "engine/lab/hls/dsode.cpp", "engine/lab/driver/dsode_driver.py", "engine/lab/README.md",
                 "network.qonnx.onnx", "golden/states.npy"):
        assert (deployed / name).is_file(), name


def test_run_again_from_the_artifact_alone(deployed: Path, tmp_path: Path) -> None:
    done = hwkit("run", str(deployed), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (again,) = json.loads(done.stdout)["reports"]
    assert again["board"] is not None
    assert all(f["ok"] is not False for f in again["findings"])


def test_the_forecast_is_what_the_build_finds(report: Report, tmp_path: Path) -> None:
    done = hwkit("check", "--target", "zcu104", NETWORK, "--set", "pe=8", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    told = {m["quantity"]: m for m in answer["estimate"]["figures"]}
    for quantity in ("cycles", "DSP", "BRAM_18K", "URAM", "on_chip_bytes"):
        found = report.find(quantity)
        assert found is not None
        assert told[quantity]["samples"] == [found.value], quantity


@pytest.mark.parametrize(("words", "said"), [
    (("odenet", "--backend", "dsode"), "stage ode1"),
    (("resnet8", "--backend", "dsode"), "no ODE blocks"),
    ((NETWORK, "--set", "pe=5"), "legal: 8, 16"),
    ((NETWORK, "--set", "latency_s=1e-7"), "no design of dsodenet@digits that fits takes 0.1 µs"),
    ((NETWORK, "--set", "verfy=3"), "did you mean 'verify'?"),
    ((NETWORK, "--backend", "tflite"), "has no backend 'tflite'"),
])
def test_what_cannot_be_is_one_line_before_any_tool(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = hwkit("build", "--target", "zcu104", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    line = next(line for line in done.stderr.splitlines() if line.startswith("hwkit: "))
    assert said in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "hwkit-out").exists()


def test_a_target_without_logic_is_refused() -> None:
    from hwkit.model import Model
    from hwkit.target import target

    plain = target("zcu104").model_copy(update={"fpga": None})
    model = Model(name="net", path=Path("whole.pt2"), format="pt2", input_shape=(1, 8, 8))
    assert "no programmable logic" in forecast.problems(model, plain, Options())[0].message
