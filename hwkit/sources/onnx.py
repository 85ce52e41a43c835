"""A .onnx file: read, rebuilt as a torch module, and compared with onnxruntime on random inputs.

Networks with one float32 input and one output. One that cannot be rebuilt (an operator without a form in torch
here, a quantised network) stays an ONNX file, for the backends that take those, if onnxruntime runs it. External
data are read from the model's own folder only.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import torch
from onnx import ModelProto, numpy_helper

from hwkit.errors import BadModel
from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.sources import Opening
from hwkit.sources._child import reading
from hwkit.sources._export import check_tensors, prepare, write_network
from hwkit.sources._external import check_external
from hwkit.sources._input import chosen_shape
from hwkit.sources._onnx.interface import single_input
from hwkit.sources._onnx.network import DOMAINS, OnnxNetwork, build

__all__ = ["opened", "prepare"]
GIVEN = "given.onnx"
OLDEST_OPSET = 7
TRIALS = 3
# Largest difference from onnxruntime, relative to the largest output: float32 rounding through a deep network
# stays below 1e-5, and another definition of an operator (tanh for erf in GELU, say) is above 3e-4.
TOLERANCE = 1e-4


def opened(opening: Opening, folder: Path, say: Say) -> Model:
    path, what = opening.source.path, opening.source.text
    assert path is not None
    model, opset = load(path, what)
    shape = chosen_shape(opening, declared_shape(model.graph, what, opening.input_shape))
    history = (f"read from {path.name} (ONNX opset {opset})",)
    say("reading the graph")
    try:
        network = build(model.graph, opset, torch.zeros(1, *shape), what).eval()
        check_tensors(((network.original[name], tensor) for name, tensor in network.state_dict().items()), what)
        say("comparing with onnxruntime")
        compare(network, path, shape, what)
        found = write_network(network, shape, folder, name=path.stem, what=what, dataset=opening.dataset,
                              history=history, say=say)
    except BadModel as e:
        if not _runs(path, model.graph, shape):
            raise
        weights = [t for t in model.graph.initializer if t.data_type != onnx.TensorProto.INT64]
        found = Model(name=path.stem, path=Path(GIVEN), format="onnx", input_shape=shape, dataset=opening.dataset,
                      not_torch=e.message, parameters=sum(math.prod(t.dims) for t in weights),
                      parameter_bytes=sum(numpy_helper.to_array(t).nbytes for t in weights), history=history)
    (folder / GIVEN).write_bytes(_fixed(model, shape).SerializeToString(deterministic=True))
    return found.model_copy(update={"onnx": Path(GIVEN), "opset": opset})


def _fixed(model: ModelProto, shape: tuple[int, ...]) -> ModelProto:
    """The same graph for one sample of that shape; the shapes of everything else follow from it."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    held = next(i for i in fixed.graph.input if i.name == _input(model.graph))
    for dimension, size in zip(held.type.tensor_type.shape.dim, (1, *shape), strict=True):
        dimension.Clear()
        dimension.dim_value = size
    del fixed.graph.value_info[:]
    fixed.graph.output[0].type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(fixed, data_prop=True)


def _input(graph: onnx.GraphProto) -> str:
    constants = {t.name for t in graph.initializer}
    return next(str(i.name) for i in graph.input if i.name not in constants)


def _runs(path: Path, graph: onnx.GraphProto, shape: tuple[int, ...]) -> bool:
    """Whether onnxruntime executes it and gives finite float32 values of one sample that depend on the input."""
    noise = np.random.default_rng(0).standard_normal((2, 1, *shape)).astype(np.float32)
    try:
        session = onnxruntime.InferenceSession(str(path), _quiet(), providers=["CPUExecutionProvider"])
        found = [session.run(None, {_input(graph): one})[0] for one in noise]
    except Exception:   # onnxruntime's exceptions have no common base but this
        return False
    usable = all(f.dtype == np.float32 and f.shape[:1] == (1,) and np.isfinite(f).all() for f in found)
    return usable and found[0].shape == found[1].shape and not np.array_equal(*found)


def _quiet() -> onnxruntime.SessionOptions:
    """As the graph stands, one thread, no words."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return options


def load(path: Path, what: str) -> tuple[ModelProto, int]:
    """The model with all its data and its functions inlined, and its opset. Raises BadModel."""
    with reading(what):
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            check_external(tensor, path.parent, what)
        onnx.checker.check_model(str(path))
        onnx.load_external_data_for_model(model, str(path.parent))
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
    opset = max((o.version for o in model.opset_import if o.domain in DOMAINS), default=0)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise BadModel(f"{what} is of ONNX opset {opset}; known are {OLDEST_OPSET} to {newest}",
                       "export it again with opset_version=18")
    return model, opset


def declared_shape(graph: onnx.GraphProto, what: str, said: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Shape of one sample; None where the graph leaves it open and the user has `said` one that fits.

    Raises BadModel when they do not fit, and for a graph that takes or gives other than is deployed here.
    """
    held = single_input(graph, what)
    sizes = tuple(d.dim_value if d.dim_value > 0 else None for d in held.shape.dim)
    if len(sizes) < 2 or sizes[0] not in (None, 1):
        raise BadModel(f"{what} takes an input of shape {sizes}; what is deployed here takes one sample, (1, ...)",
                       "export it again with batch 1")
    if None not in sizes[1:]:
        return tuple(size for size in sizes[1:] if size is not None)
    fits = said is not None and len(said) == len(sizes) - 1 and all(
        size in (None, mine) for size, mine in zip(sizes[1:], said, strict=True))
    shown = ",".join("?" if size is None else str(size) for size in sizes[1:])
    if said is not None and not fits:
        raise BadModel(f"{what} takes inputs of shape ({shown}), not {said}", f"name a shape like {shown}")
    if said is None:
        raise BadModel(f"{what} takes inputs of varying shape ({shown})",
                       f"name the shape of one sample with --input-shape {shown}, with numbers for the '?'")
    return None


def compare(network: OnnxNetwork, path: Path, shape: tuple[int, ...], what: str) -> None:
    """Raises BadModel when the torch module and onnxruntime disagree on random inputs."""
    with reading(f"{what} (by onnxruntime)"):
        session = onnxruntime.InferenceSession(str(path), _quiet(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for _ in range(TRIALS):
        x = random.standard_normal((1, *shape)).astype(np.float32)
        with reading(f"{what} (by onnxruntime)"):
            expected = session.run(None, {network.graph_input: x})[0]
        with reading(what), torch.no_grad():
            got = network(torch.from_numpy(x)).numpy()
        if got.shape != expected.shape or got.dtype != expected.dtype:
            raise BadModel(f"{what}: rebuilt in torch it gives {got.dtype} {got.shape}, and {expected.dtype} "
                           f"{expected.shape} in onnxruntime", "export the network in another opset")
        scale = float(np.abs(expected).max(initial=0.0))
        worst = float(np.abs(got - expected).max(initial=0.0))
        if not worst <= TOLERANCE * scale + 1e-6:
            raise BadModel(f"{what}: rebuilt in torch it differs from onnxruntime by {worst:.3g} where outputs "
                           f"reach {scale:.3g}", "export the network in another opset, or deploy it from torch")
