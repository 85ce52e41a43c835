"""Keras files and SavedModels, converted by TensorFlow where it is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.errors import ToolMissing
from hwkit.sources import open_source, resolve
from tests.sources.opening import Outcomes, model, opened, opened_in_one_process, refusal

INSTALLED = importlib.util.find_spec("tensorflow") is not None
FORMS = ("net.keras", "net.h5", "saved")
needs_tensorflow = pytest.mark.skipif(not INSTALLED, reason="needs the extra tensorflow")
# Made in a process of its own: TensorFlow beside torch in this one would cost memory and threads.
MAKE = """
import sys, pathlib
import keras, numpy as np, tensorflow as tf
folder, canary = pathlib.Path(sys.argv[1]), sys.argv[2]
keras.utils.set_random_seed(0)
net = keras.Sequential([
    keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, padding="same", strides=2, activation="relu"),
    keras.layers.BatchNormalization(), keras.layers.DepthwiseConv2D(3), keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(3)])
for weight in net.weights:
    weight.assign(weight.numpy() + 0.1 * np.random.default_rng(1).random(weight.shape))
x = np.random.default_rng(2).standard_normal((1, 8, 8, 1)).astype("float32")
np.savez(folder / "expected.npz", x=x, y=net(x, training=False).numpy())
net.save(folder / "net.keras"); net.save(folder / "net.h5"); net.export(folder / "saved", verbose=False)
net.layers[-1].kernel.assign(net.layers[-1].kernel.numpy() * np.nan)
net.save(folder / "nan.keras")
keras.Sequential([keras.Input((None, 3)), keras.layers.Conv1D(2, 3), keras.layers.GlobalAveragePooling1D()]).save(
    folder / "open.keras")
attack = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: (open(canary, "w"), x)[1])])
attack.save(folder / "lambda.keras"); attack.save(folder / "lambda.h5")
class Writes(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32)])
    def call(self, x):
        tf.io.write_file(canary, "x")
        return x * 2
writes = Writes()
tf.saved_model.save(writes, str(folder / "writes"), signatures=writes.call)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", MAKE, str(folder), str(folder / "canary")], check=True, env=quiet,
                   capture_output=True)
    (folder / "canary").unlink(missing_ok=True)   # Keras calls the layer once when it builds the network
    with zipfile.ZipFile(folder / "damaged.keras", "w") as z:
        z.writestr("config.json", "{}")
        z.writestr("model.weights.h5", "x")
    return folder


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> Outcomes:
    refused = ["nan.keras", "open.keras", "lambda.keras", "lambda.h5", "writes", "damaged.keras"]
    cases: dict[str, Any] = {name: str(folder / name) for name in refused}
    cases["sized"] = (cases["open.keras"], {"input_shape": (9, 3)})
    return {**opened({name: str(folder / name) for name in FORMS}, folder / "out"),
            **opened_in_one_process(cases, folder / "out")}


@needs_tensorflow
@pytest.mark.parametrize("name", FORMS)
def test_it_computes_what_keras_did(name: str, outcomes: Outcomes, folder: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter
    found = model(outcomes[name])
    assert (found.format, found.input_shape) == ("tflite", (8, 8, 1))
    interpreter = Interpreter(model_path=str(found.path))
    interpreter.allocate_tensors()
    with np.load(folder / "expected.npz") as expected:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], expected["x"])
        interpreter.invoke()
        got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_allclose(got, expected["y"], rtol=1e-5, atol=1e-6)


@needs_tensorflow
def test_three_forms_of_a_network_give_one_file(outcomes: Outcomes) -> None:
    assert len({model(outcomes[name]).path.read_bytes() for name in FORMS}) == 1


@needs_tensorflow
def test_an_open_size_is_chosen_by_the_user(outcomes: Outcomes) -> None:
    assert model(outcomes["sized"]).input_shape == (9, 3)


@needs_tensorflow
@pytest.mark.parametrize(("name", "says"), [
    ("nan.keras", "kernel has 12 NaN among its 12 values"),
    ("open.keras", "--input-shape ?,3"),
    ("lambda.keras", "Lambda"),
    ("lambda.h5", "Lambda"),
    ("writes", "has the operator WriteFile"),
    ("damaged.keras", "cannot be read"),
])
def test_what_cannot_be_deployed(name: str, says: str, outcomes: Outcomes, folder: Path) -> None:
    assert says in refusal(outcomes[name])
    assert not (folder / "canary").exists()


@pytest.mark.skipif(INSTALLED, reason="TensorFlow is installed")
def test_without_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    with pytest.raises(ToolMissing) as e:
        open_source(resolve(str(tmp_path / "net.h5")), tmp_path / "out")
    assert e.value.hint == "pip install 'hwkit[tensorflow]'"
    assert e.value.exit_code == 3
