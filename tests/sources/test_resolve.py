"""What a MODEL word is taken for, and the one line that an unusable one gets."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from hwkit.errors import BadInput, BadModel, HwkitError, UnknownName
from hwkit.sources import files, resolve
from tests.sources.small_tflite import fully_connected

TFLITE = fully_connected(np.ones((2, 3), np.float32), np.ones(2, np.float32))


def archive(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as z:
        for name in names:
            z.writestr(name, "x")
    return data.getvalue()


def saved(thing: object, **options: object) -> bytes:
    data = io.BytesIO()
    torch.save(thing, data, **options)
    return data.getvalue()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def line(text: str) -> str:
    with pytest.raises(HwkitError) as e:
        resolve(text)
    assert e.value.exit_code == 2
    assert e.value.hint
    assert "\n" not in e.value.line()
    return e.value.line()


@pytest.mark.parametrize(("name", "content", "kind"), [
    ("net.tflite", TFLITE, "tflite"),
    ("NET.TFLITE", TFLITE, "tflite"),
    ("net.model", TFLITE, "tflite"),
    ("net.pt2", archive("net/archive_format", "net/models/model.json"), "pt2"),
    ("net.onnx", b"\x08\x08\x12\x07pytorch", "onnx"),
    ("net.keras", archive("config.json", "model.weights.h5"), "keras"),
    ("net.h5", b"\x89HDF\r\n\x1a\n" + bytes(20), "keras"),
])
def test_kind_by_content(here: Path, name: str, content: bytes, kind: str) -> None:
    (here / name).write_bytes(content)
    source = resolve(name)
    assert (source.kind, source.path) == (kind, here / name)


def test_saved_model_folder(here: Path) -> None:
    (here / "saved").mkdir()
    (here / "saved/saved_model.pb").write_bytes(b"x")
    assert resolve("saved").kind == "keras"


@pytest.mark.parametrize(("name", "content", "says"), [
    ("net.onnx", b"", "is empty"),
    ("net.pt2", b"", "is empty"),
    ("net.tflite", b"\x1c\0\0\0XXXX" + bytes(50), "is not a TFLite model"),
    ("net.pt2", bytes(100), "is not an exported PyTorch program"),
    ("net.pt2", archive("net/archive_format")[:40], "damaged zip"),
    ("net.pt2", archive("a", "b"), "is not an exported PyTorch program"),
    ("net.tflite", archive("net/archive_format"), "holds an exported PyTorch program -> name it net.pt2"),
    ("net.onnx", TFLITE, "holds a TFLite model -> name it net.tflite"),
    ("net.pt", saved({"w": torch.ones(2)}), "Python pickle"),
    ("net.pt2", saved({"w": torch.ones(2)}), "Python pickle"),
    ("net.pth", saved({"w": torch.ones(2)}, _use_new_zipfile_serialization=False), "Python pickle"),
    ("net.onnx", saved({"w": torch.ones(2)}, _use_new_zipfile_serialization=False), "Python pickle"),
    ("net.pkl", b"cos\nsystem\n(S'true'\ntR.", "Python pickle"),
    ("net.pt", archive("net/data.pkl", "net/constants.pkl", "net/code/a.py"), "TorchScript"),
    ("old.pt2", archive("version", "serialized_exported_program.json"), "torch 2.7 or older"),
    ("net.safetensors", (20).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}', "weights alone"),
    ("notes.txt", b"hello, this is text", "no kind of model known here"),
])
def test_what_is_no_model(here: Path, name: str, content: bytes, says: str) -> None:
    (here / name).write_bytes(content)
    assert says in line(name)
    with pytest.raises(BadModel):
        resolve(name)


def test_a_pickle_is_told_how_to_be_exported(here: Path) -> None:
    (here / "net.pt").write_bytes(saved({"w": torch.ones(2)}))
    assert "torch.export.save(torch.export.export(" in line("net.pt")


def test_the_files_that_a_model_is_read_from(here: Path) -> None:
    (here / "net.tflite").write_bytes(TFLITE)
    (here / "net.py").write_text(NET)
    (here / "saved/variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.index"):
        (here / "saved" / name).write_bytes(b"x")
    assert {p.suffix for p in files(resolve("dsodenet")) or []} <= {".safetensors", ".npz"}
    assert files(resolve("net.tflite")) == [here / "net.tflite"]
    assert files(resolve("saved")) == [here / "saved/saved_model.pb", here / "saved/variables/variables.index"]
    assert files(resolve("net.py:build")) is None


def test_a_folder_that_is_no_saved_model(here: Path) -> None:
    (here / "folder").mkdir()
    assert "has no saved_model.pb" in line("folder")


@pytest.mark.parametrize(("text", "says"), [
    ("dsodenett", "dsodenet"),
    ("my_net.onx", "my_net.onnx"),
    ("./my_net.onx", "nearest: my_net.onnx"),
    ("missing/net.onnx", "there is no folder missing"),
    ("", "is empty"),
    ("dsodenet@nowhere", "no trained network named 'dsodenet@nowhere'"),
    ("x" * 5000, "no network or file named"),
    ("a\0b", "no network or file named"),
])
def test_a_name_that_is_nothing(here: Path, text: str, says: str) -> None:
    (here / "my_net.onnx").write_bytes(b"\x08\x08")
    assert says in line(text)


NET = """
from torch import nn
from somewhere import borrowed
def build(): ...
class Net: ...
made = build
"""


@pytest.mark.parametrize("function", ["build", "Net", "made", "borrowed"])
def test_factory(here: Path, function: str) -> None:
    (here / "net.py").write_text(NET)
    source = resolve(f"net.py:{function}")
    assert (source.kind, source.path, source.item) == ("factory", here / "net.py", function)


@pytest.mark.parametrize(("text", "error", "says"), [
    ("net.py:buidl", UnknownName, "nearest: build"),
    ("net.py:", BadInput, "is not a function's name"),
    ("net.py:a b", BadInput, "is not a function's name"),
    ("net.py", BadInput, "net.py:build"),
    ("nett.py:build", BadInput, "nearest: net.py"),
    ("broken.py:build", BadModel, "broken.py:2: "),
])
def test_factory_mistakes(here: Path, text: str, error: type[HwkitError], says: str) -> None:
    (here / "net.py").write_text(NET)
    (here / "broken.py").write_text("import torch\ndef build(:\n")
    assert says in line(text)
    with pytest.raises(error):
        resolve(text)


def test_resolving_imports_no_framework() -> None:
    code = ("import sys; from hwkit.sources import resolve; resolve('dsodenet');"
            "print([m for m in ('torch', 'numpy', 'onnx', 'tensorflow') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
