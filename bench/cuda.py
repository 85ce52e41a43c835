"""The time on a CUDA GPU against torch.compile and ONNX Runtime's CUDA provider on the same network.

    python -m bench.cuda

$HWKIT_GPU_PYTHON names an interpreter whose onnxruntime and torch have CUDA, where hwkit's own have none.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from bench.lines import Line, judged, main, say
from hwkit import pipeline, runners, zoo
from hwkit.board import Board, board
from hwkit.errors import BoardError, HwkitError, JobFailed
from hwkit.process import run as run_process
from hwkit.runners import Request, _roofline
from hwkit.units import shown

BOARD, BACKEND, PROVIDER = "cuda", "onnxruntime", "CUDAExecutionProvider"
PEER = Path(__file__).resolve().with_name("bare_cuda.py")
PEERS = {"torch.compile": ".pt2", "ONNX Runtime's CUDA provider": ".onnx"}
NETWORKS, BATCHES = ("dsodenet", "resnet8"), (1, 32)
RATIO, ROUNDS, SECONDS = 1.05, 5, 1.0
GRAPHS = {"enable_cuda_graph": "1"}
COMPILING_S = 900.0
WHAT = "latency over the better of torch.compile and ONNX Runtime on a CUDA GPU"


def figures() -> list[Line]:
    why = _nothing()
    if why:
        return [Line(f"{', '.join(NETWORKS)}: {WHAT}", "not measured", f"{RATIO:.2f}", "measured",
                     "for information", why)]
    with tempfile.TemporaryDirectory(prefix="hwkit-bench-") as scratch:
        return [_time(name, batch, Path(scratch)) for name in NETWORKS for batch in BATCHES]


def _nothing() -> str:
    """Why nothing can be measured here, "" where it can."""
    try:
        _roofline.gpu(0)
    except BoardError as e:
        return e.message
    problems = runners.runner(_board({}).runner).missing(_board({}))
    return "; ".join(p.message for p in problems)


def _python() -> str:
    return os.environ.get("HWKIT_GPU_PYTHON") or sys.executable


def _board(options: dict[str, str]) -> Board:
    """The shipped one with the provider's options and the interpreter that has it."""
    return board(BOARD).model_copy(update={"options": {"python": _python(), "providers": [[PROVIDER, options]]}})


def _given(name: str, batch: int, folder: Path) -> dict[str, Path]:
    """Suffix -> the network as each peer takes it, and ".npy": what it infers."""
    import torch

    network = zoo.network(name)
    module = network.module.eval()
    x = torch.randn(batch, *network.input_shape, generator=torch.Generator().manual_seed(0))
    files = {suffix: folder / f"{name}-{batch}{suffix}" for suffix in (*PEERS.values(), ".npy")}
    np.save(files[".npy"], x.numpy())
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, (x,)), files[".pt2"])
        torch.onnx.export(module, (x,), files[".onnx"], dynamo=True, verbose=False)
    return files


def _peer(file: Path, inputs: Path) -> float | str:
    """Median seconds of an inference in a process of its own, or why there is none."""
    argv = [_python(), str(PEER), str(file), str(inputs), str(SECONDS)]
    try:
        told = run_process(argv, timeout_s=COMPILING_S, what=f"the peer on {file.name}", check=False).stdout
    except JobFailed as e:
        return e.message
    lines = told.splitlines()
    for line in lines:
        if line.startswith("median: "):
            return float(line.removeprefix("median: "))
    none = next((line.removeprefix("none: ") for line in lines if line.startswith("none: ")), "")
    return none or next((line.strip()[-200:] for line in reversed(lines) if line.strip()), "it said nothing")


def _time(name: str, batch: int, folder: Path) -> Line:
    """Medians of processes that take turns, so that what else the machine does hits all."""
    wanted = pipeline.Wanted(model=name, backend=BACKEND, options={
        "precision": "f32", "batch": str(batch), "images": "64", "beside": "no"})
    artifact = pipeline.build(wanted, board(BOARD).target, folder / f"{name}-{batch}", say)
    files = _given(name, batch, folder)
    request = Request(iterations=30, duration_s=SECONDS, operators=False)
    on, how = _board(GRAPHS), "with CUDA graphs"
    ours: list[float] = []
    peers: dict[str, list[float]] = {peer: [] for peer in PEERS}
    missing: dict[str, str] = {}
    for number in range(ROUNDS):
        say(f"{name}, batch {batch}: round {number + 1} of {ROUNDS}")
        for peer, suffix in PEERS.items():
            found = missing[peer] if peer in missing else _peer(files[suffix], files[".npy"])
            if isinstance(found, str):
                missing[peer] = found
            else:
                peers[peer].append(found)
        try:
            taken = pipeline.run(artifact, on, request, say)
        except HwkitError as e:
            if on.options == _board({}).options:
                raise
            on, how = _board({}), f"without CUDA graphs, which were refused ({e.message[-150:]})"
            ours.clear()
            taken = pipeline.run(artifact, on, request, say)
        ours.append(next(m.value for m in taken.measurements if m.quantity == "latency"))
    mine = statistics.median(ours)
    medians = {peer: statistics.median(times) for peer, times in peers.items() if peer not in missing}
    why = "; ".join((f"{shown(mine, 's')} {how}", *(f"{peer} {shown(t, 's')}" for peer, t in medians.items()),
                     *(f"{peer} left out: {text}" for peer, text in missing.items()),
                     "from host to host"))
    what = f"{name} f32, batch {batch}: {WHAT}"
    if not medians:
        return Line(what, shown(mine, "s"), f"{RATIO:.2f}", "measured", "for information", why)
    ratio = mine / min(medians.values())
    return Line(what, f"{ratio:.2f}", f"{RATIO:.2f}", "measured", judged(ratio <= RATIO), why)


if __name__ == "__main__":
    sys.exit(main("CUDA", figures))
