"""Each peer's artifacts of one network, made as its own documentation says."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from bench.peers import tools
from bench.peers.given import Given
from hwkit.errors import JobFailed

Precision = Literal["f32", "int8"]
HERE = Path(__file__).parent
IREE = ("--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu",
        "--iree-llvmcpu-target-triple=aarch64-linux-gnu"
        "--iree-opt-level=O3", "--iree-global-opt-use-im2col-for-convs")   # without im2col 2 to 8 times as many


@dataclass(frozen=True)
class Built:
    """One artifact.

    model     what the runtime is given, None when it could not be made for the reason `failure`
    payload   the class in guest.py that runs it, when it is not the runtime's own
    """

    runtime: str
    precision: Precision
    how: str
    model: Path | None
    failure: str = ""
    payload: str = ""


def artifacts(network: Given, host: Path, cpu: str) -> Iterator[Built]:
    """All artifacts of all peers, one after the other; those that cannot be made say why."""
    np.save(network.folder / "calibration.npy", network.calibration)
    yield from _onnxruntime(network, host)
    yield from _iree(network, host, cpu)
    yield from _mnn(network, host)
    yield from _ncnn(network, host)


def _made(runtime: str, precision: Precision, how: str, model: Path, make: Callable[[], object],
          evidence: str = "") -> Built:
    """`evidence` is what to add to the model's name to find a file it consists of."""
    try:
        make()
    except JobFailed as e:
        return Built(runtime, precision, how, None, " ".join(e.message.split())[:160])
    there = Path(f"{model}{evidence}").is_file()
    return Built(runtime, precision, how, model if there else None,
                 "" if there else "the tool ended without an error and wrote nothing")


def _script(name: str) -> tuple[str, str]:
    return "python", str(HERE / f"{name}.py")


def _onnxruntime(network: Given, host: Path) -> Iterator[Built]:
    yield Built("onnxruntime", "f32", "the .onnx as exported", network.onnx)
    for activations in ("uint8", "int8"):
        model = _qdq(network, activations)
        yield _made("onnxruntime", "int8", f"quantize_static, QDQ, {activations} activations", model,
                    lambda a=activations, m=model: tools.host_run(      # type: ignore[misc]
                        host, [*_script("host_onnxruntime"), str(network.onnx), "calibration.npy", str(m), a],
                        cwd=network.folder, what=f"onnxruntime's quantiser on {network.name}"))


def _qdq(network: Given, activations: str) -> Path:
    return network.folder / f"{network.name}-{activations}.onnx"


def _iree(network: Given, host: Path, cpu: str) -> Iterator[Built]:
    for precision, source, how in (("f32", network.onnx, "from .onnx, O3, im2col"),
                                   ("int8", _qdq(network, "uint8"), "from onnxruntime's QDQ file, O3, im2col")):
        model = source.with_suffix(".vmfb")

        def make(source: Path = source, model: Path = model) -> None:
            imported = str(model.with_suffix(".mlir"))
            scripts = "iree.compiler.tools"
            tools.host_run(host, ["python", "-m", f"{scripts}.import_onnx", str(source), "-o", imported],
                           cwd=network.folder, what=f"IREE's importer on {network.name}")
            tools.host_run(host, ["python", "-m", f"{scripts}.scripts.iree_compile", imported, *IREE,
                                  f"--iree-llvmcpu-target-cpu={cpu}", "-o", str(model)],
                           cwd=network.folder, what=f"IREE's compiler on {network.name}")

        yield _made("IREE", precision, how, model, make)      # type: ignore[arg-type]


def _mnn(network: Given, host: Path) -> Iterator[Built]:
    model = network.folder / f"{network.name}.mnn"

    def tool(*arguments: str) -> Callable[[], object]:
        return lambda: tools.host_run(host, [*_script("host_mnn"), *arguments], cwd=network.folder,
                                      what=f"MNN's {arguments[0]} on {network.name}")

    yield _made("MNN", "f32", "from .onnx", model, tool("convert", str(network.onnx), str(model)))
    for method in ("KL", "EMA"):
        result = network.folder / f"{network.name}-{method}.mnn"
        yield _made("MNN", "int8", f"offline quantiser, {method}", result,
                    tool("quantize", str(model), "calibration.npy", str(result), method))


def _ncnn(network: Given, host: Path) -> Iterator[Built]:
    model = network.folder / f"{network.name}.ncnn"
    shape = ",".join(map(str, (1, *network.images.shape[1:])))

    def convert() -> None:
        program = host / "pnnx/pnnx"
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        tools.host_run(host, [str(program), str(network.torchscript), f"inputshape=[{shape}]", "fp16=0"],
                       cwd=network.folder, what=f"pnnx on {network.name}")

    yield _made("ncnn", "f32", "from TorchScript by pnnx", model, convert, ".param")
    result = network.folder / f"{network.name}-int8.ncnn"
    made = _made("ncnn", "int8", "in ncnn2int8's form, ranges as seen", result,
                 lambda: tools.host_run(host, [*_script("host_ncnn"), str(model), "calibration.npy", str(result)],
                                        cwd=network.folder, what=f"quantising {network.name} for ncnn"), ".param")
    yield made
    yield replace(made, how="the same file, Winograd switched off", payload="ncnn-direct")
