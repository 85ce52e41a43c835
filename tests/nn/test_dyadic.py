"""The torch module against the integer reference, output by output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hwkit import datasets, zoo
from hwkit.compress.quantize import Result
from hwkit.describe import read_toml, validated
from hwkit.errors import BadInput
from hwkit.integer import separable
from hwkit.nn import qat
from hwkit.nn.dyadic import MAX_SHIFT, MAX_SHIFT_SPREAD, Precision, Rounded, to_integer
from hwkit.nn.equalize import rounded, row_shifts
from hwkit.nn.from_integer import from_integer
from hwkit.nn.separable import FloatSeparable, from_module
from tests.nn.small import dyadic, images, network, one_convolution


def differing(module: torch.nn.Module, x: torch.Tensor) -> int:
    integers = to_integer(module)   # type: ignore[arg-type]
    separable.validate(integers)
    with torch.no_grad():
        ours = module(x).double().numpy()
    return int((ours != integers.logits(x.numpy()) * integers.head.output_scale).sum())


@pytest.mark.parametrize("bits", [(4, 7), (3, 4), (2, 2), (1, 7)])
@pytest.mark.parametrize("make", [network, one_convolution])
def test_torch_is_the_integer_reference(make: object, bits: tuple[int, int]) -> None:
    module = dyadic(make(), Precision(*bits))   # type: ignore[operator]
    x = images(100, 3, module.input_shape) * 2   # some of it saturates
    assert differing(module, x) == 0
    assert to_integer(module).middle_high == 2 ** bits[1] - 1


def test_a_change_of_one_bias_shows() -> None:
    """The comparison above would see an LSB."""
    module = dyadic(network())
    integers = to_integer(module)
    block = integers.core[0]
    assert isinstance(block, separable.OdeBlock)
    block.convolutions[0].depthwise_bias[:] += 1 << block.convolutions[0].depthwise_shift
    x = images(20, 3)
    with torch.no_grad():
        assert (module(x).double().numpy() != integers.logits(x.numpy()) * integers.head.output_scale).any()


@pytest.mark.parametrize("precision", [Precision(), Precision(1, 3)])
def test_everything_fits_the_engine(precision: Precision) -> None:
    integers = to_integer(dyadic(network(), precision))
    for _, conv in separable.convolutions(integers):
        for shift in (conv.depthwise_shift, conv.pointwise_shift):
            assert shift.min() >= 0
            assert shift.max() <= MAX_SHIFT
            assert shift.max() - shift.min() <= MAX_SHIFT_SPREAD
        assert abs(conv.depthwise_bias).max() < 2**15
        assert abs(conv.pointwise_bias).max() < 2**19
        high = max(1, 2 ** (precision.weight_bits - 1) - 1)
        assert max(abs(conv.depthwise).max(), abs(conv.pointwise).max()) <= high


def test_there_and_back() -> None:
    integers = to_integer(dyadic(network()))
    again = to_integer(from_integer(integers))
    pairs = zip(separable.convolutions(integers), separable.convolutions(again), strict=True)
    for (_, ours), (_, theirs) in pairs:
        for name in ("depthwise", "depthwise_bias", "depthwise_shift", "pointwise", "pointwise_bias",
                     "pointwise_shift"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    x = images(20, 5).numpy()
    np.testing.assert_array_equal(integers.logits(x), again.logits(x))


def test_rounding_in_training_is_the_quantiser() -> None:
    for bits, signed in ((4, True), (8, True), (7, False), (2, False)):
        layer = Rounded(bits, signed)
        x = torch.cat([torch.linspace(-300, 300, 4001), torch.arange(-300.0, 300.0)]).requires_grad_()
        trained = layer.train()(x)
        assert torch.equal(trained, layer.eval()(x))
        trained.sum().backward()
        assert x.grad is not None
        # a gradient wherever a value is not saturated, none beyond
        assert torch.equal(x.grad[(x > layer.low) & (x < layer.high + 1)].unique(), torch.ones(1))
        assert not x.grad[(x < layer.low) | (x > layer.high + 1)].any()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_shift_is_no_worse_than_its_neighbours(bits: int) -> None:
    rows = images(12, 7, (1, 1, 20))[:, 0, 0].double() * torch.logspace(-3, -1, 12).double()[:, None]
    shift = row_shifts(rows, bits, 24, 24)
    if bits > 1:
        errors = [((rounded(rows, shift + by, bits) - rows) ** 2).sum(1) for by in (0, -1)]
        assert (errors[0] <= errors[1] + 1e-12).all()
    low, high = row_shifts(rows * torch.logspace(-6, 0, 12).double()[:, None], bits).aminmax()
    assert low >= 0
    assert high <= MAX_SHIFT
    assert high - low <= MAX_SHIFT_SPREAD


def test_ties_of_the_input_are_counted_and_decided_alike() -> None:
    module = dyadic(network())
    scale = module.stem.input_scale
    x = (torch.arange(64.0).reshape(1, 1, 8, 8) - 30.5) * scale
    assert qat.input_ties(x, scale) == 64
    assert qat.input_ties(x + scale / 4, scale) == 0
    assert qat.input_ties(torch.full((1, 1, 8, 8), 127.5 * scale), scale) == 0   # saturates
    assert differing(module, x) == 0


def test_widths_the_engine_has_not_are_refused() -> None:
    for wrong in ((0, 7), (5, 7), (4, 1), (4, 8)):
        with pytest.raises(BadInput, match="bits"):
            Precision(*wrong)


@pytest.fixture(scope="module")
def digits() -> FloatSeparable:
    trained = zoo.network("dsodenet@digits")
    return from_module(trained.module, trained.name, trained.input_shape)


@pytest.mark.parametrize("name", ["dsodenet@digits", "dsodenet"])
def test_shipped_integers_are_what_their_description_says(name: str) -> None:
    """Of the same float weights, in range, and as accurate in integers as in torch and as was written down."""
    path = zoo.quantized_path(name)
    assert path is not None
    about = validated(read_toml(path.with_suffix(".toml")), Result, path)
    integers = separable.load(path)
    separable.validate(integers)
    module = from_integer(integers)
    test = datasets.load(about.dataset, "test")
    count = 360 if name == "dsodenet@digits" else 200
    with torch.no_grad():
        ours = module(torch.from_numpy(test.images[:count])).double().numpy()
    theirs = integers.logits(test.images[:count])
    np.testing.assert_array_equal(ours, theirs * integers.head.output_scale)
    right = float((theirs.argmax(1) == test.labels[:count]).mean())
    shipped = next(r for r in about.seeds if r.seed == about.shipped_seed)
    if count == len(test.labels):
        assert right == pytest.approx(shipped.test, abs=1e-9)
    assert shipped.test > about.float_test - 0.02
    assert about.splits_sha256 == datasets.splits_sha256(about.dataset)


def test_integers_of_other_float_weights_are_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert zoo.quantized_path("dsodenet") is not None
    assert zoo.quantized_path("odenet") is None
    assert zoo.quantized_path("model.pt2") is None
    monkeypatch.setenv("HWKIT_PATH", str(tmp_path))
    shipped = zoo.weights_path("dsodenet", "digits")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / shipped.name).write_bytes(shipped.read_bytes() + b" ")
    assert zoo.quantized_path("dsodenet@digits") is None


def test_training_improves_and_the_same_seed_gives_the_same_integers(digits: FloatSeparable) -> None:
    parts = [datasets.load("digits", split) for split in ("train", "validation")]
    training, validation = (qat.Data(torch.from_numpy(p.images), torch.from_numpy(p.labels)) for p in parts)
    recipe = qat.QatRecipe(weight_bits=2, middle_bits=4, epochs=2, batch=64, train_images=320)
    raw, untrained = qat.quantize(digits, training, validation, recipe.model_copy(update={"epochs": 0}), 0)
    first, trained = qat.quantize(digits, training, validation, recipe, 0)
    second, _ = qat.quantize(digits, training, qat.Data(validation.images, None), recipe, 0)
    assert untrained.epoch == -1
    assert trained.validation > untrained.validation + 0.05
    assert qat.accuracy(raw, validation.images, validation.labels) == untrained.validation   # type: ignore[arg-type]
    assert differing(first, validation.images[:50]) == 0
    for ours, theirs in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
