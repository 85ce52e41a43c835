"""A plan executed by the board's own program, with a stand-in for trtexec, and its results brought back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.artifact import Artifact
from hwkit.gpu.plan import load
from hwkit.model import Model
from hwkit.report import Report, read
from tests.backends.onnx import builds, nets
from tests.commands import hwkit
from tests.sources import opening

STANDIN = Path(__file__).parents[1] / "gpu" / "standins" / "trtexec"
ORIN = {"version": "10.3.0", "gpu": "Orin", "sm": "8.7"}
REFUSED = 3             # exit code of the program
CALLS = nets.STEPS + 2  # of the stepped form, an inference
KERNELS_S, COPIES_S = 1.5e-3, 0.5e-3      # of each engine in the stand-in
LAYERS = 3              # of each engine in the stand-in


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The small ODE network for jetson-orin-nano: int8 unrolled and stepped, float16 unrolled."""
    folder = tmp_path_factory.mktemp("ode")
    case = (builds.factory(folder / "net.py"), {"data": builds.data(folder / "inputs.npz")})
    model: Model = opening.model(opening.opened({"ode": case}, folder)["ode"]).placed(folder / "ode")
    return builds.built(model, "jetson-orin-nano", folder / "orin", largest_drop="1")


class Bench:
    """The board: a copy of the artifact in which its program runs, as the report says it should."""

    def __init__(self, artifact: Artifact, folder: Path) -> None:
        self.folder = folder / "there"
        shutil.copytree(artifact.folder, self.folder)
        self.trtexec = folder / "trtexec"
        self.trtexec.write_text(f"#!{sys.executable}\n{STANDIN.read_text()}")
        self.trtexec.chmod(0o755)

    def run(self, code: int = 0, standin: dict[str, Any] = ORIN, **job: Any) -> Path:
        """The folder of results, as it would be carried away."""
        given = json.loads((self.folder / "board" / "job.json").read_text())
        given.update({"idle_s": 0, "samples": 2, "trtexec": str(self.trtexec), **job})
        (self.folder / "board" / "quick.json").write_text(json.dumps(given))
        done = subprocess.run([sys.executable, "board/tensorrt.py", "board/quick.json"], cwd=self.folder,
                              env={**os.environ, "STANDIN_TRTEXEC": json.dumps(standin)}, capture_output=True,
                              text=True, timeout=120, check=False)
        assert done.returncode == code, done.stderr
        return self.folder / given["out"]


