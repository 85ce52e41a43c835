"""On a real CUDA GPU, through the command line; and, without one, the sums that the GPU's tests rest on.

$HWKIT_GPU_PYTHON names an interpreter whose onnxruntime has CUDA, where hwkit's own has none.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.artifact import Artifact, Operator, StageFile, open_artifact
from hwkit.data import shipped
from hwkit.errors import BoardError
from hwkit.gpu.roofline import peak_ops_per_s
from hwkit.process import run
from hwkit.report import Report, Reports
from hwkit.runners import OperatorCost, Run, _roofline
from tests.commands import hwkit

PROVIDER, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
PYTHON = os.environ.get("HWKIT_GPU_PYTHON") or sys.executable
NETWORK = "dsodenet@digits"
# float32 as float32, and algorithms chosen by rule and not by timing them: two sessions then compute the same
EXACT = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
GRAPHS = {**EXACT, "enable_cuda_graph": "1"}
BOARD = """
name = "{name}"
description = "the GPU of this machine, for the tests"
target = "cuda"
kind = "measured"
runner = "local"

[options]
python = {python}
providers = [["{provider}", {{ {options} }}]]
"""
# Executed where the GPU's onnxruntime is: PAYLOAD JOB. Inferences with other inputs each, and how many nodes of
# convolutions the executor ran for them: those of a replayed graph it does not see.
REPLAY = """
import importlib.util, json, sys
import numpy as np
spec = importlib.util.spec_from_file_location("payload", sys.argv[1])
payload = importlib.util.module_from_spec(spec)
spec.loader.exec_module(payload)
with open(sys.argv[2]) as f:
    job = json.load(f)
inputs = np.load(job["inputs"])
told = {}
for name, stages in job["forms"].items():
    for graphs in (False, True):
        provider = payload.Provider(job["providers"], graphs)
        provider.check()
        chain = payload.Chain(stages, provider, 1, ["%s-%d-%d" % (name, graphs, k) for k in range(len(stages))])
        found = []
        for k in range(job["runs"]):
            chain.feed(inputs, k)
            chain.infer()
            found.append(chain.result.get()[0])
        np.save("%s-%d.npy" % (name, graphs), np.stack(found))
        convolutions = 0
        for stage in chain.stages:
            with open(stage.session.end_profiling()) as f:
                events = json.load(f)
            convolutions += sum("Conv" in e["args"].get("op_name", "") for e in events
                                if e.get("cat") == "Node" and e["name"].endswith("_kernel_time"))
        told["%s-%d" % (name, graphs)] = {"convolutions": convolutions, "option": provider.graph_option}
print("told: " + json.dumps(told))
"""


@functools.cache
def why_not() -> str:
    """Why these tests cannot run here, "" where they can."""
    try:
        _roofline.gpu(0)
    except BoardError as e:
        return e.message
    probe = "import onnxruntime as o; print(*o.get_available_providers())"
    has = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True, timeout=120)
    if PROVIDER not in has.stdout.split():
        return (f"{PYTHON} has no onnxruntime with {PROVIDER}; name an interpreter that has in $HWKIT_GPU_PYTHON")
    return ""


@pytest.fixture(scope="module")
def needs_gpu() -> None:
    if why_not():
        pytest.skip(why_not())


@dataclass(frozen=True)
class Deployed:
    """One `hwkit deploy`: its report, its artifact, and the files of the run that it kept."""

    report: Report
    artifact: Artifact
    files: dict[str, str]

    def finding(self, name: str) -> Any:
        return next(f for f in self.report.findings if f.name == name)

    def value(self, quantity: str) -> float:
        found = self.report.find(quantity)
        assert found is not None, self.report.not_measured.get(quantity)
        return found.value

    def nodes(self) -> list[dict[str, Any]]:
        """What ran as a node, by onnxruntime's raw profiles: the "args" and "name" of each event."""
        events = [e for name, text in self.files.items() if name.startswith("profile-") for e in json.loads(text)]
        return [{**e["args"], "node": e["name"].removesuffix("_kernel_time")} for e in events
                if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]


