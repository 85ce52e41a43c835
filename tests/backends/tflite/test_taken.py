"""A .tflite is deployed as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from hwkit.errors import BadInput, BadModel
from hwkit.model import Model
from tests.backends.tflite import nets
from tests.backends.tflite.conftest import Builds
from tests.sources.small_tflite import fully_connected


def as_it_is(model: Model, file: Path, folder: Path) -> Model:
    """The .tflite of a build as a Model of its own, its inputs channels last."""
    arrays = dict(np.load(model.data or ""))
    np.savez(folder / "last.npz", calibration=arrays["calibration"].transpose(0, 2, 3, 1),
             images=arrays["images"].transpose(0, 2, 3, 1), labels=arrays["labels"])
    return Model(name="taken", path=file, format="tflite", input_shape=(nets.SIDE, nets.SIDE, 1),
                 data=folder / "last.npz")


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_the_file_is_kept_and_compared_with_the_reference_kernels(
        precision: str, builds: Builds, ode_model: Model, network: nn.Sequential, tmp_path: Path) -> None:
    built, folder = builds(ode_model, precision=precision, ode="unrolled")
    original = folder / built.stages[0].file
    again, place = nets.build(as_it_is(ode_model, original, tmp_path), tmp_path / "build")
    assert (place / again.stages[0].file).read_bytes() == original.read_bytes()
    figures = {m.quantity: m.value for m in again.figures}
    assert figures["agreement"] == 1.0
    assert figures["rms_error"] < (1e-5 if precision == "f32" else 0.02)
    deployed = {m.quantity: m.value for m in built.figures}
    assert figures["accuracy"] == deployed["accuracy"]
    assert all(m.conditions["reference"] == "the runtime's reference kernels"
               for m in again.figures if m.quantity == "agreement")


def test_images_of_a_data_set_are_turned_channels_last(tmp_path: Path) -> None:
    weight = np.random.RandomState(0).standard_normal((4, 6)).astype(np.float32)
    (tmp_path / "fc.tflite").write_bytes(fully_connected(weight, np.zeros(4, np.float32)))
    model = Model(name="fc", path=tmp_path / "fc.tflite", format="tflite", input_shape=(6,))
    built, folder = nets.build(model, tmp_path / "build", golden="5")
    inputs = np.load(folder / "golden" / "inputs.npy")
    np.testing.assert_allclose(np.load(folder / "golden" / "outputs.npy"), inputs @ weight.T, rtol=1e-5, atol=1e-6)
    assert any("random inputs" in f.text for f in built.findings)
    assert not {"accuracy", "accuracy_float"} & {m.quantity for m in built.figures}


def test_wrong_shape(tmp_path: Path) -> None:
    (tmp_path / "fc.tflite").write_bytes(fully_connected(np.ones((4, 6), np.float32), np.zeros(4, np.float32)))
    model = Model(name="fc", path=tmp_path / "fc.tflite", format="tflite", input_shape=(7,))
    with pytest.raises(BadInput, match=r"takes an input of shape \(1, 6\), not \(1, 7\)"):
        nets.build(model, tmp_path / "build")


def test_two_outputs(tmp_path: Path) -> None:
    content = fully_connected(np.ones((4, 6), np.float32), np.zeros(4, np.float32), outputs=2)
    (tmp_path / "fc.tflite").write_bytes(content)
    model = Model(name="fc", path=tmp_path / "fc.tflite", format="tflite", input_shape=(6,))
    with pytest.raises(BadModel, match="2 outputs, not one"):
        nets.build(model, tmp_path / "build")
