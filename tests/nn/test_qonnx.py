"""QONNX files, run by the qonnx executor, against torch and the integer reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from hwkit.integer.separable import convolutions
from hwkit.nn.dyadic import Precision, to_integer
from hwkit.nn.qonnx import export_qonnx, operators, run_qonnx, weight_bytes
from tests.nn.small import dyadic, images, network, one_convolution


@pytest.mark.parametrize(("make", "precision"), [(network, Precision()), (one_convolution, Precision(1, 3))])
def test_qonnx_is_torch_is_the_integer_reference(make: object, precision: Precision, tmp_path: Path) -> None:
    module = dyadic(make(), precision)   # type: ignore[operator]
    path = tmp_path / "net.qonnx.onnx"
    size = export_qonnx(module, module.input_shape, path, batch=8)
    assert path.stat().st_size == size
    x = images(20, 3, module.input_shape) * 2   # not a multiple of the batch
    integers = to_integer(module)
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_array_equal(run_qonnx(path, x.numpy()), expected)
    np.testing.assert_array_equal(integers.logits(x.numpy()) * integers.head.output_scale, expected)


def test_weights_are_stored_once_for_all_steps(tmp_path: Path) -> None:
    module = dyadic(network())
    path = tmp_path / "net.onnx"
    export_qonnx(module, module.input_shape, path)
    model = onnx.load(path)
    convs = len(list(convolutions(to_integer(module))))
    assert operators(model)["Conv"] == 1 + 2 * (2 + 2 * (convs - 2))   # stem, transitions, f's run twice
    stored = sum(p.numel() for p in module.parameters())
    _, bytes_stored = weight_bytes(model)
    assert 4 * stored <= bytes_stored < 4 * stored * 1.25   # float32, and the scales