@pytest.fixture(scope="module")
def results(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Bench(artifact, tmp_path_factory.mktemp("board")).run()


def told(artifact: Artifact, results: Path, folder: Path, code: int) -> str:
    """stderr of `hwkit run ARTIFACT --results DIR`."""
    done = hwkit("run", str(artifact.folder), "--results", str(results), "-o", "report", cwd=folder)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


def refused(artifact: Artifact, results: Path, folder: Path, code: int) -> str:
    (line,) = [x for x in told(artifact, results, folder, code).splitlines() if x.startswith("hwkit: ")]
    return line


@pytest.fixture(scope="module")
def report(artifact: Artifact, results: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report")
    told(artifact, results, folder, 0)
    (found,) = read(folder / "report").reports
    return found


def finding(report: Report, name: str) -> Any:
    (found,) = [f for f in report.findings if f.name == name]
    return found


def test_outputs_are_the_build_machines(artifact: Artifact, results: Path, report: Report) -> None:
    """onnxruntime executes the files behind the stand-in; the stepped form goes from file to file."""
    wanted = np.load(artifact.path("golden/outputs.npy"))[:2]
    for name in ("outputs.npy", "outputs-1.npy"):
        np.testing.assert_allclose(np.load(results / name), wanted, rtol=0, atol=1e-4)
    assert finding(report, "as accurate as built").ok is True


def test_the_faster_form_is_reported_and_why(report: Report) -> None:
    latency = report.find("latency")
    assert latency is not None
    assert latency.kind == "measured"
    assert latency.value == pytest.approx(KERNELS_S + COPIES_S)
    kernels, copies = report.find("gpu_latency"), report.find("transfer_latency")
    assert kernels is not None
    assert copies is not None
    assert (kernels.value, copies.value) == pytest.approx((KERNELS_S, COPIES_S))
    form = finding(report, "ODE form")
    assert form.ok is True
    stepped = CALLS * KERNELS_S + COPIES_S
    assert form.text.startswith(
        f"int8 unrolled 2.00 ms (1 call), int8 stepped {1e3 * stepped:.2f} ms ({CALLS} calls)")
    assert f"unrolled takes 75 % less than stepped, which makes {CALLS - 1} more calls: 1.50 ms each" in form.text


def test_where_the_time_goes_and_whether_int8_paid(report: Report) -> None:
    text = finding(report, "where the time goes").text
    assert text.startswith("compute 1.00 ms, copies 500 µs, reformats 250 µs; heaviest: Conv_0 1.00 ms")
    assert finding(report, "did int8 pay").text.startswith("INT8 is no faster than FP16")
    assert "no difference" in finding(report, "int8 against f16").text
    assert finding(report, "engines").text.startswith("5 for Orin, SM 8.7 and TensorRT 10.3.0: 5 built there")


def test_layers_of_the_engine_are_rows(artifact: Artifact, report: Report) -> None:
    rows = [o for o in report.operators if o.delegate == "TensorRT"]
    assert [(r.name, r.stage) for r in rows][1] == ("Conv_0", "deployed-model")
    assert len(rows) == LAYERS
    assert len(report.operators) == len(artifact.manifest.built.operators) + LAYERS


def test_raw_exports_are_kept(artifact: Artifact, report: Report) -> None:
    kept = {p.name for p in (artifact.folder.parent / "runs").rglob("*.json")}
    assert {"deployed-model.times.json", "deployed-model.profile.json", "trace.json"} <= kept


@pytest.fixture
def copy(results: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(results, tmp_path / "copy"))


def test_results_of_another_gpu_are_refused(artifact: Artifact, copy: Path, tmp_path: Path) -> None:
    found = json.loads((copy / "result.json").read_text())
    found["gpu"].update(name="NVIDIA Tegra X1", sm="5.3")
    (copy / "result.json").write_text(json.dumps(found))
    line = refused(artifact, copy, tmp_path, 2)
    assert "NVIDIA Tegra X1 with SM 5.3, jetson-orin-nano has SM 8.7 -> " in line


def test_results_that_are_not_there(artifact: Artifact, tmp_path: Path) -> None:
    assert "it has no result.json -> " in refused(artifact, tmp_path, tmp_path, 2)


@pytest.mark.parametrize("name", ["result.json", "outputs.npy", "deployed-model.times.json",
                                  "deployed-model.profile.json", "deployed-model.layers.json"])
def test_a_damaged_file_is_named(name: str, artifact: Artifact, copy: Path, tmp_path: Path) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:len(content) // 2])
    assert name in refused(artifact, copy, tmp_path, 4)


@pytest.mark.parametrize(("name", "told_as"), [("outputs.npy", "as accurate as built"),
                                               ("outputs-1.npy", "variant int8 stepped as accurate as built")])
def test_wrong_outputs_are_a_failed_check(name: str, told_as: str, artifact: Artifact, copy: Path,
                                          tmp_path: Path) -> None:
    np.save(copy / name, -np.load(copy / name))
    told(artifact, copy, tmp_path, 1)
    (report,) = read(tmp_path / "report").reports
    assert finding(report, told_as).ok is False


def test_a_file_that_was_left_behind_is_named(artifact: Artifact, copy: Path, tmp_path: Path) -> None:
    (copy / "f16-unrolled-model.times.json").unlink()
    assert "f16-unrolled-model.times.json" in refused(artifact, copy, tmp_path, 4)


def test_an_engine_of_another_gpu_is_not_loaded(artifact: Artifact, results: Path, tmp_path: Path) -> None:
    built = json.loads((results / "result.json").read_text())["passes"]["build"]["deployed-model"]["engine"]
    folder = Bench(artifact, tmp_path).run(REFUSED, {**ORIN, "gpu": "Orin NX"}, prebuilt={"deployed-model": built})
    line = refused(artifact, folder, tmp_path, 4)
    assert "is refused: it was built on Orin, this GPU is Orin NX -> " in line


def test_a_form_that_the_board_cannot_build_is_left_out(artifact: Artifact, tmp_path: Path) -> None:
    (half,) = [e for e in load(artifact.path("board/plan.json")).engines if e.precision == "f16"]
    others = [e.file for e in load(artifact.path("board/plan.json")).engines if e.precision != "f16"]
    mark = "graph_input_cast"
    assert mark.encode() in artifact.path(half.file).read_bytes()
    assert not [f for f in others if mark.encode() in artifact.path(f).read_bytes()]
    folder = Bench(artifact, tmp_path).run(standin={**ORIN, "fail": "build", "only": mark}, samples=1,
                                           passes=["build", "latency"])
    told(artifact, folder, tmp_path, 0)
    (report,) = read(tmp_path / "report").reports
    assert finding(report, "variant f16 unrolled").text.startswith("left out: building f16-unrolled-model:")
    assert "did int8 pay" not in [f.name for f in report.findings]
    assert report.not_measured["operators"] == "not profiled"
