"""Post-training quantisation of plain networks (CNN, MLP, residual) with Brevitas, and their export to QONNX.

    layers      the first and the last on 8 bits, the others on `weight_bits`
    ReLU        unsigned, `activation_bits`
    additions   what meets has one scale; a signed operand has one bit more than a ReLU's value, at most 8
    input       signed, 8 bits

Scales are chosen on real inputs for the least squared error; what rounding does to the mean of a channel is taken
back in its bias. Epochs of training then repair what is left: the float network is the teacher, no labels needed.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from hwkit.errors import BadInput
from hwkit.jobs import Say
from hwkit.nn import program as programs
from hwkit.nn._ptq_graph import Point, planned, points
from hwkit.nn.program import Program
from hwkit.samples import GIVE_DATA
from hwkit.samples import samples as drawn

INPUT_BITS = EDGE_BITS = 8
BATCH = 64
KEPT = 50_000           # values of a Point that its scale is chosen on
CORRECTING_IMAGES = 128
LEARNING_RATE = 1e-3


def quantized(network: Program | nn.Module, images: NDArray[np.float32], *, weight_bits: int = 8,
              activation_bits: int = 8, epochs: int = 0, calibration: int = 256, seed: int = 0,
              say: Say | None = None) -> nn.Module:
    """The network with Brevitas layers, in eval mode.

    images       (n, *shape) real inputs; the first `calibration` choose the scales, all are trained on
    epochs       of training against the float network's outputs; 0: none
    Raises BadInput for bit widths out of range or no images, BadModel for an operator that is not known here.
    """
    if not 1 <= weight_bits <= 8 or not 2 <= activation_bits <= 8:
        raise BadInput(f"weights of {weight_bits} and activations of {activation_bits} bits cannot be quantised",
                       "weights have 1 to 8 bits, activations 2 to 8")
    if not len(images):
        raise BadInput("no inputs to choose scales with", GIVE_DATA)
    tell = say or (lambda text: None)
    tensor = torch.from_numpy(np.ascontiguousarray(images, np.float32))
    source = network if isinstance(network, Program) else exported(network, tuple(images.shape[1:]))
    folded, _ = source.folded()
    teacher = planned(folded.module, source.name)
    with torch.no_grad(), quiet():
        tell("choosing scales")
        made = _built(teacher, _scales(teacher, tensor[:calibration], activation_bits), weight_bits,
                      activation_bits)
        _correct(teacher, made, tensor[:min(calibration, CORRECTING_IMAGES)])
    if epochs:
        with quiet():
            _distil(teacher, made, tensor, epochs, seed, tell)
    return made.eval()


def exported(module: nn.Module, input_shape: tuple[int, ...], name: str = "the network") -> Program:
    """A module as the graph that torch.export sees, for one sample of `input_shape`."""
    x = torch.zeros(1, *input_shape)
    with torch.no_grad():
        graph = torch.export.export(module.eval(), (x,), strict=False).module(check_guards=False)
        made = fx.GraphModule(graph, graph.graph)
        out = made(x)
    return Program(name, made, (tuple(x.shape),), tuple((out[0] if isinstance(out, tuple | list) else out).shape))


def _scales(teacher: fx.GraphModule, images: torch.Tensor, bits: int) -> dict[str, tuple[float, int]]:
    """Scale and width of every Point."""
    from hwkit.nn._ptq_layers import activation_scale

    found = dict(points(teacher))
    for point in found.values():
        point.seen = []
    for batch in torch.split(images, BATCH):
        teacher(batch)
    mixed = {p.group for p in found.values() if p.relu} & {p.group for p in found.values() if not p.relu}
    first = _first(teacher)
    members: dict[int, list[tuple[torch.Tensor, int, int]]] = {}
    widths: dict[str, int] = {}
    for name, point in found.items():
        seen = torch.cat([s.flatten() for s in point.seen or []])
        point.seen = None
        width = bits
        if name == first:
            width = INPUT_BITS
        elif point.group in mixed and not point.relu:
            width = min(8, bits + 1)
        widths[name] = width
        low, high = (0, 2 ** width - 1) if point.relu else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
        members.setdefault(point.group, []).append((seen[::-(-len(seen) // KEPT)], low, high))
    scales = {group: activation_scale(values) for group, values in members.items()}
    return {name: (scales[point.group], widths[name]) for name, point in found.items()}


def _first(teacher: fx.GraphModule) -> str | None:
    """The Point that reads the network's input."""
    for node in teacher.graph.nodes:
        if node.op == "call_module" and isinstance(teacher.get_submodule(str(node.target)), Point):
            source = node.args[0]
            while isinstance(source, fx.Node) and source.op == "call_function":
                source = source.args[0]
            if isinstance(source, fx.Node) and source.op == "placeholder":
                return str(node.target)
    return None


