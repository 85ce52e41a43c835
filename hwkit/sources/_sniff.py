"""What a file is, from its suffix and its first bytes. Opens no model and imports no framework."""

from __future__ import annotations

import mmap
import re
import zipfile
from pathlib import Path
from typing import Literal

from hwkit.errors import BadModel

Kind = Literal["zoo", "factory", "pt2", "onnx", "qonnx", "keras", "tflite"]

SUFFIXES: dict[str, Kind] = {
    ".pt2": "pt2", ".onnx": "onnx", ".tflite": "tflite", ".lite": "tflite",
    ".keras": "keras", ".h5": "keras", ".hdf5": "keras",
}
NOUNS: dict[str, str] = {
    "pt2": "an exported PyTorch program", "onnx": "an ONNX model", "keras": "a Keras model",
    "qonnx": "a QONNX model", "tflite": "a TFLite model",
}
# Of a node in protobuf: its operator (field 4) and its domain (field 7), each after its length.
_QUANTISER = re.compile(rb"\x22(?:\x05Quant|\x08IntQuant|\x0cBipolarQuant|\x05Trunc)")
_DOMAIN = re.compile(rb"\x3a(?:\x17qonnx\.custom_op\.general|\x0donnx\.brevitas|\x16finn\.custom_op\.general)")
EXPORT_HINT = "save it with: torch.export.save(torch.export.export(network.eval(), (x,)), 'network.pt2')"
_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")


def kind_of(path: Path) -> Kind:
    """Kind of the model at an existing path. Raises BadModel where suffix and content do not agree."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file():
            return "keras"
        raise BadModel(f"{path} is a folder, and not a SavedModel: it has no saved_model.pb",
                       "name a model file, or the folder that tf.saved_model.save wrote")
    try:
        with path.open("rb") as f:
            head = f.read(16)
    except OSError as e:
        raise BadModel(f"{path} cannot be read: {e.strerror}") from None
    if not head:
        raise BadModel(f"{path} is empty (0 bytes)", "export or copy the model again")
    said = SUFFIXES.get(path.suffix.lower())
    held = _content(path, head)
    if held is None and said == "onnx":
        return "qonnx" if _is_quantised(path) else "onnx"   # a protobuf has no magic number: the child finds out
    if held is None:
        if said is not None:
            raise BadModel(f"{path} is not {NOUNS[said]}: its first bytes are {head[:8].hex(' ')}",
                           "the file may be damaged; export or copy the model again")
        raise BadModel(f"{path} is no kind of model known here",
                       f"known are {', '.join(SUFFIXES)}, a SavedModel folder and file.py:function")
    if said is not None and said != held:
        right = next(suffix for suffix, kind in SUFFIXES.items() if kind == held)
        raise BadModel(f"{path} is named like {NOUNS[said]} and holds {NOUNS[held]}",
                       f"name it {path.with_suffix(right).name}")
    return held


def _is_quantised(path: Path) -> bool:
    """Whether an .onnx holds Quant nodes."""
    with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _QUANTISER.search(data) is not None and _DOMAIN.search(data) is not None


def _content(path: Path, head: bytes) -> Kind | None:
    if head[4:8] == b"TFL3":
        return "tflite"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras"
    if head.startswith(b"PK\x03\x04"):
        return _zip_content(path)
    if _is_pickle(path, head):
        raise BadModel(f"{path} is a Python pickle, which is never opened: loading one runs the code inside",
                       EXPORT_HINT)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        raise BadModel(f"{path} holds weights alone (safetensors), not a network",
                       "write a function that builds the network and loads them, and name it as file.py:function")
    return None


def _is_pickle(path: Path, head: bytes) -> bool:
    """Protocol 2 to 5 begin with their number; protocols 0 and 1 are known by the suffix alone."""
    if head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return True
    return path.suffix.lower() in _PICKLES


def _zip_content(path: Path) -> Kind | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as e:
        raise BadModel(f"{path} is a damaged zip archive: {e}", "export or copy the model again") from None
    inner = {name.split("/", 1)[-1] for name in names}
    if "data.pkl" in names or "data.pkl" in inner:
        what = "a TorchScript archive" if "constants.pkl" in inner else "a Python pickle"
        raise BadModel(f"{path} is {what} (torch.save, torch.jit.save), which is never opened: "
                       "loading one runs the code inside", EXPORT_HINT)
    if "serialized_exported_program.json" in names:
        raise BadModel(f"{path} was written by torch 2.7 or older, with pickles inside, which are never opened",
                       f"load it with that torch and {EXPORT_HINT}")
    if "archive_format" in inner:
        return "pt2"
    if "config.json" in names and "model.weights.h5" in names:
        return "keras"
    return None


def files_of(path: Path, kind: Kind) -> list[Path] | None:
    """Every file that opening the model reads, the model itself first; None where that cannot be told.

    They decide whether a model opened before is still the same.
    """
    if kind == "factory":
        return None   # it runs the user's code, which may read anything
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    if kind not in ("onnx", "qonnx"):
        return [path]
    # Where tensors lie in other files, the graph has ("location", file name) entries: protobuf fields 1 and 2.
    data = path.read_bytes()
    places = [data[m.end():m.end() + m[1][0]] for m in re.finditer(rb"\x0a\x08location\x12([\x01-\x7f])", data)]
    if len(places) != data.count(b"\x08location\x12"):
        return None
    beside = sorted({path.parent / place.decode(errors="replace") for place in places})
    return [path, *(p for p in beside if p.is_file())]