@pytest.fixture(scope="module")
def deploy(needs_gpu: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Deployed]:
    """deploy(precision, board), each pair once; boards are "gpu-exact" and "gpu-graphs"."""
    top = tmp_path_factory.mktemp("cuda")
    (top / "boards").mkdir()
    for name, given in (("gpu-exact", EXACT), ("gpu-graphs", GRAPHS)):
        options = ", ".join(f'{key} = "{value}"' for key, value in given.items())
        (top / "boards" / f"{name}.toml").write_text(
            BOARD.format(name=name, python=json.dumps(PYTHON), provider=PROVIDER, options=options))

    @functools.cache
    def deployed(precision: str, board: str) -> Deployed:
        folder = top / f"{precision}-{board}"
        folder.mkdir()
        done = hwkit("deploy", "--target", "cuda", "--board", board, "--precision", precision, "--duration", "1",
                     "-o", str(folder / "artifact"), "--json", NETWORK, cwd=folder, env={"HWKIT_PATH": str(top)})
        # 1: a finding failed, which the test of that finding tells better
        assert done.returncode in (0, 1), done.stderr[-2000:]
        (report,) = Reports.model_validate_json(done.stdout).reports
        (kept,) = (folder / "runs" / board).glob("*.json")
        files = {p.name: p.read_text() for p in kept.with_suffix("").iterdir()}
        return Deployed(report, open_artifact(folder / "artifact"), files)

    return deployed


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["f32", "f16", "int8"])
def test_its_outputs_are_as_accurate_as_built(deploy: Any, precision: str) -> None:
    found = deploy(precision, "gpu-exact")
    assert found.report.precision == precision
    accurate = found.finding("as accurate as built")
    assert accurate.ok is True, accurate.text
    assert found.value("latency") > 0
    assert found.value("transfer_latency") > 0          # to the GPU and back: it is not the processor that ran


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["f32", "f16", "int8"])
def test_the_provider_that_was_asked_for_ran_and_what_fell_back_is_listed(deploy: Any, precision: str) -> None:
    found = deploy(precision, "gpu-exact")
    latency = found.report.find("latency")
    assert latency.conditions["provider"] == PROVIDER
    assert latency.conditions["provider_options"] == EXACT
    nodes = found.nodes()
    assert {n["provider"] for n in nodes} <= {PROVIDER, CPU}
    convolutions = {n["provider"] for n in nodes if "Conv" in n["op_name"]}
    assert convolutions == {PROVIDER}
    fell = {n["node"] for n in nodes if n["provider"] == CPU}
    text = found.finding("fall-back to the processor").text
    assert (text == "no node ran there") == (not fell)
    assert [n for n in fell if f"{n} (" not in text] == []


@pytest.mark.gpu
def test_energy_is_above_idle(deploy: Any) -> None:
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        pytest.skip("this driver has no NVML")
    found = deploy("f32", "gpu-exact")
    assert found.value("idle_power") > 0
    assert found.value("power") >= found.value("idle_power")
    energy = found.report.find("energy")
    assert energy is not None, found.report.not_measured["energy"]
    assert energy.value > 0
    assert energy.conditions["sensor"] == "nvml"
    # of the size of power times time, which were taken in two passes: a wrong unit is a thousand off
    assert energy.value < 10 * found.value("power") * found.value("latency")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["f32", "f16", "int8"])
def test_no_layer_beats_its_roofline(deploy: Any, precision: str) -> None:
    found = deploy(precision, "gpu-exact")
    text = found.finding("roofline").text
    under = _roofline.gpu(0)
    peaks = peak_ops_per_s(under.sm, under.sms, under.clock_hz)
    if not peaks:
        assert "not known" in text
        pytest.skip(f"the peak rates of compute capability {under.sm} are not known here")
    told = json.loads(found.files["roofline.json"])
    assert told["gpu"] == under.model_dump(mode="json")
    rows = {f"{r.stage}/{r.name}{r.index}": r for r in found.report.operators if r.cost is not None}
    placed = {p["layer"]: p for p in told["layers"]}
    assert placed
    assert set(placed) <= set(rows)
    assert {name for name, r in rows.items() if r.macs} <= set(placed) or precision not in peaks
    for name, place in placed.items():
        row = rows[name]
        each_s = row.cost / row.repeat
        least_s = 2 * (row.macs or 0) / peaks[place["precision"]]
        assert place["measured_s"] == pytest.approx(each_s)
        assert place["bound_s"] >= least_s * (1 - 1e-9)
        assert each_s >= 0.8 * place["bound_s"], name


