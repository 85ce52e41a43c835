"""DepthwiseSeparableConv2d against a dense convolution with the product of its two kernels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hwkit.nn.dsconv import DepthwiseSeparableConv2d


@pytest.mark.parametrize(("stride", "bias"), [(1, False), (2, True)])
def test_equals_the_dense_convolution_it_factors(stride: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = DepthwiseSeparableConv2d(5, 7, stride=stride, bias=bias).double()
    x = torch.randn(2, 5, 9, 8, dtype=torch.float64)
    # W[o, i, :, :] = pointwise[o, i] * depthwise[i]
    dense = conv.pointwise.weight * conv.depthwise.weight[:, 0][None]
    expected = F.conv2d(x, dense, conv.pointwise.bias, stride=stride, padding=1)
    torch.testing.assert_close(conv(x), expected)


def test_parameters_are_9i_plus_io() -> None:
    count = sum(p.numel() for p in DepthwiseSeparableConv2d(64, 128).parameters())
    assert count == 9 * 64 + 64 * 128
    assert sum(p.numel() for p in DepthwiseSeparableConv2d(64, 128, bias=True).parameters()) == count + 128
