"""Bad input for the Jetsons through the command line: one line with the next command, before any long work."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from hwkit import backends
from hwkit.errors import BadInput
from hwkit.model import Model
from hwkit.target import target
from tests.backends.onnx import builds
from tests.commands import hwkit

ORIN, NANO, TX2 = "jetson-orin-nano", "jetson-nano", "jetson-tx2"
SIDE = builds.SHAPE[-1]
PLAIN = ("plain.onnx", "--data", "inputs.npz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users' files, and a cache so that each is opened once."""
    made = tmp_path_factory.mktemp("refusals")
    builds.data(made / "inputs.npz")
    builds.data(made / "others.npz", (1, SIDE, SIDE + 1))
    builds.classifier(made / "plain.onnx")
    builds.classifier(made / "new.onnx", opset=19)
    builds.classifier(made / "dynamic.onnx", shape=("n", 1, "h", "w"))
    builds.determinant(made / "det.onnx")
    return made


@pytest.mark.parametrize(("words", "told", "step"), [
    (["--target", NANO, "new.onnx"],
     "opset 19 is newer than the 13 that TensorRT 8.2.1 reads", "export it with opset 13"),
    (["--target", ORIN, *PLAIN, "--precision", "f16", "--set", "source=torch", "--set", "opset=19"],
     "opset 19 is not written", "choose 13 to 17"),
    (["--target", NANO, *PLAIN, "--set", "source=torch", "--set", "opset=17"],
     "TensorRT 8.2.1 reads ONNX up to opset 13, not 17", "choose opset=13"),
    (["--target", ORIN, "--precision", "f32", "det.onnx"],
     "node 'det' (Det): TensorRT 10.3.0 does not read this operator", "use ONNX Runtime"),
    (["--target", ORIN, "det.onnx"], "int8 needs real inputs", "--data FILE.npz"),
    (["--target", ORIN, "dynamic.onnx"], "takes inputs of varying shape (1,?,?)", "--input-shape 1,?,?"),
    (["--target", NANO, *PLAIN, "--precision", "int8"],
     "target jetson-nano takes f32, f16, not int8 (its GPU has no int8 instructions)", "choose --precision f16"),
    (["--target", TX2, *PLAIN, "--precision", "int8"],
     "target jetson-tx2 takes f32, f16, not int8 (its GPU has no int8 instructions)", "choose --precision f16"),
    (["--target", ORIN, "plain.onnx", "--data", "others.npz"],
     f"'calibration' has shape (24, 1, {SIDE}, {SIDE + 1}), the network takes ('n', 1, {SIDE}, {SIDE})",
     "an .npz holds"),
    (["--target", ORIN, *PLAIN, "--set", "ode=stepped"], "plain has no ODE steps to run one by one",
     "leave out ode"),
    (["--target", ORIN, "--backend", "tflite", *PLAIN], "has no backend 'tflite'", "tensorrt"),
])
def test_one_line_and_the_next_step(words: list[str], told: str, step: str, folder: Path) -> None:
    done = hwkit("build", *words, cwd=folder, env={"HWKIT_CACHE": str(folder / "cache")}, timeout_s=60)
    assert done.returncode == 2, (done.stdout, done.stderr)
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("hwkit: ")]
    assert told in said
    assert step in said.split(told, 1)[1]
    assert " -> " in said
    assert "Traceback" not in done.stderr
    assert "writing ONNX" not in done.stderr
    assert not (folder / "hwkit-out").exists()


def test_a_precision_asked_of_a_quantised_file(models: dict[str, Model], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is quantised already \(node .*Conv") as caught:
        builds.built(models["quantised"], ORIN, tmp_path, precision="f16")
    assert caught.value.hint.startswith("choose --precision int8")


def test_what_tensorrt_does_not_read_onnxruntime_runs(models: dict[str, Model], tmp_path: Path) -> None:
    artifact = builds.built(models["det"], ORIN, tmp_path, "onnxruntime", precision="f32")
    assert [n.op_type for n in onnx.load(artifact.path("model.onnx")).graph.node] == ["Det", "Reshape", "Gemm"]


@pytest.mark.parametrize(("name", "why"), [("branching", "the operator If is not supported"),
                                           ("quantised", "is quantised already (node Q, QuantizeLinear)")])
def test_tflite_says_why_it_does_not_take_a_file(name: str, why: str, models: dict[str, Model]) -> None:
    rpi, tflite = target("rpi4"), backends.backend("tflite")
    (problem,) = [p for p in tflite.check(models[name], rpi, tflite.options({}, rpi)) if p.fatal]
    assert problem.message.startswith("the tflite backend takes pt2 or tflite, not onnx")
    assert why in problem.message


def test_without_cuda_nothing_is_built_for_it(folder: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime has the CUDA provider here")
    done = hwkit("deploy", "--target", "cuda", *PLAIN, "-o", "cuda", cwd=folder)
    assert done.returncode == 3
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("hwkit: ")]
    assert "CUDAExecutionProvider" in said
    assert " -> hwkit board make cuda" in said
    assert not (folder / "cuda").exists()
