"""Brevitas quantisers whose scale is a constant power of two.

Weights round to nearest (they are rounded once, before deployment); activations round down, as an arithmetic
shift does, and the half LSB that makes it rounding half up is part of the bias before.
"""

from __future__ import annotations

from typing import Any

import torch
from brevitas.core.quant import QuantType
from brevitas.core.zero_point import ZeroZeroPoint
from brevitas.inject.enum import FloatToIntImplType, RestrictValueType, ScalingImplType, ScalingPerOutputType
from brevitas.quant.base import IntQuant, NarrowIntQuant, UintQuant
from brevitas.quant.solver import ActQuantSolver, BiasQuantSolver, WeightQuantSolver


def weight(scale: torch.Tensor, bits: int) -> Any:
    """A symmetric weight quantiser: integers up to 2^(bits-1) - 1 either way (-1 and 1 for one bit) times `scale`.

    scale  powers of two, of the weight's shape with 1 for all but the output channels
    """
    if bits == 1:
        return _made((WeightQuantSolver,), quant_type=QuantType.BINARY, bit_width=1, narrow_range=True,
                     signed=True, scaling_per_output_type=ScalingPerOutputType.CHANNEL, scaling_init=scale,
                     **_CONSTANT)
    return _made((NarrowIntQuant, WeightQuantSolver), bit_width=bits, scaling_init=scale * 2.0 ** (bits - 1),
                 scaling_per_output_type=ScalingPerOutputType.CHANNEL, **_CONSTANT)


def bias(scale: torch.Tensor, bits: int) -> Any:
    """A signed bias quantiser of `bits`; scale (O,), powers of two."""
    return _made((IntQuant, BiasQuantSolver), bit_width=bits, scaling_init=scale * 2.0 ** (bits - 1),
                 scaling_per_output_type=ScalingPerOutputType.CHANNEL, requires_input_scale=False,
                 requires_input_bit_width=False, **_CONSTANT)


def activation(bits: int, signed: bool) -> Any:
    """Round down to an integer and saturate at `bits`."""
    return _made((IntQuant if signed else UintQuant, ActQuantSolver), bit_width=bits,
                 scaling_init=2.0 ** (bits - 1 if signed else bits),
                 scaling_per_output_type=ScalingPerOutputType.TENSOR,
                 float_to_int_impl_type=FloatToIntImplType.FLOOR, **_CONSTANT)


def image(scale: float) -> Any:
    """INT8 of an image: round half even of value / scale, saturated."""
    return _made((IntQuant, ActQuantSolver), bit_width=8, scaling_init=scale * 128.0,
                 scaling_per_output_type=ScalingPerOutputType.TENSOR, **_CONSTANT)


_CONSTANT = {"scaling_impl_type": ScalingImplType.CONST, "restrict_scaling_type": RestrictValueType.POWER_OF_TWO,
             "zero_point_impl": ZeroZeroPoint}


def _made(bases: tuple[type, ...], **values: Any) -> Any:
    return type("DyadicQuantizer", bases, values)
