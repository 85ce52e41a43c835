"""Folding: the same function, fewer operators, and a shared weight stays one tensor."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import fx, nn

from hwkit.nn.fold import Folded, fold

SHAPE = (2, 6, 9, 9)


def graph(module: nn.Module, *inputs: torch.Tensor, decomposed: bool = False) -> fx.GraphModule:
    exported = torch.export.export(module.eval(), inputs)
    if decomposed:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)   # of torch about itself
            exported = exported.run_decompositions()
    made = exported.module(check_guards=False)
    return fx.GraphModule(made, made.graph)


def lively(module: nn.Module) -> nn.Module:
    """With BatchNorm statistics and scales that matter."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            for tensor, low in ((part.running_mean, -1.0), (part.running_var, 0.1), (part.weight, 0.2),
                                (part.bias, -1.0)):
                if tensor is not None:
                    tensor.data.uniform_(low, 2.0, generator=generator)
    return module


def check(module: nn.Module, *inputs: torch.Tensor, decomposed: bool = False) -> tuple[Folded, fx.GraphModule]:
    made = graph(lively(module), *inputs, decomposed=decomposed)
    with torch.no_grad():
        expected = module(*inputs)
        done = fold(made)
        torch.testing.assert_close(made(*inputs), expected, rtol=1e-5, atol=1e-5)
    return done, made


def left(module: fx.GraphModule, word: str) -> int:
    return sum(word in str(node.target) for node in module.graph.nodes if node.op == "call_function")


def image() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 6])
def test_a_convolution_takes_its_batch_norm(groups: int, bias: bool, decomposed: bool) -> None:
    module = nn.Sequential(nn.Conv2d(6, 12, 3, padding=1, groups=groups, bias=bias), nn.BatchNorm2d(12), nn.ReLU())
    done, made = check(module, image(), decomposed=decomposed)
    assert done == Folded(batch_norms=1, scales=0, weights=1)
    assert left(made, "batch_norm") == 0
    assert set(dict(made.named_parameters())) == {"folded_0_weight", "folded_0_bias"}


@pytest.mark.parametrize(("module", "shape"), [
    (nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)), (3, 5)),
    (nn.Sequential(nn.Conv1d(5, 7, 3), nn.BatchNorm1d(7, affine=False)), (3, 5, 11)),
    (nn.Sequential(nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4)), (2, 2, 3, 4, 5))])
def test_other_ranks(module: nn.Module, shape: tuple[int, ...]) -> None:
    done, made = check(module, torch.randn(shape))
    assert done.batch_norms == 1
    assert left(made, "batch_norm") == 0


class Euler(nn.Module):
    """z + h f(z), `steps` times, with one f or with a norm of its own for each step."""

    def __init__(self, steps: int, norm_each: bool = False) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(6) for _ in range(steps)] if norm_each
                                   else [nn.BatchNorm2d(6)] * steps)
        self.h = 1.0 / steps

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        for norm in self.norms:
            z = z + self.h * norm(self.convolution(z))
        return z


def test_a_weight_shared_by_steps_is_folded_once() -> None:
    done, made = check(Euler(5), image())
    assert done == Folded(batch_norms=5, scales=5, weights=1)
    assert left(made, "mul") == left(made, "batch_norm") == 0
    used = {str(n.args[1].target) for n in made.graph.nodes if "conv" in str(n.target)}
    assert len(used) == 1


def test_a_norm_of_its_own_for_each_step_gives_each_step_a_weight() -> None:
    done, _ = check(Euler(3, norm_each=True), image())
    assert done == Folded(batch_norms=3, scales=3, weights=3)


@pytest.mark.parametrize("how", ["times", "over"])
def test_a_constant_factor_goes_into_the_weight(how: str) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(6, 6, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.convolution(x)
            out: torch.Tensor = y * 0.3 if how == "times" else y / 4
            return out

    done, made = check(One(), image())
    assert done == Folded(batch_norms=0, scales=1, weights=1)
    assert left(made, "mul") == left(made, "div") == 0


def test_what_cannot_be_folded_stays() -> None:
    class Branching(nn.Module):
        """The convolution's result is read twice, and a norm follows an addition."""

        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(6, 6, 1)
            self.norm1, self.norm2 = nn.BatchNorm2d(6), nn.BatchNorm2d(6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.convolution(x)
            out: torch.Tensor = self.norm2(self.norm1(y) + y)
            return out

    done, made = check(Branching(), image())
    assert done == Folded(0, 0, 0)
    assert left(made, "batch_norm") == 2


def test_a_norm_over_another_dimension_than_the_layers_stays() -> None:
    done, _ = check(nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(4)), torch.randn(3, 4, 5))
    assert done == Folded(0, 0, 0)


def test_a_norm_in_training_mode_stays() -> None:
    module = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)).train()
    exported = torch.export.export(module, (image(),)).module(check_guards=False)
    made = fx.GraphModule(exported, exported.graph)
    assert fold(made).batch_norms == 0


def test_folding_is_done_in_double_precision() -> None:
    """A tiny variance under a large mean: folding in float32 would cancel."""
    module = nn.Sequential(nn.Conv2d(6, 6, 1, bias=False), nn.BatchNorm2d(6, eps=1e-8))
    with torch.no_grad():
        module[1].running_var.fill_(1e-6)
        module[1].running_mean.fill_(0.123456789)
    made = graph(module, image())
    with torch.no_grad():
        exact = copy.deepcopy(module).double()(image().double())
        fold(made)
        error = (made(image()) - exact).abs().max() / exact.abs().max()
    assert error < 1e-5
