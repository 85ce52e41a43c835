"""A .tflite is taken as it is, once it has been checked and run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.sources.opening import Outcomes, model, opened, refusal
from tests.sources.small_tflite import fully_connected

RANDOM = np.random.default_rng(0)
WEIGHT, BIAS = RANDOM.standard_normal((3, 5)).astype(np.float32), np.ones(3, np.float32)
NAN = np.where(np.eye(3, 5) > 0, np.float32("nan"), WEIGHT).astype(np.float32)
GOOD = fully_connected(WEIGHT, BIAS)
FILES = {
    "good": GOOD,
    "open batch": fully_connected(WEIGHT, BIAS, signature=(-1, 5)),
    "nan": fully_connected(NAN, BIAS),
    "open size": fully_connected(WEIGHT, BIAS, signature=(1, -1)),
    "batch": fully_connected(WEIGHT, BIAS, batch=4),
    "outputs": fully_connected(WEIGHT, BIAS, outputs=2),
    "operator": fully_connected(WEIGHT, BIAS, operator=schema.BuiltinOperator.CONV_2D),
    "truncated": GOOD[:len(GOOD) // 2],
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    folder = tmp_path_factory.mktemp("tflite")
    for name, data in FILES.items():
        (folder / f"{name}.tflite").write_bytes(data)
    words = {name: str(folder / f"{name}.tflite") for name in FILES}
    return opened({**words, "shape": (words["good"], {"input_shape": (6,)})}, folder / "out")


@pytest.mark.parametrize("name", ["good", "open batch"])
def test_it_is_taken_as_it_is(name: str, outcomes: Outcomes) -> None:
    found = model(outcomes[name])
    assert found.path.read_bytes() == FILES[name]
    assert (found.format, found.input_shape, found.parameters, found.parameter_bytes) == ("tflite", (5,), 18, 72)
    assert (found.name, found.stages, found.history) == (name, (), ())


@pytest.mark.parametrize(("name", "says"), [
    ("nan", "weight has 3 NaN among its 15 values"),
    ("open size", "takes inputs of varying shape (1, -1)"),
    ("batch", "takes an input of shape (4, 5)"),
    ("outputs", "has 1 inputs and 2 outputs"),
    ("operator", "cannot be read"),
    ("truncated", "cannot be read"),
    ("shape", "takes inputs of shape (5,), not (6,)"),
])
def test_what_cannot_be_deployed(name: str, says: str, outcomes: Outcomes) -> None:
    assert says in refusal(outcomes[name])


def test_no_framework_is_needed(tmp_path: Path) -> None:
    """Opening one imports neither torch nor TensorFlow."""
    import subprocess
    import sys
    code = ("import sys; import hwkit.sources.tflite;"
            "print([m for m in ('torch', 'tensorflow', 'onnx') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
