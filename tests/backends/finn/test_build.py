"""Real builds by FINN, in its own environment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hwkit.artifact import Built, pack
from hwkit.backends import finn
from hwkit.backends.finn import gather
from hwkit.errors import BadModel, JobFailed
from hwkit.files import sha256
from hwkit.jobs import execute
from hwkit.model import Model
from hwkit.nn.qonnx import export_qonnx
from hwkit.sources import open_source, resolve
from hwkit.target import Target
from tests.backends.finn.building import Imported, build, driver, exported
from tests.backends.finn.nets import SHAPE, Cnn, Mlp, Ode, export, prepared
from tests.nn.small import dyadic, one_convolution

pytestmark = pytest.mark.finn
FEATURES = (64,)


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.set_num_threads(1)
    return exported(Mlp, tmp_path_factory.mktemp("mlp"), FEATURES)


@pytest.fixture(scope="module")
def imported(mlp: Model, fpga: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imported]:
    """For what need not be a process of its own."""
    started = Imported(driver(mlp, fpga, {}), tmp_path_factory.mktemp("home"))
    yield started
    started.end()


@pytest.fixture(scope="module")
def slow_mlp(mlp: Model, fpga: Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(mlp, fpga, tmp_path_factory.mktemp("slow") / "build", {"fps": "1", "golden": "4"})


@pytest.fixture(scope="module")
def cnn(fpga: Target, imported: Imported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cnn")
    return build(exported(Cnn, folder, SHAPE), fpga, folder / "build", {"fps": "50000", "golden": "4"}, imported)


def figures(made: Built) -> dict[str, float]:
    return {m.quantity: m.value for m in made.figures}


def finding(made: Built, name: str) -> bool | None:
    return next(f.ok for f in made.findings if f.name == name)


def test_a_standard_cnn_is_exact_and_as_fast_as_asked(cnn: Path) -> None:
    made = finn.collect(cnn)
    assert finding(made, "FINN's execution, hardware layers") is True
    assert figures(made)["max_error"] == 0            # powers of two, no tie: every value is exact in float32
    assert figures(made)["throughput"] >= 50_000
    assert {o.delegate.split("_")[0] for o in made.operators} >= {"MVAU", "VVAU", "Pool", "Thresholding"}
    assert sum(o.macs or 0 for o in made.operators) == 64 * 27 * 8 + 64 * 9 * 8 + 64 * 8 * 8 + 32 * 10


def test_the_wanted_outputs_are_torchs_own(fpga: Target, imported: Imported, tmp_path: Path) -> None:
    net = prepared(Mlp, FEATURES)
    path = export(net, tmp_path / "net.onnx", FEATURES)
    model = Model(name="net", path=path, format="qonnx", input_shape=FEATURES)
    made = build(model, fpga, tmp_path / "build", {"fps": "max", "golden": "4"}, imported)
    inputs, outputs = (np.load(made / f"golden/{name}.npy", allow_pickle=False) for name in ("inputs", "outputs"))
    with torch.no_grad():
        wanted = net(torch.tensor(inputs))
    np.testing.assert_array_equal(outputs, np.asarray(getattr(wanted, "value", wanted)))
    found = figures(finn.collect(made))
    assert found["throughput"] > 1e6                  # nothing was asked: not the slowest, which takes 2048 cycles
    assert found["LUT"] <= fpga.fpga.limit("LUT")     # type: ignore[union-attr]


def test_the_generated_code_is_whole_and_knows_no_machine(cnn: Path) -> None:
    made = finn.collect(cnn)
    code = [cnn / f for f in made.files if f.startswith("codegen/")]
    folders = {f.parent.name for f in code}
    assert {o.name for o in made.operators} <= folders
    assert any(f.suffix == ".cpp" and "#pragma HLS" in f.read_text() for f in code)
    assert any(re.search(r"^\s*module ", f.read_text(), re.M) for f in code if f.suffix == ".v")
    for file in code:
        assert str(cnn) not in file.read_text()
        assert "/site-packages/" not in file.read_text()


def test_the_folding_is_legal_and_written_as_finn_takes_it(cnn: Path) -> None:
    folding = json.loads((cnn / "report/folding_config.json").read_text())
    assert set(folding) == {"Defaults", *(o.name for o in finn.collect(cnn).operators)}
    assert 27 % folding["MVAU_hls_0"]["SIMD"] == 0
    assert 8 % folding["MVAU_hls_0"]["PE"] == 0


def test_an_artifact_of_it_can_be_packed(cnn: Path, tmp_path: Path) -> None:
    artifact = pack(cnn, tmp_path / "artifact", finn.collect(cnn), name="cnn", target="t", backend="finn",
                    precision="as-given", dataset=None, input_shape=SHAPE, history=())
    assert artifact.path("streamlined.onnx").is_file()


def test_the_same_network_makes_the_same_files(mlp: Model, slow_mlp: Path, fpga: Target, tmp_path: Path) -> None:
    """Each in a process of its own."""
    again = build(mlp, fpga, tmp_path / "again", {"fps": "1", "golden": "4"})
    first, second = finn.collect(slow_mlp), finn.collect(again)
    assert first == second
    assert {f: sha256(slow_mlp / f) for f in first.files} == {f: sha256(again / f) for f in second.files}


def test_steps_of_a_neural_ode_unrolled_and_rolled_compute_the_same(fpga: Target, imported: Imported,
                                                                    tmp_path: Path) -> None:
    model = exported(Ode, tmp_path, SHAPE, steps=2)
    rolled, flat = (finn.collect(build(model, fpga, tmp_path / ode, {"fps": "5000", "ode": ode, "golden": "2"},
                                       imported)) for ode in ("rolled", "unrolled"))
    for made in (rolled, flat):
        assert finding(made, "FINN's execution, hardware layers") is True
        assert figures(made)["throughput"] >= 5000
    assert figures(rolled)["LUT"] < figures(flat)["LUT"]
    assert finding(rolled, "state on chip") is False
    assert {o.repeat for o in rolled.operators} == {1, 2}


def test_a_network_that_rounds_down_is_exact_and_in_integers(fpga: Target, imported: Imported,
                                                             tmp_path: Path) -> None:
    """Powers of two, floor everywhere, unequal scales at the residual additions, a sum over the map at the end."""
    module = dyadic(one_convolution(channels=4))
    export_qonnx(module, module.input_shape, tmp_path / "raw.onnx")
    model = open_source(resolve(str(tmp_path / "raw.onnx")), tmp_path / "model")
    assert finn.check(model, fpga, finn.options({}, fpga)) == []
    made = finn.collect(build(model, fpga, tmp_path / "build", {"fps": "100", "golden": "4"}, imported))
    assert figures(made)["max_error"] == 0
    assert "round down, which FINN's thresholds do exactly" in next(
        f.text for f in made.findings if f.name == "rounding ties")
    assert "float layers" not in {f.name for f in made.findings}
    assert "GlobalAccPool_hls" in {o.delegate for o in made.operators}


@pytest.fixture
def prepared_folder(slow_mlp: Path, tmp_path: Path) -> Path:
    """A build folder as the driver finds it."""
    for name in ("spec.json", "golden.npz"):
        (tmp_path / name).write_bytes((slow_mlp / name).read_bytes())
    return tmp_path


WISHES: dict[str, tuple[dict[str, Any], str]] = {
    "too-fast": ({"target_fps": 1.9e8}, "cannot be had"),
    "too-large": ({"limits": {"LUT": 100, "DSP": 10, "BRAM_18K": 10, "URAM": 0}}, "of the 100 allowed"),
    "no-steps": ({"rolled": True}, "no step that repeats")}


def test_a_wish_that_cannot_be_met_says_what_could(prepared_folder: Path, imported: Imported) -> None:
    spec = json.loads((prepared_folder / "spec.json").read_text())
    for wish, (changes, _) in WISHES.items():
        (prepared_folder / f"{wish}.spec").write_text(json.dumps(spec | {"finn": spec["finn"] | changes}))
        imported.run(prepared_folder, f"{wish}.spec", f"{wish}.json")
    for wish, (_, says) in WISHES.items():
        told = (prepared_folder / f"{wish}.json").read_text()
        refused = json.loads(told)["refused"]
        assert says in refused["message"], wish
        assert refused["hint"]
    (prepared_folder / "finn.json").write_text(told)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(prepared_folder)
        with pytest.raises(BadModel, match="net: there is no step that repeats"):
            gather.job(spec, lambda text: None)


def test_a_crash_names_its_log_and_a_hang_ends(prepared_folder: Path, mlp: Model, fpga: Target) -> None:
    command = driver(mlp, fpga, {})
    with pytest.raises(JobFailed, match=r"took longer than 0\.2 s"):
        execute(command.model_copy(update={"timeout_s": 0.2}), prepared_folder)
    (prepared_folder / "golden.npz").write_bytes(b"damaged")
    with pytest.raises(JobFailed, match="FINN's log is") as caught:
        execute(command, prepared_folder)
    log = Path(caught.value.message.split("FINN's log is ")[1])
    assert "Traceback" in log.read_text()
