"""Artifacts of the ONNX backends, whole: files, forms, the board's plan, golden data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hwkit import zoo
from hwkit.artifact import Artifact, StageFile, open_artifact
from hwkit.backends._onnx.session import Chain
from hwkit.gpu.plan import BoardPlan, load
from hwkit.model import Model
from tests.backends.onnx import builds, nets

Build = Callable[..., Artifact]


@pytest.fixture
def build(models: dict[str, Model], tmp_path: Path) -> Build:
    """build(model, target, backend="tensorrt", **options)"""
    def make(name: str, target: str, backend: str = "tensorrt", **options: str) -> Artifact:
        return builds.built(models[name], target, tmp_path / f"{name}-{target}", backend, **options)
    return make


def golden(artifact: Artifact, name: str) -> np.ndarray:
    return np.load(artifact.path(f"golden/{name}.npy"))


def run(path: Path, x: np.ndarray, t: float | None = None) -> np.ndarray:
    """onnxruntime on one file, called as its documentation says."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: x}
    if t is not None:
        given["t"] = np.array([t], np.float32)
    return session.run(None, given)[0]


def chain(artifact: Artifact, stages: tuple[StageFile, ...]) -> np.ndarray:
    """Outputs of all golden inputs through the files of a form."""
    found = []
    for x in golden(artifact, "inputs")[:, None]:
        for stage in stages:
            for k in range(stage.repeat):
                x = run(artifact.path(stage.file), x, None if stage.times is None else stage.times[k])
        found.append(x[0])
    return np.stack(found)


def error(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(np.mean((got - wanted) ** 2) / np.mean(wanted ** 2)))


def graph(artifact: Artifact, file: str = "model.onnx") -> onnx.ModelProto:
    return onnx.load(artifact.path(file))


def opset(model: onnx.ModelProto) -> int:
    (found,) = [o.version for o in model.opset_import]
    return found


def test_what_lies_in_an_artifact(orin: Artifact) -> None:
    """int8 in both forms, float16 beside it, the plan, the programs of the board."""
    manifest = open_artifact(orin.folder).manifest
    assert (manifest.precision, manifest.built.form) == ("int8", "unrolled")
    assert [s.file for s in manifest.built.stages] == ["model.onnx"]
    stepped, half = manifest.built.variants
    assert [(v.name, v.precision, v.form) for v in (stepped, half)] == [
        ("int8 stepped", "int8", "stepped"), ("f16 unrolled", "f16", "unrolled")]
    assert [(s.name, s.repeat) for s in stepped.stages] == [("stem", 1), ("ode", nets.STEPS), ("head", 1)]
    on_disk = {str(p.relative_to(orin.folder)) for p in orin.folder.rglob("*") if p.is_file()}
    wanted = {"model.onnx", *(s.file for v in (stepped, half) for s in v.stages), "board/plan.json",
              "board/job.json", "board/tensorrt.py", "board/sense.py",
              *(f"golden/{n}.npy" for n in ("inputs", "expected", "outputs", "raw_outputs"))}
    assert on_disk == {*wanted, "manifest.json"}
    names = {f.name: f.ok for f in manifest.built.findings}
    assert names["weights stored once"] is names["forms compute the same"] is names["TensorRT's parser"] is True
    assert next(m for m in manifest.built.figures if m.quantity == "latency").kind == "estimated"