@pytest.mark.gpu
@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="nvidia-smi, which the driver is held against, is "
                                                               "not here")
def test_the_driver_is_read_as_nvidia_smi_reads_it(needs_gpu: None) -> None:
    said = run(["nvidia-smi", "--query-gpu=name,compute_cap,clocks.max.sm", "--format=csv,noheader,nounits"],
               timeout_s=60, what="nvidia-smi").stdout
    listed = [[field.strip() for field in line.split(",")] for line in said.splitlines() if line.count(",") == 2]
    found = _roofline.gpu(0)
    clocks_hz = [1e6 * float(clock) for name, sm, clock in listed if (name, sm) == (found.name, found.sm)]
    assert clocks_hz, f"{found} is none of {listed}"
    assert 0.5 * max(clocks_hz) < found.clock_hz < 1.05 * max(clocks_hz)


@pytest.mark.gpu
def test_a_run_with_cuda_graphs_is_as_accurate(deploy: Any) -> None:
    found = deploy("f32", "gpu-graphs")
    assert found.report.find("latency").conditions["provider_options"] == GRAPHS
    accurate = found.finding("as accurate as built")
    assert accurate.ok is True, accurate.text
    form = found.finding("ODE form").text               # both forms ran, each of them captured
    assert "f32 unrolled" in form
    assert "f32 stepped" in form


@pytest.mark.gpu
def test_graphs_are_captured_and_replay_what_they_replace(deploy: Any, tmp_path: Path) -> None:
    """Unrolled and stepped, with graphs and without: the same outputs; and nodes run until they are captured."""
    artifact = deploy("f32", "gpu-exact").artifact
    built = artifact.manifest.built
    forms = {built.form: built.stages, **{v.form: v.stages for v in built.variants if v.precision == "f32"}}
    assert set(forms) >= {"unrolled", "stepped"}

    def listed(stages: tuple[StageFile, ...]) -> list[dict[str, Any]]:
        return [{"file": str(artifact.path(s.file)), "repeat": s.repeat, "times": s.times} for s in stages]

    runs = 20
    (tmp_path / "job.json").write_text(json.dumps({
        "inputs": str(artifact.path("golden/inputs.npy")), "runs": runs, "providers": [[PROVIDER, GRAPHS]],
        "forms": {form: listed(forms[form]) for form in ("unrolled", "stepped")}}))
    said = run([PYTHON, "-c", REPLAY, str(shipped("boards", "payloads", "onnxruntime_payload.py")), "job.json"],
               cwd=tmp_path, timeout_s=600, what="graphs on the GPU").stdout
    told = json.loads(next(line for line in said.splitlines() if line.startswith("told: ")).removeprefix("told: "))
    for form in ("unrolled", "stepped"):
        plain, captured = told[f"{form}-0"], told[f"{form}-1"]
        assert (plain["option"], captured["option"]) == (None, "enable_cuda_graph")
        assert plain["convolutions"] >= runs
        assert captured["convolutions"] < plain["convolutions"] / 2
    outputs = {name: np.load(tmp_path / f"{name}.npy") for name in told}
    expected = np.load(artifact.path("golden/outputs.npy"))[:runs]
    for name, values in outputs.items():
        assert np.abs(values - expected).max() < 1e-3 * np.abs(expected).max(), name
        # other algorithms may be chosen for other graphs: rounding, nothing more
        assert np.allclose(values, outputs["unrolled-0"], rtol=0, atol=1e-4 * np.abs(expected).max()), name


# Without a GPU.

A100 = _roofline.Gpu(name="A100", sm="8.0", sms=108, clock_hz=1.41e9, dram_bytes_per_s=1.555e12)


