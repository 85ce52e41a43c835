"""Small real models, artifacts made of them, and an emulated board that is ready."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit import board as boards
from hwkit.artifact import Artifact, Built, Operator, StageFile, pack
from hwkit.board import Board
from hwkit.process import run
from hwkit.runners import qemu_user

TIMES = (0.0, 0.25, 0.5)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what make_models.py makes."""
    folder = tmp_path_factory.mktemp("models")
    run([sys.executable, str(Path(__file__).with_name("make_models.py")), str(folder)], timeout_s=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, what="making small models")
    return folder


@pytest.fixture(scope="session")
def samples(models: Path) -> np.ndarray[Any, Any]:
    """Six float32 inputs of shape (8, 8, 3)."""
    return np.load(models / "inputs.npy")


@pytest.fixture(scope="session")
def expected(models: Path) -> dict[str, np.ndarray[Any, Any]]:
    """torch's outputs: "cnn", "stepped", "ends"."""
    return dict(np.load(models / "expected.npz"))


class Interpreted:
    """One model through the interpreter, called as its documentation says: what the payload is held against."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(str(path), num_threads=1)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]
        self.output = self.interpreter.get_output_details()[0]

    def raw(self, value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Output of one input with batch, both raw."""
        self.interpreter.set_tensor(self.input["index"], value)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output["index"])

    def quantised(self, value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Float values as the int8 input: the nearest step, halves to the even one, as TFLite does."""
        scale, zero = self.input["quantization"]
        steps = [round(float(np.float32(v) / np.float32(scale))) + zero for v in value.ravel()]
        return np.array([min(127, max(-128, s)) for s in steps], np.int8).reshape(value.shape)

    def real(self, raw: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The output's steps as float32."""
        scale, zero = self.output["quantization"]
        return ((raw.astype(np.int32) - zero) * np.float32(scale)).astype(np.float32)


@pytest.fixture(scope="session")
def interpreted(models: Path) -> Callable[[str], Interpreted]:
    return lambda name: Interpreted(models / f"{name}.tflite")


Make = Callable[..., Artifact]


@pytest.fixture(scope="session")
def make_artifact(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """make_artifact(target, stages, operators=(), **golden): an artifact of some of the small models."""

    def make(target: str, stages: Sequence[StageFile], operators: Sequence[tuple[str, bytes]] = (),
             **golden: np.ndarray[Any, Any]) -> Artifact:
        folder = tmp_path_factory.mktemp("artifact")
        build = folder / "build"
        (build / "golden").mkdir(parents=True)
        (build / "ops").mkdir()
        for stage in stages:
            shutil.copy(models / stage.file, build / stage.file)
        for name, values in golden.items():
            np.save(build / f"golden/{name}.npy", values)
        listed = []
        for index, (name, content) in enumerate(operators):
            (build / f"ops/{index}.tflite").write_bytes(content)
            listed.append(Operator(index=index, name=name, stage=stages[0].name, file=f"ops/{index}.tflite"))
        files = [str(p.relative_to(build)) for p in sorted(build.rglob("*")) if p.is_file()]
        built = Built(files=tuple(files), stages=tuple(stages), operators=tuple(listed))
        return pack(build, folder / "artifact", built, name="small", target=target, backend="tflite",
                    precision="int8", dataset=None, input_shape=(8, 8, 3), history=())

    return make


@pytest.fixture(scope="session")
def int8_cnn(make_artifact: Make, models: Path, samples: np.ndarray[Any, Any],
             expected: dict[str, np.ndarray[Any, Any]]) -> Callable[[str], Artifact]:
    """int8_cnn(target): the int8 classifier with this machine's own outputs and a model of every operator."""
    from hwkit.backends.tflite import flat, slices

    cnn = Interpreted(models / "cnn_int8.tflite")
    raw = np.concatenate([cnn.raw(cnn.quantised(x[None])) for x in samples])
    content = (models / "cnn_int8.tflite").read_bytes()
    model = flat.read(content)
    alone = [(flat.operator_name(model, o), slices.one_operator(model, k))
             for k, o in enumerate(model.subgraphs[0].operators)]

    def make(target: str) -> Artifact:
        return make_artifact(target, [StageFile(name="cnn", file="cnn_int8.tflite")], alone, inputs=samples,
                             raw_outputs=raw, outputs=cnn.real(raw), expected=expected["cnn"],
                             labels=np.argmax(expected["cnn"], axis=1))

    return make


@pytest.fixture(scope="session")
def emulated() -> Board:
    """The emulated Raspberry Pi 4, ready. `make test` has made it before; else it is made now, once."""
    board = boards.board("qemu-rpi4")
    qemu_user.make(board, lambda text: None)
    return board