def test_golden_data_are_torchs_and_onnxruntimes(orin: Artifact) -> None:
    network = builds.ode()
    with torch.no_grad():
        wanted = np.concatenate([network(torch.from_numpy(x[None])).numpy() for x in golden(orin, "inputs")])
    np.testing.assert_allclose(golden(orin, "expected"), wanted, rtol=0, atol=1e-6)
    built, stages = orin.manifest.built, dict[str, tuple[StageFile, ...]]()
    stages["unrolled"] = built.stages
    stages["stepped"] = built.variants[0].stages
    for form in stages.values():
        np.testing.assert_allclose(chain(orin, form), golden(orin, "outputs"), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(golden(orin, "raw_outputs"), golden(orin, "outputs"))
    assert 1e-4 < error(golden(orin, "outputs"), wanted) < 0.15
    assert 1e-6 < error(chain(orin, built.variants[1].stages), wanted) < 5e-3


def test_the_plan_of_the_board(orin: Artifact) -> None:
    plan: BoardPlan = load(orin.path(str(orin.manifest.built.board_plan)))
    forms = plan.forms()
    assert {name: [e.precision for e in chain] for name, chain in forms.items()} == {
        "deployed": ["int8"], "int8 stepped": ["int8"] * 3, "f16 unrolled": ["f16"]}
    assert [e.repeat for e in forms["int8 stepped"]] == [1, nets.STEPS, 1]
    for engine in plan.engines:
        assert engine.sha256 == hashlib.sha256(orin.path(engine.file).read_bytes()).hexdigest()
    assert [e.inputs["x"] for e in forms["int8 stepped"]] == [(1, *builds.SHAPE), *[(1, 4, 6, 6)] * 2]
    flags = {f.name: {p: {w for w in c.argv if w in ("--int8", "--fp16", "--stronglyTyped")}
                      for p, c in f.build.items()} for f in plan.families}
    weak = {"int8": {"--int8", "--fp16"}, "f16": {"--fp16"}}
    typed = {"int8": set[str](), "f16": set[str]()}
    assert flags == {"8.2": weak, "8.4": weak, "8.6": weak, "10": {**weak, "f16": {"--stronglyTyped"}},
                     "11": typed}
    job = json.loads(orin.path("board/job.json").read_text())
    for key in ("plan", "inputs"):
        assert orin.path(job[key]).is_file()
    payloads = Path(__file__).parents[3] / "boards" / "payloads"
    for name in ("tensorrt.py", "sense.py"):
        assert orin.path(f"board/{name}").read_bytes() == (payloads / name).read_bytes()


def test_a_second_build_in_another_process_has_the_same_digest(orin: Artifact, models: dict[str, Model],
                                                               tmp_path: Path) -> None:
    again = builds.built(models["ode"], "jetson-orin-nano", tmp_path, fresh=True, largest_drop="1")
    assert again.manifest.digest == orin.manifest.digest


def test_weights_of_ints_where_the_parser_takes_them_and_floats_for_tensorrt_8(orin: Artifact,
                                                                              build: Build) -> None:
    xavier = build("ode", "jetson-xavier-nx", largest_drop="1")
    assert xavier.manifest.precision == "int8"
    for artifact, kind in ((orin, onnx.TensorProto.INT8), (xavier, onnx.TensorProto.FLOAT)):
        made = graph(artifact)
        weights = {t.name for t in made.graph.initializer if len(t.dims) >= 2}
        assert {t.data_type for t in made.graph.initializer if t.name in weights} == {kind}
        readers = {n.op_type for n in made.graph.node if set(n.input) & weights}
        assert readers == {"QuantizeLinear" if kind == onnx.TensorProto.FLOAT else "DequantizeLinear"}
        assert opset(made) == 17                  # TensorRT 8.5 and 10 both read it
    np.testing.assert_allclose(golden(xavier, "outputs"), golden(orin, "outputs"), rtol=0, atol=1e-5)


def test_a_nano_gets_float16_at_the_opset_that_its_tensorrt_reads(build: Build) -> None:
    nano = build("ode", "jetson-nano")
    assert nano.manifest.precision == "f16"
    made = graph(nano)
    assert opset(made) == 13
    assert {t.data_type for t in made.graph.initializer if len(t.dims) >= 2} == {onnx.TensorProto.FLOAT16}
    assert [v.name for v in nano.manifest.built.variants] == ["f16 stepped", "f32 unrolled"]
    assert error(golden(nano, "outputs"), golden(nano, "expected")) < 5e-3


@pytest.mark.parametrize("name", zoo.names())
def test_every_network_of_the_zoo_agrees_with_torch_at_both_opsets(name: str, tmp_path: Path) -> None:
    """At 64 x 64 where they take larger images: the operators are the same."""
    found = zoo.network(name, seed=1)
    shape = found.input_shape if found.input_shape[-1] <= 64 else (3, 64, 64)
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = found.module(x).numpy()
    for version in (13, 17):
        pieces = nets.pieces(found.module, shape, tmp_path, version)
        assert {opset(p.model) for p in pieces} == {version}
        assert not [n for p in pieces for n in p.model.graph.node if "Normalization" in n.op_type
                    and n.op_type != "LayerNormalization"]
        got = Chain(pieces)(x.numpy())
        assert float(np.abs(got - wanted).max() / np.abs(wanted).max()) < 3e-5


@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime"])
def test_a_users_file_is_deployed_as_it_is(backend: str, build: Build, given: Path) -> None:
    """Its own BatchNorm included; the same outputs to the last bit."""
    artifact = build("classifier", "jetson-orin-nano", backend, precision="f32")
    kinds = [n.op_type for n in graph(artifact).graph.node]
    assert kinds == [n.op_type for n in onnx.load(given / "classifier.onnx").graph.node]
    for x in golden(artifact, "inputs")[:, None]:
        np.testing.assert_array_equal(run(artifact.path("model.onnx"), x), run(given / "classifier.onnx", x))
    assert (artifact.manifest.built.board_plan is not None) == (backend == "tensorrt")


def test_a_users_file_in_float16_is_its_own_graph(build: Build, given: Path) -> None:
    artifact = build("classifier", "jetson-nano")
    kinds = [n.op_type for n in graph(artifact).graph.node if n.op_type != "Cast"]
    assert kinds == [n.op_type for n in onnx.load(given / "classifier.onnx").graph.node]
    wanted = np.concatenate([run(given / "classifier.onnx", x) for x in golden(artifact, "inputs")[:, None]])
    assert 1e-6 < error(golden(artifact, "outputs"), wanted) < 5e-3


def test_a_users_file_is_written_anew_for_int8(build: Build, given: Path) -> None:
    artifact = build("classifier", "jetson-orin-nano")
    kinds = {n.op_type for n in graph(artifact).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm"} <= kinds
    assert "BatchNormalization" not in kinds
    wanted = np.concatenate([run(given / "classifier.onnx", x) for x in golden(artifact, "inputs")[:, None]])
    np.testing.assert_allclose(golden(artifact, "expected"), wanted, rtol=0, atol=1e-5)
    assert 1e-4 < error(golden(artifact, "outputs"), wanted) < 0.15


@pytest.mark.parametrize(("name", "kept"), [("branching", "If"), ("quantised", "QuantizeLinear")])
@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime"])
def test_a_file_without_a_form_in_torch_is_deployed_as_given(name: str, kept: str, backend: str, build: Build,
                                                             models: dict[str, Model], given: Path) -> None:
    assert models[name].format == "onnx"
    precision = "int8" if name == "quantised" else "f32"
    artifact = build(name, "jetson-orin-nano", backend, precision=precision)
    assert kept in [n.op_type for n in graph(artifact).graph.node]
    for x, wanted in zip(golden(artifact, "inputs")[:, None], golden(artifact, "outputs"), strict=True):
        np.testing.assert_array_equal(run(given / f"{name}.onnx", x)[0], wanted)


@pytest.mark.parametrize(("target", "apart"), [("jetson-nano", 5e-3), ("jetson-orin-nano", 0.2)])
def test_branches_in_float16_and_int8(target: str, apart: float, build: Build, given: Path) -> None:
    artifact = build("branching", target)
    wanted = np.concatenate([run(given / "branching.onnx", x) for x in golden(artifact, "inputs")[:, None]])
    assert 1e-6 < error(golden(artifact, "outputs"), wanted) < apart
    assert "If" in [n.op_type for n in graph(artifact).graph.node]


def test_a_loop_that_hwkit_wrote_is_taken_as_a_users_file(build: Build, models: dict[str, Model],
                                                          tmp_path: Path) -> None:
    """Its body reads weights from around it, and its values are called as new ones would be."""
    first = build("ode", "jetson-orin-nano", precision="f32", ode="loop")
    assert "Loop" in [n.op_type for n in graph(first).graph.node]
    file = first.path("model.onnx")
    model = models["branching"].model_copy(update={"path": file, "onnx": file, "name": "loop"})
    for precision, apart in (("f32", 0.0), ("f16", 5e-3)):
        again = builds.built(model, "jetson-orin-nano", tmp_path / precision, precision=precision)
        for x, got in zip(golden(again, "inputs")[:, None], golden(again, "outputs"), strict=True):
            assert error(got, run(file, x)[0]) <= apart
