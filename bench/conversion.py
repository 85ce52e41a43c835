"""From a torch network to .tflite files: hwkit against bare litert-torch, in one process, in turns.

hwkit's side is everything it does for a float32 artifact up to the files: export to .pt2, fold BatchNorm,
convert, take names out. What bare litert-torch has not, comparing on real inputs and cutting the graph into
operators, is in neither.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.lines import Line, judged, main, say
from hwkit.jobs import Say, call
from hwkit.units import shown

NETWORKS = ("resnet8", "mobilenet_v2", "dsodenet")
LIMIT = 1.10
RUNS = 3
TIMEOUT_S = 1200.0
PER_FILE = "Every stage is a file, and each conversion decomposes operators anew, whatever its size"


def figures() -> list[Line]:
    lines = []
    for network in NETWORKS:
        say(f"conversion: {network}")
        seconds: dict[str, float] = call("bench.conversion:job", {"network": network}, timeout_s=TIMEOUT_S,
                                         what=f"converting {network}")
        lines.append(_line(f"{network}, one file", seconds["hwkit"], seconds["bare"], "of the whole network"))
        if "hwkit, stages" in seconds:
            lines.append(_line(f"{network}, stepped", seconds["hwkit, stages"], seconds["bare, stages"],
                               "of the same stages one by one"))
            lines.append(_line(f"{network}, stepped", seconds["hwkit, stages"], seconds["bare"],
                               "of the whole network", PER_FILE))
    return lines


def _line(what: str, ours: float, bare: float, of: str, why: str = "") -> Line:
    """`why`: what makes it slower by its nature, if it is missed."""
    met = ours <= LIMIT * bare
    told = f"{shown(ours, 's')} against {shown(bare, 's')} of CPU time, best of {RUNS} in turns"
    return Line(f"{what}: conversion time over bare litert-torch's {of}", f"{ours / bare:.2f}", f"{LIMIT:.2f}",
                "measured", "behind, see why" if why and not met else judged(met),
                f"{told}. {why}" if why and not met else told)


def job(spec: dict[str, Any], say: Say) -> dict[str, float]:
    """{"network": zoo name} -> least CPU seconds of each form of conversion. Runs in a child process."""
    import torch

    from hwkit import zoo
    from hwkit.nn import ode

    torch.set_num_threads(1)
    network = zoo.network(spec["network"])
    with tempfile.TemporaryDirectory(prefix="hwkit-bench-") as scratch:
        folder = Path(scratch)
        ways: dict[str, Callable[[], None]] = {
            "bare": lambda: _bare(network.module, network.input_shape, folder / "bare.tflite"),
            "hwkit": lambda: _hwkit(network, folder / "whole", stepped=False)}
        if any(isinstance(m, ode.ODEBlock) for m in network.module.modules()):
            ways["bare, stages"] = lambda: _bare_stages(network, folder / "bare.tflite")
            ways["hwkit, stages"] = lambda: _hwkit(network, folder / "stepped", stepped=True)
        _bare(torch.nn.ReLU(), (1, 4, 4), folder / "first.tflite")     # the first conversion of a process imports
        _hwkit(zoo.network("ds_cnn"), folder / "first", stepped=False)
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(RUNS):
            for way, convert in ways.items():
                start = time.process_time()
                convert()
                taken[way].append(time.process_time() - start)
    return {way: min(seconds) for way, seconds in taken.items()}


def _bare(module: Any, shape: tuple[int, ...], result: Path) -> None:
    import litert_torch
    import torch

    from hwkit.backends.tflite.litert import channels_last, quiet

    with quiet():
        wrapped = litert_torch.to_channel_last_io(module, args=[0])
        litert_torch.convert(wrapped.eval(), (torch.zeros(channels_last((1, *shape))),)).export(str(result))


def _bare_stages(network: Any, result: Path) -> None:
    import torch

    from hwkit.nn import ode

    value = torch.zeros(1, *network.input_shape)
    for stage in ode.stages(network.module):
        _bare(stage.module, tuple(value.shape[1:]), result)
        with torch.no_grad():
            value = stage.module(value)


def _hwkit(network: Any, folder: Path, *, stepped: bool) -> None:
    from hwkit.backends.tflite import litert
    from hwkit.nn import program
    from hwkit.sources._export import write_network

    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        at = Path(place)
        model = write_network(network.module, network.input_shape, at, name=network.name, what=network.name,
                              dataset=None, history=(), say=lambda text: None)
        paths = [stage.path for stage in model.stages] if stepped else [model.path]
        for path in paths:
            folded, _ = program.load(at / path, network.name).folded()
            (at / path).with_suffix(".tflite").write_bytes(litert.convert(folded))


if __name__ == "__main__":
    sys.exit(main("conversion time", figures))
