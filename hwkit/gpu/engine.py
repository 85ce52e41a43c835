"""TensorRT engines: what one belongs to, what it is called, and why one may not be loaded.

An engine belongs to the kind of GPU and the version of TensorRT that built it. TensorRT says so only once it has
loaded it, and of another board with the same SM it only warns. So a description lies beside the file.
boards/payloads/tensorrt.py, which may not import this, decides the same on the board; tests hold the two together.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Literal

from hwkit.describe import Frozen, load_json
from hwkit.errors import BadDescription, BoardError

SUFFIX = ".json"        # of the description, after the engine's own name


class Wanted(Frozen):
    """Everything that decides whether an engine is the right one.

    model_sha256     of the ONNX file
    flags            what trtexec was told, paths left out
    gpu, sm, multiprocessors   hwkit.gpu.trtexec.Device: boards of one name differ in their multiprocessors
    tensorrt         "10.3.0"
    """

    model_sha256: str
    flags: tuple[str, ...]
    gpu: str
    sm: str
    multiprocessors: int | None = None
    tensorrt: str

    def digest(self) -> str:
        body = self.model_dump(mode="json", include=set(Wanted.model_fields))
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class Sidecar(Wanted):
    """The description beside an engine. engine_sha256, engine_bytes: of the file itself."""

    schema_version: Literal[1] = 1
    engine_sha256: str
    engine_bytes: int


def platform_name(wanted: Wanted) -> str:
    """"nvidia-a100-sm80x108.trt8.6.1": the GPU and the version, for names of files."""
    gpu = re.sub(r"[^a-z0-9]+", "-", wanted.gpu.lower()).strip("-") or "gpu"
    cores = f"x{wanted.multiprocessors}" if wanted.multiprocessors else ""
    return f"{gpu}-sm{wanted.sm.replace('.', '')}{cores}.trt{wanted.tensorrt}"


def engine_name(name: str, wanted: Wanted) -> str:
    """File name of the engine `name` of a plan. Another GPU, version, model or flag gives another one."""
    return f"{name}.{platform_name(wanted)}.{wanted.digest()[:12]}.engine"


def read_sidecar(engine: Path) -> Sidecar:
    """The description beside an engine. Raises BoardError."""
    try:
        return load_json(engine.with_name(engine.name + SUFFIX), Sidecar)
    except BadDescription as e:
        raise BoardError(e.message, "delete the engine: the next run builds it again") from None


def refusal(sidecar: Sidecar | None, wanted: Wanted, engine_sha256: str | None = None) -> str | None:
    """Why the engine that `sidecar` describes may not be loaded, in one line; None where it may.

    sidecar         None: there is no readable one
    engine_sha256   of the file as it lies there; None leaves that unchecked
    """
    if sidecar is None:
        return "there is no readable description beside it"
    if sidecar.gpu != wanted.gpu:
        return f"it was built on {sidecar.gpu}, this GPU is {wanted.gpu}"
    if sidecar.sm != wanted.sm:
        return f"it was built for SM {sidecar.sm}, this GPU has SM {wanted.sm}"
    if sidecar.multiprocessors != wanted.multiprocessors:
        return (f"it was built on a GPU with {sidecar.multiprocessors} multiprocessors, "
                f"this one has {wanted.multiprocessors}")
    if sidecar.tensorrt != wanted.tensorrt:
        return f"it was built by TensorRT {sidecar.tensorrt}, this is {wanted.tensorrt}"
    if sidecar.model_sha256 != wanted.model_sha256:
        return "it was built from another ONNX file"
    if sidecar.flags != wanted.flags:
        return f"it was built with {' '.join(sidecar.flags)}, not {' '.join(wanted.flags)}"
    if engine_sha256 not in (None, sidecar.engine_sha256):
        return "the file is damaged: it is not the one that was built"
    return None
