"""From a torch program to .tflite bytes: litert-torch, then ai-edge-quantizer for f16 and dynamic range.

Imports torch and the converter: for the conversion job only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from hwkit.backends.tflite.options import Precision
from hwkit.backends.tflite.rewrite import rewrite
from hwkit.backends.tflite.slim import slim
from hwkit.errors import BadModel
from hwkit.nn.program import Program

IMAGE_RANK = 4   # (batch, channels, height, width): the only rank whose layout is changed

SUPPORTED = "replace it in the network by operators that TFLite has, or deploy another network"


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape that a torch tensor of `shape` has in the artifact: images (1, H, W, C), all else unchanged."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) == IMAGE_RANK else shape


@contextlib.contextmanager
def calm() -> Iterator[None]:
    """Without warnings and log lines: deprecations between torch and the converters are not the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Calm, and nothing printed: a progress bar's unfinished line would swallow the next one a job says."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        with calm():
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for end, copy in enumerate(kept, start=1):
            os.dup2(copy, end)
            os.close(copy)
        os.close(sink)


def convert(program: Program) -> bytes:
    """A float32 .tflite with channels-last inputs and outputs.

    Raises BadModel naming the operator that TFLite has no counterpart for.
    """
    import litert_torch

    images = [k for k, shape in enumerate(program.input_shapes) if len(shape) == IMAGE_RANK]
    module = litert_torch.to_channel_last_io(
        program.module, args=images, outputs=[0] if len(program.output_shape) == IMAGE_RANK else [])
    inputs = tuple(torch.zeros(channels_last(shape)) for shape in program.input_shapes)
    try:
        with calm():   # what it prints is kept: the converter can end the process, and says why
            content: bytes = litert_torch.convert(module.eval(), inputs).model_content()
    except Exception as e:   # MLIR, torch.export and the lowerings each raise their own
        raise _unsupported(program, e) from e
    return slim(rewrite(content))


def _unsupported(program: Program, error: Exception) -> BadModel:
    text = " ".join(str(error).split())
    missing = (re.search(r"Lowering not found: (\S+)", text)
               or re.search(r"failed to legalize operation '([^']+)'", text))
    if missing:
        return BadModel(f"{program.name} uses {missing[1]}, which TFLite cannot be given", SUPPORTED)
    return BadModel(f"{program.name} cannot be converted to TFLite: {type(error).__name__}: {text[:300]}",
                    SUPPORTED)


def quantized_weights(content: bytes, precision: Precision) -> bytes:
    """The f16 or dynamic-range form of a float32 .tflite. Raises ValueError for another precision."""
    from ai_edge_quantizer import qtyping, quantizer, recipe_manager

    match precision:
        case "dynamic":
            chosen = _dynamic_range()
        case "f16":
            manager = recipe_manager.RecipeManager()
            manager.add_weight_only_config(regex=".*", operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
                                           num_bits=16, algorithm_key="float_casting")
            chosen = manager.get_quantization_recipe()
        case _:
            raise ValueError(f"{precision} is not a choice of weights alone")
    with quiet():
        result = quantizer.Quantizer(content, chosen).quantize(enable_progress_report=False)
    return slim(bytes(result.quantized_model))


def _dynamic_range() -> Any:
    """int8 weights but for depthwise convolutions: XNNPACK takes those in float32 only, and they are small."""
    from ai_edge_quantizer import qtyping, recipe_manager

    operations = qtyping.TFLOperationName
    manager = recipe_manager.RecipeManager()
    manager.add_dynamic_config(regex=".*", operation_name=operations.ALL_SUPPORTED, num_bits=8)
    manager.add_quantization_config(regex=".*", operation_name=operations.DEPTHWISE_CONV_2D,
                                    algorithm_key="no_quantize")
    return manager.get_quantization_recipe()
