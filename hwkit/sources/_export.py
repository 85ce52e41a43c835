"""Write a torch module as whole.pt2 and, cut at its ODE blocks, as stages/*.pt2."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram

from hwkit.errors import BadModel
from hwkit.jobs import Say
from hwkit.model import Layer, Model, Stage
from hwkit.nn import ode
from hwkit.sources._child import raise_if_out_of_memory

WHOLE = "whole.pt2"
SEED = 0   # of the noise a network is tried on


@functools.cache
def prepare() -> None:
    """The first export of a process imports a thousand modules of torch, 1.5 s; the next takes 0.03 s."""
    exported(nn.ReLU(), (torch.zeros(1, 1),), "nothing")


def write_network(module: nn.Module, input_shape: tuple[int, ...], folder: Path, *, name: str, what: str,
                  dataset: str | None, history: tuple[str, ...], say: Say) -> Model:
    """Export `module`, which is in eval mode, for float32 of shape (1, *input_shape), into `folder`.

    `what` names the model in errors. Raises BadModel: NaN weights, other datatypes, a shape that the network
    does not take, an output that is not one tensor of floats, Python that torch.export cannot follow.
    """
    check_tensors(module.state_dict().items(), what)
    x = noise(input_shape)
    check_output(run(module, x, what), what)
    say("exporting")
    save(exported(module, (x,), what), folder / WHOLE)
    stages, notes = _write_stages(module, x, folder, what, say)
    parameters, parameter_bytes = count(module.parameters(), module.buffers())
    return Model(name=name, path=Path(WHOLE), format="pt2", input_shape=input_shape, stages=stages,
                 dataset=dataset, parameters=parameters, parameter_bytes=parameter_bytes,
                 history=(*history, *notes))


def save(program: ExportedProgram, path: Path) -> None:
    """Write an archive. By way of memory: torch's own file writer aborts the process on a full disk."""
    archive = io.BytesIO()
    torch.export.save(program, archive)
    path.write_bytes(archive.getvalue())


def noise(input_shape: tuple[int, ...]) -> torch.Tensor:
    """One sample of Gaussian noise, always the same: (1, *input_shape) float32."""
    return torch.randn((1, *input_shape), generator=torch.Generator().manual_seed(SEED))


def check_tensors(tensors: Iterable[tuple[str, torch.Tensor]], what: str) -> None:
    """Raises BadModel naming the first tensor that has NaN or a datatype that is not deployed."""
    for name, tensor in tensors:
        if not tensor.is_floating_point():
            continue
        if tensor.dtype != torch.float32:
            raise BadModel(f"{what}: {name} is {str(tensor.dtype).removeprefix('torch.')}; "
                           "what is deployed here is float32", "convert the network with .float() first")
        bad = int(tensor.isnan().sum())
        if bad:
            raise BadModel(f"{what}: {name} has {bad} NaN among its {tensor.numel()} values",
                           "train the network again, or load the right weights")


def run(module: nn.Module, x: torch.Tensor, what: str) -> object:
    """What the network gives for x. Raises BadModel when it does not take x's shape."""
    try:
        with torch.no_grad():
            return module(x)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as e:
        raise_if_out_of_memory(e)
        text = " ".join(str(e).split())
        raise BadModel(f"{what} does not take an input of shape {tuple(x.shape[1:])}{_first_layer(module)}: "
                       f"{text:.200}", "name the shape of one sample with --input-shape C,H,W") from None


def check_output(output: object, what: str) -> None:
    """Raises BadModel unless it is one float32 tensor without NaN, of batch 1."""
    if not isinstance(output, torch.Tensor):
        held = f"{len(output)} values" if isinstance(output, tuple | list | dict) else type(output).__name__
        raise BadModel(f"{what} gives {held}, and what is deployed here gives one tensor",
                       "wrap the network in a module that returns the one that is needed")
    if output.dtype != torch.float32 or output.dim() < 1 or output.shape[0] != 1:
        raise BadModel(f"{what} gives {str(output.dtype).removeprefix('torch.')} of shape {tuple(output.shape)} "
                       "for one sample, instead of float32 of shape (1, ...)")
    if not output.isfinite().all():
        raise BadModel(f"{what} gives NaN or infinity for an input of Gaussian noise", "check its weights")