def test_a_layer_is_placed_as_by_hand() -> None:
    """float16 on an A100, whose data sheet has 312 T operations and 1,555 GB a second: 200.6 operations a byte."""
    operators = (
        Operator(index=0, name="Conv", stage="stem", macs=50_000_000_000, weight_bytes=2_000_000,
                 output_shape=(1, 1000, 1000), datatype="FLOAT16"),
        Operator(index=1, name="Gemm", stage="head", macs=1_000_000, weight_bytes=2_000_000,
                 output_shape=(1, 1000), datatype="FLOAT16"),
        Operator(index=2, name="Relu", stage="head", datatype="FLOAT16", output_shape=(1, 8)),     # fused: no cost
        Operator(index=3, name="Shape", stage="head", datatype="INT64", output_shape=(2,)))
    costs = tuple(OperatorCost(index=k, value=1e-3) for k in (0, 1, 3))
    conv, gemm = _roofline.positions(operators, costs, A100)
    assert (conv.layer, conv.limit) == ("stem/Conv0", "compute-bound")
    assert conv.ops_per_byte == pytest.approx(1e11 / 4e6)
    assert conv.bound_s == pytest.approx(1e11 / 312e12, rel=2e-3)
    assert conv.share == pytest.approx(0.3205, rel=2e-3)
    assert (gemm.layer, gemm.limit) == ("head/Gemm1", "memory-bound")
    assert gemm.bound_s == pytest.approx(2_002_000 / 1.555e12)


def test_an_unknown_gpu_places_nothing() -> None:
    operators = (Operator(index=0, name="Conv", stage="stem", macs=9, output_shape=(1,), datatype="FLOAT32"),)
    costs = (OperatorCost(index=0, value=1.0),)
    assert _roofline.positions(operators, costs, A100.model_copy(update={"sm": "99.0"})) == []


STANDIN = r"""
#include <string.h>
int cuInit(unsigned flags) { return flags; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return ordinal ? 101 : 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Stand-in", size); return device != 7; }
int cuDeviceGetAttribute(int *value, int number, int device) {
    switch (number) {
    case 13: *value = 1410000; break;
    case 16: *value = 108; break;
    case 36: *value = 1215000; break;
    case 37: *value = 5120; break;
    case 75: *value = 8; break;
    case 76: *value = 0; break;
    default: return 1;
    }
    return device != 7;
}
"""


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the driver of an A100 with 40 GB, which has one GPU."""
    if shutil.which("gcc") is None:
        pytest.skip("the stand-in for the driver needs gcc")
    (tmp_path / "standin.c").write_text(STANDIN)
    run(["gcc", "-shared", "-fPIC", "-o", str(tmp_path / "libcuda.so.1"), str(tmp_path / "standin.c")],
        timeout_s=60, what="gcc")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))


def test_the_driver_is_asked_for_the_rates(standin: None) -> None:
    found = _roofline.gpu(0)
    assert (found.name, found.sm, found.sms, found.clock_hz) == ("Stand-in", "8.0", 108, 1.41e9)
    assert found.dram_bytes_per_s == pytest.approx(1.555e12, rel=1e-3)          # the data sheet's
    with pytest.raises(BoardError, match="no GPU 1: cuDeviceGet of the CUDA driver failed with code 101"):
        _roofline.gpu(1)


def test_a_run_tells_its_positions(standin: None, small_artifact: Artifact) -> None:
    convolution = Operator(index=0, name="Conv", stage="net", macs=1000, weight_bytes=60, output_shape=(1, 10),
                           datatype="FLOAT32")
    built = small_artifact.manifest.built.model_copy(update={"operators": (convolution,)})
    manifest = small_artifact.manifest.model_copy(update={"built": built})
    artifact = Artifact(folder=small_artifact.folder, manifest=manifest)
    ran = Run(board="gpu", measurements=(), operator_costs=(OperatorCost(index=0, value=1e-6),))
    found = _roofline.with_positions(ran, artifact, 0)
    (told,) = found.findings
    assert told.ok is None
    assert "net/Conv0" in told.text
    assert "1.56 TB/s" in told.text
    (place,) = json.loads(found.files["roofline.json"])["layers"]
    assert place["bound_s"] == pytest.approx(100 / 1.5552e12)          # 15 weights and 10 outputs of 4 bytes
    (not_there,) = _roofline.with_positions(ran, artifact, 1).findings
    assert "not known" in not_there.text
    assert _roofline.with_positions(ran.model_copy(update={"operator_costs": ()}), artifact, 0).findings == ()
