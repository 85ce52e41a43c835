"""The pass: a trained network in, one of integers out, with what was done in its history."""

from __future__ import annotations

import pytest

from hwkit import datasets, zoo
from hwkit.compress.quantize import Quantize
from hwkit.errors import BadDescription, BadInput, BadModel
from hwkit.nn.dyadic import DyadicNetwork, to_integer


def test_a_network_goes_in_and_a_quantised_one_comes_out() -> None:
    trained = zoo.network("dsodenet@digits")
    after = Quantize({"epochs": 1, "train_images": 320}, seed=1)(trained)
    assert isinstance(after.module, DyadicNetwork)
    assert not isinstance(trained.module, DyadicNetwork)
    assert after.history[:-1] == trained.history
    assert "INT4" in after.history[-1]
    integers = to_integer(after.module)
    assert integers.history == after.history
    validation = datasets.load("digits", "validation")
    right = integers.logits(validation.images).argmax(1) == validation.labels
    assert right.mean() > 0.9


def test_mistakes_are_named() -> None:
    with pytest.raises(BadInput, match="no data set"):
        Quantize()(zoo.network("dsodenet", seed=0, input_shape=(1, 8, 8), steps=2))
    with pytest.raises(BadDescription, match="epoch"):
        Quantize({"epoch": 1})(zoo.network("dsodenet@digits"))
    with pytest.raises(BadModel, match=r"stem-head: add .* does not have"):
        Quantize()(zoo.network("resnet8"))