def exported(module: nn.Module, inputs: tuple[torch.Tensor, ...], what: str) -> ExportedProgram:
    """The module as torch.export sees it. Raises BadModel with torch's reason."""
    try:
        with torch.no_grad():
            program = torch.export.export(module, inputs, strict=False)
    except Exception as e:   # torch.export raises whatever the user's forward or its own tracing raises
        reason = next((line.strip() for line in str(e).splitlines() if line.strip()), "")
        raise BadModel(f"{what} cannot be exported by torch.export: {type(e).__name__}: {reason:.200}",
                       "keep data-dependent Python out of its forward") from e
    for node in program.graph.nodes:   # paths and addresses of this process: the file would differ every time
        node.meta.pop("stack_trace", None)
        node.meta.pop("from_node", None)
    return program


def count(parameters: Iterable[torch.Tensor], buffers: Iterable[torch.Tensor]) -> tuple[int, int]:
    """Values in distinct parameters, and bytes of distinct float parameters and buffers, as float32."""
    seen: dict[tuple[int, int, tuple[int, ...]], int] = {}

    def add(tensors: Iterable[torch.Tensor]) -> int:
        for t in tensors:
            if t.is_floating_point():
                seen[t.untyped_storage().data_ptr(), int(t.storage_offset()), tuple(t.shape)] = t.numel()
        return sum(seen.values())

    return add(parameters), 4 * add(buffers)


def _write_stages(module: nn.Module, x: torch.Tensor, folder: Path, what: str, say: Say,
                  ) -> tuple[tuple[Stage, ...], tuple[str, ...]]:
    """The stages written, and a line of history where ODE blocks could not be cut out."""
    if not any(isinstance(m, ode.ODEBlock) for m in module.modules()):
        return (), ()
    try:
        pieces = ode.stages(module)
    except BadModel as e:
        return (), (f"deployed unrolled only: {e.message}",)
    written: list[Stage] = []
    (folder / "stages").mkdir()
    with torch.no_grad():
        for piece in pieces:
            say(f"exporting stage {piece.name}")
            path = Path("stages") / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', piece.name)}.pt2"
            inputs = (x,) if piece.times is None else (x, torch.zeros(1))
            program = exported(piece.module, inputs, f"stage {piece.name} of {what}")
            save(program, folder / path)
            written.append(Stage(name=piece.name, path=path, repeat=piece.repeat, times=piece.times,
                                 layers=tuple(_layers(program))))
            x = piece(x)
    return tuple(written), ()


def _layers(program: ExportedProgram) -> Iterable[Layer]:
    """The convolutions and linear layers of an exported program; others with weights are left out."""
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.conv2d.default:
            weight, given = node.args[1].meta["val"], dict(enumerate(node.args))
            yield Layer(kind="convolution", inputs=node.args[0].meta["val"].shape[1], outputs=weight.shape[0],
                        kernel=tuple(weight.shape[2:]), stride=(given.get(3) or [1])[0], groups=given.get(6) or 1,
                        output_shape=tuple(node.meta["val"].shape[1:]))
        elif node.target is torch.ops.aten.linear.default:
            outputs, inputs = node.args[1].meta["val"].shape
            yield Layer(kind="linear", inputs=inputs, outputs=outputs,
                        output_shape=tuple(node.meta["val"].shape[1:]))


def _first_layer(module: nn.Module) -> str:
    """What the first layer with weights takes, for an error's text."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return f" (its first layer, {name}, takes {layer.in_channels} channels)"
        if isinstance(layer, nn.Linear):
            return f" (its first layer, {name}, takes {layer.in_features} features)"
    return ""
