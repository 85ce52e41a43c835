"""A .tflite that is deployed as it is: opened, checked and compared with the runtime's reference kernels."""

from __future__ import annotations

import numpy as np

from hwkit.backends._agreement import Floats, outputs
from hwkit.backends.tflite import flat
from hwkit.backends.tflite.chain import Chain, Part
from hwkit.backends.tflite.deployed import Deployed
from hwkit.backends.tflite.options import Options
from hwkit.errors import BadInput, BadModel
from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.samples import Samples, samples

REFERENCE = "the runtime's reference kernels"


def taken(model: Model, options: Options, say: Say) -> Deployed:
    """Raises BadModel for a damaged file or more than one input or output, BadInput for a wrong shape."""
    content = model.path.read_bytes()
    graph = flat.read(content).subgraphs[0]
    for what, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        if len(tensors) != 1:
            raise BadModel(f"{model.name} has {len(tensors)} {what}s, not one",
                           "deploy a network with one of each")
    shape = flat.shape(graph.tensors[graph.inputs[0]])
    if shape != (1, *model.input_shape):
        raise BadInput(f"{model.name} takes an input of shape {shape}, not {(1, *model.input_shape)}",
                       "give the shape of one sample with --input-shape")
    part = Part(content)
    inputs = _inputs(model, options)
    say("running the reference kernels")
    expected = outputs(Chain([part], "reference"), inputs.images, REFERENCE, say)
    return Deployed(names=[model.name], parts=[part], inputs=inputs.images, expected=expected,
                    labels=inputs.labels, reference=REFERENCE, source=inputs.source)


def _inputs(model: Model, options: Options) -> Samples:
    """Images of a data set are channels first, and those of a .tflite channels last."""
    if model.data is not None or model.dataset is None or len(model.input_shape) != 3:
        return samples(model.input_shape, 1, model.dataset, model.data).first(options.images)
    height, width, channels = model.input_shape
    found = samples((channels, height, width), 1, model.dataset).first(options.images)
    return Samples(_last(found.calibration), _last(found.images), found.labels, found.source, found.random)


def _last(images: Floats) -> Floats:
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))
