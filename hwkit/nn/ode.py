"""Neural-ODE blocks: one set of weights, applied N times by a fixed-step solver.

An ODEBlock integrates dz/dt = f(z, t) from t0 to t1 (Chen et al., arXiv 1806.07366). Its `step` is a
module of its own, so that a deployment tool can export one step and invoke it N times: `stages` cuts a
whole network into such pieces.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from hwkit.errors import BadInput, BadModel

Solver = Literal["euler", "rk4"]


def concat_time(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """(batch, C, ...) and t of shape (1,) -> (batch, C + 1, ...): t broadcast as the first channel.

    The same order as ConcatConv2d in torchdiffeq's odenet_mnist example.
    """
    plane = t.reshape(1, 1, *[1] * (z.dim() - 2)).expand(z.shape[0], 1, *z.shape[2:])
    return torch.cat((plane, z), dim=1)


def _takes_time(inner: nn.Module) -> bool:
    """Whether inner's forward needs a second argument, the time."""
    needed = [
        p
        for p in inspect.signature(inner.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    if len(needed) not in (1, 2):
        raise BadInput(
            f"the inner function of an ODE block takes (z) or (z, t), not {len(needed)} arguments",
            f"change the forward of {type(inner).__name__}",
        )
    return len(needed) == 2


class ODEStep(nn.Module):
    """One solver step of length h: z(t) -> z(t + h), shapes unchanged.

    Call it with z alone, or with z and t (a tensor of shape (1,)) where `uses_time` is true.
    """

    def __init__(
        self, inner: nn.Module, h: float, solver: Solver = "euler", time_channel: bool = False
    ) -> None:
        super().__init__()
        if solver not in get_args(Solver):
            raise BadInput(f"no ODE solver named {solver!r}", f"use one of {', '.join(get_args(Solver))}")
        takes_time = _takes_time(inner)
        if time_channel and takes_time:
            raise BadInput(
                f"{type(inner).__name__} takes the time as an argument already", "leave time_channel off"
            )
        self.inner = inner
        self.h = h
        self.solver: Solver = solver
        self.time_channel = time_channel
        self.uses_time = time_channel or takes_time

    def derivative(self, z: torch.Tensor, t: torch.Tensor | None) -> torch.Tensor:
        """f(z, t), of z's shape."""
        if t is None:
            out: torch.Tensor = self.inner(z)
        elif self.time_channel:
            out = self.inner(concat_time(z, t))
        else:
            out = self.inner(z, t)
        return out

    def forward(self, z: torch.Tensor, t: torch.Tensor | None = None) -> torch.Tensor:
        if self.uses_time != (t is not None):
            raise BadInput(f"this ODE step takes {'z and t' if self.uses_time else 'z alone'}")
        if self.solver == "euler":
            return z + self.h * self.derivative(z, t)
        return self._rk4(z, t)

    def _rk4(self, z: torch.Tensor, t: torch.Tensor | None) -> torch.Tensor:
        half = 0.5 * self.h
        middle = None if t is None else t + half
        end = None if t is None else t + self.h
        k1 = self.derivative(z, t)
        k2 = self.derivative(z + half * k1, middle)
        k3 = self.derivative(z + half * k2, middle)
        k4 = self.derivative(z + self.h * k3, end)
        return z + (self.h / 6.0) * (k1 + 2.0 * k2 + 2.0 * k3 + k4)

    def extra_repr(self) -> str:
        return f"solver={self.solver}, h={self.h:g}, time_channel={self.time_channel}"


class ODEBlock(nn.Module):
    """z(t0) -> z(t1) in `steps` steps of a fixed-step solver; shapes unchanged.

    inner         a module f(z), or f(z, t) with t a tensor of shape (1,); gives a tensor of z's shape
    steps         N >= 1; each step is h = (t1 - t0) / N long
    solver        "euler" (1 call of inner a step) or "rk4" (4 calls)
    time_channel  inner is f(z) and gets z with t as one more channel, the first (see concat_time)

    Train and deploy with the same number of steps, or measure what another number does to accuracy.
    """

    def __init__(
        self,
        inner: nn.Module,
        steps: int,
        solver: Solver = "euler",
        time_channel: bool = False,
        t0: float = 0.0,
        t1: float = 1.0,
    ) -> None:
        super().__init__()
        if steps < 1:
            raise BadInput(f"an ODE block needs at least one step, not {steps}")
        self.steps = steps
        self.t0 = t0
        self.t1 = t1
        self.step = ODEStep(inner, (t1 - t0) / steps, solver, time_channel)

    @property
    def times(self) -> tuple[float, ...]:
        """The t at which each step starts."""
        return tuple(self.t0 + k * self.step.h for k in range(self.steps))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        for t in self.times:
            z = self.step(z, z.new_full((1,), t)) if self.step.uses_time else self.step(z)
        return z

    def with_steps(self, steps: int) -> ODEBlock:
        """The same weights (shared, not copied) with another number of steps."""
        step = self.step
        block = ODEBlock(step.inner, steps, step.solver, step.time_channel, self.t0, self.t1)
        block.training = block.step.training = self.training
        return block

    def extra_repr(self) -> str:
        return f"steps={self.steps}, t0={self.t0:g}, t1={self.t1:g}"


def with_steps(network: nn.Module, steps: int) -> nn.Module:
    """A network whose ODE blocks take `steps` steps; every weight is shared with the one given."""
    _check_top_level(network)
    if not isinstance(network, nn.Sequential):
        return network
    changed = nn.Sequential(
        OrderedDict(
            (name, child.with_steps(steps) if isinstance(child, ODEBlock) else child)
            for name, child in _children(network)
        )
    )
    changed.training = network.training
    return changed


@dataclass(frozen=True)
class Stage:
    """A piece of a network that is exported once and invoked `repeat` times.

    name    the names of its children in the network: "stem", "ode1", "down1" ...
    times   where the module takes (z, t): the t of each invocation; None where it takes z alone
    """

    name: str
    module: nn.Module
    repeat: int
    times: tuple[float, ...] | None = None

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """Run all repeats, as a deployed artifact does."""
        for k in range(self.repeat):
            z = self.module(z) if self.times is None else self.module(z, z.new_full((1,), self.times[k]))
        return z


def stages(network: nn.Module) -> list[Stage]:
    """Cut a network into ODE steps and the groups of layers between them.

    Running the stages one after another computes exactly what the network does. A network without ODE
    blocks is one stage. Raises BadModel when an ODE block is not a direct child of the nn.Sequential.
    """
    _check_top_level(network)
    if not isinstance(network, nn.Sequential):
        return [Stage("whole", network, 1)]
    found: list[Stage] = []
    group: OrderedDict[str, nn.Module] = OrderedDict()

    def close_group() -> None:
        if group:
            names = list(group)
            name = names[0] if len(names) == 1 else f"{names[0]}-{names[-1]}"
            found.append(Stage(name, _group_module(group, network.training), 1))
            group.clear()

    for name, child in _children(network):
        if isinstance(child, ODEBlock):
            close_group()
            found.append(Stage(name, child.step, child.steps, child.times if child.step.uses_time else None))
        else:
            group[name] = child
    close_group()
    return found


def _children(network: nn.Sequential) -> list[tuple[str, nn.Module]]:
    """All children; named_children() would leave out a module that is used twice."""
    return list(zip(network._modules, network, strict=True))


def _group_module(group: OrderedDict[str, nn.Module], training: bool) -> nn.Module:
    if len(group) == 1:
        return next(iter(group.values()))
    module = nn.Sequential(OrderedDict(group))
    module.training = training   # not .train(): that would thaw a frozen BatchNorm inside
    return module


def _check_top_level(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if isinstance(module, ODEBlock) and ("." in name or not isinstance(network, nn.Sequential)):
            raise BadModel(
                f"the ODE block {name or 'itself'!r} is not a direct child of an nn.Sequential network",
                "build the network as nn.Sequential(stem, ODEBlock(...), ..., head)",
            )


def freeze_batchnorm(network: nn.Module) -> None:
    """Let every BatchNorm use its running statistics while the rest trains; scale and shift still learn.

    A BatchNorm inside an ODE block sees N different distributions but keeps one set of statistics, so
    what it computes in training is not what it computes when deployed. Training the last part with
    the statistics frozen closes that gap. Call it again after each `.train()`, which thaws them.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
