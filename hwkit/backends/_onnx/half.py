"""float16 inside, float32 at both ends."""

from __future__ import annotations

import warnings

from onnx import ModelProto
from onnxruntime.transformers.float16 import convert_float_to_float16

from hwkit.backends._onnx.tidy import shortened


def halved(model: ModelProto) -> ModelProto:
    """The same graph computed in float16, with a Cast at each end. Weights beyond 65504 become that."""
    copy = ModelProto()
    copy.CopyFrom(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")       # of weights that round to the smallest number there is
        made: ModelProto = convert_float_to_float16(copy, keep_io_types=True, disable_shape_infer=True)
    return shortened(made, "half")