def _built(teacher: fx.GraphModule, scales: dict[str, tuple[float, int]], weight_bits: int,
           activation_bits: int) -> fx.GraphModule:
    from hwkit.nn import _ptq_layers as layers

    made = copy.deepcopy(teacher)
    calls = [node for node in made.graph.nodes if node.op == "call_module" and _is_layer(made, str(node.target))]
    edges = {str(calls[0].target), str(calls[-1].target)} if calls else set()
    for name, point in list(points(made)):
        scale, width = scales[name]
        setattr(made, name, layers.activation(scale, width, point.relu))
    for node in calls:
        name = str(node.target)
        if _is_layer(made, name):
            bits = max(weight_bits, EDGE_BITS) if name in edges else weight_bits
            setattr(made, name, layers.layer(made.get_submodule(name), bits, by_channel=not _ends(node)))
    made.recompile()
    return made


def _is_layer(module: nn.Module, name: str) -> bool:
    return type(module.get_submodule(name)) in (nn.Conv2d, nn.Linear)


def _ends(node: fx.Node) -> bool:
    """Whether nothing but the output reads it, through moves of values at most."""
    return all(user.op == "output" or (user.target in (torch.flatten, torch.reshape) and _ends(user))
               for user in node.users)


def _correct(teacher: fx.GraphModule, made: fx.GraphModule, images: torch.Tensor) -> None:
    """Layer by layer, the mean of every output channel becomes what it is in the float network."""
    names = list(dict.fromkeys(str(node.target) for node in teacher.graph.nodes
                               if node.op == "call_module" and _is_layer(teacher, str(node.target))))
    wanted = _means(teacher, names, images)
    for name in names:
        last = made.get_submodule(name)[-1]  # type: ignore[index]
        if last.bias is not None:
            last.bias.data += wanted[name] - _means(made, [name], images)[name]


def _means(module: nn.Module, names: list[str], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean of each output channel of some layers over images, positions and calls."""
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in names}

    def look(name: str) -> Callable[[Any, Any, torch.Tensor], None]:
        return lambda _, __, out: seen[name].append(out.transpose(0, 1).flatten(1).mean(1))

    hooks = [module.get_submodule(name).register_forward_hook(look(name)) for name in names]
    try:
        for batch in torch.split(images, BATCH):
            module(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.stack(means).mean(0) for name, means in seen.items()}


def _distil(teacher: nn.Module, made: nn.Module, images: torch.Tensor, epochs: int, seed: int, tell: Say) -> None:
    """Train weights and biases until the outputs are the teacher's, as far as the bits allow."""
    with torch.no_grad():
        wanted = torch.cat([teacher(batch) for batch in torch.split(images, BATCH)])
    spread = float(wanted.std()) or 1.0
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(made.parameters(), LEARNING_RATE)
    batches = -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches)
    made.train()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()   # its mean 0 and variance 1 are not statistics
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.split(torch.randperm(len(images), generator=order), BATCH):
            loss = ((made(images[chosen]) - wanted[chosen]) / spread).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        tell(f"epoch {epoch + 1} of {epochs}: error of the outputs {total / batches:.4f}")


def export(module: nn.Module, input_shape: tuple[int, ...], path: Path) -> int:
    """Write a module with Brevitas layers as a cleaned QONNX file; gives its size in bytes."""
    from hwkit.nn.qonnx import export_qonnx

    write: Callable[[Any, tuple[int, ...], Path], int] = export_qonnx
    with quiet():
        return write(module.eval(), input_shape, path)


def job(spec: dict[str, Any], say: Say) -> dict[str, Any]:
    """Quantise a .pt2 and write a QONNX file.

    path, name, input_shape     the network
    dataset, data               its inputs, see hwkit.samples; random ones are refused
    weight_bits, activation_bits, epochs, calibration, images (how many to train on), seed
    out                         the file to write
    """
    torch.set_num_threads(1)
    shape = tuple(spec["input_shape"])
    network = programs.load(Path(spec["path"]), spec["name"])
    programs.check_input(network, shape)
    count = max(spec["calibration"], spec["images"] if spec["epochs"] else 0)
    inputs = drawn(shape, count, spec["dataset"], Path(spec["data"]) if spec["data"] else None)
    if inputs.random:
        raise BadInput(f"{spec['name']} cannot be quantised on random inputs: no range can be chosen", GIVE_DATA)
    made = quantized(network, inputs.calibration, weight_bits=spec["weight_bits"],
                     activation_bits=spec["activation_bits"], epochs=spec["epochs"],
                     calibration=spec["calibration"], seed=spec["seed"], say=say)
    say("exporting")
    return {"bytes": export(made, shape, Path(spec["out"])), "images": len(inputs.calibration)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Brevitas and the exporter warn of what they are about to change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
