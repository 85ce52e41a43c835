"""A Keras file (.keras, .h5) or a TensorFlow SavedModel, converted to a float32 .tflite by TensorFlow.

Models of TensorFlow are programs: Lambda layers hold Python bytecode and graphs may read and write files.
Keras opens files in safe mode, and a SavedModel is searched for such operators before it is loaded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hwkit.errors import BadModel
from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.sources import Opening
from hwkit.sources._child import reading
from hwkit.sources._input import chosen_shape
from hwkit.sources.tflite import invoked, write_tflite

SIGNATURE = "serving_default"
TRIALS = 3
TOLERANCE = 1e-4   # as for ONNX: float32 rounding stays below, another definition of an operator above
# What a graph of tensors does not need: they run Python, or read and write files and the screen.
FORBIDDEN = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles", "Print",
             "PrintV2", "WholeFileReader", "WholeFileReaderV2", "InitializeTableFromTextFileV2"}


def prepare() -> None:
    """Nothing: TensorFlow starts threads when it is imported, so it is imported after forking."""


def opened(opening: Opening, folder: Path, say: Say) -> Model:
    path, what = opening.source.path, opening.source.text
    assert path is not None
    say("importing TensorFlow")
    import tensorflow as tf  # see prepare

    network, declared, keeper = _saved_model(tf, path, what) if path.is_dir() else _keras_file(tf, path, what)
    shape = chosen_shape(opening, _known(declared, opening, what))
    say("converting to TFLite")
    with reading(what, "TensorFlow cannot convert it: use layers that TFLite has"):
        spec = tf.TensorSpec((1, *shape), tf.float32, name="input")
        function = tf.function(network).get_concrete_function(spec)
        made = folder / f"{path.stem}.tflite"
        made.write_bytes(_converted(tf, function, keeper))
    say("comparing with TensorFlow")
    _compare(tf, function, made, shape, what)
    model = write_tflite(made, opening, folder, say, name=path.stem, history=(
        f"read from {path.name}", f"converted to float32 TFLite by TensorFlow {tf.__version__}"))
    made.unlink()
    return model


def _converted(tf: Any, function: Any, keeper: Any) -> bytes:
    """The function as a float32 .tflite."""
    root = tf.Module()
    root.keeper = keeper
    with tempfile.TemporaryDirectory() as scratch:
        tf.saved_model.save(root, scratch, signatures=function)
        converted: bytes = tf.lite.TFLiteConverter.from_saved_model(scratch, [SIGNATURE]).convert()
    return converted


Network = tuple[Callable[[Any], Any], tuple[int | None, ...], Any]


def _keras_file(tf: Any, path: Path, what: str) -> Network:
    """The model as a function of a batch, the shape it declares for a batch, and what keeps its weights alive.

    By way of a SavedModel: TensorFlow 2.21 does not freeze the variables of a Keras 3 model that is called
    within a function of ours, and the outcome computes NaN.
    """
    with reading(what, "save it again with model.save('network.keras'), without Lambda layers"):
        model = tf.keras.models.load_model(path, compile=False, safe_mode=True)
        inputs, outputs = len(model.inputs), len(model.outputs)
        shape = tuple(model.inputs[0].shape)
        datatype = tf.as_dtype(model.inputs[0].dtype)
        weights = [(w.path, np.asarray(w)) for w in model.weights]
    _check(inputs, outputs, datatype == tf.float32, what)
    for name, values in weights:
        bad = int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0
        if bad:
            raise BadModel(f"{what}: {name} has {bad} NaN among its {values.size} values",
                           "train the network again")
    with reading(what, "save it with model.export(folder)"), tempfile.TemporaryDirectory() as scratch:
        model.export(scratch, format="tf_saved_model", verbose=False)
        function, _, keeper = _saved_model(tf, Path(scratch), what)
    return function, shape, keeper


def _saved_model(tf: Any, path: Path, what: str) -> Network:
    with reading(what, "save it again with model.export(folder)"):
        _refuse_programs(path, what)
        loaded = tf.saved_model.load(path)
        signature = loaded.signatures.get(SIGNATURE)
    if signature is None:
        raise BadModel(f"{what} has no signature {SIGNATURE!r}, only {', '.join(loaded.signatures) or 'none'}",
                       "save it with model.export(folder)")
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    spec = next(iter(inputs.values()))
    _check(len(inputs), len(outputs), spec.dtype == tf.float32, what)
    (taken,), (given,) = inputs, outputs
    return lambda x: signature(**{taken: x})[given], tuple(spec.shape), loaded


def _check(inputs: int, outputs: int, floats: bool, what: str) -> None:
    if inputs != 1 or outputs != 1:
        raise BadModel(f"{what} has {inputs} inputs and {outputs} outputs; what is deployed here has one of each",
                       "save the part of the network that has one of each")
    if not floats:
        raise BadModel(f"{what} takes another datatype; what is deployed here takes float32",
                       "save the network so that it takes float32")


def _known(declared: tuple[int | None, ...], opening: Opening, what: str) -> tuple[int, ...] | None:
    """Shape of one sample if the model says it; None when the user does. Raises BadModel."""
    if len(declared) < 2 or declared[0] not in (None, 1):
        raise BadModel(f"{what} takes an input of shape {declared}; what is deployed here takes one sample, "
                       "(1, ...)", "save it with an open batch axis")
    if None not in declared[1:]:
        return tuple(size for size in declared[1:] if size is not None)
    shown = ",".join("?" if size is None else str(size) for size in declared[1:])
    said = opening.input_shape
    if said is None or len(said) != len(declared) - 1 or any(
            size not in (None, mine) for size, mine in zip(declared[1:], said, strict=True)):
        raise BadModel(f"{what} takes inputs of varying shape ({shown}){f', not {said}' if said else ''}",
                       f"name the shape of one sample with --input-shape {shown}, with numbers for the '?'")
    return None


def _refuse_programs(folder: Path, what: str) -> None:
    """Raises BadModel when the SavedModel's graph has operators that run Python or touch files."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    if not (folder / "saved_model.pb").is_file():
        raise BadModel(f"{what} is a SavedModel in text form",
                       "save it in binary form, as tf.saved_model.save does")
    model = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    for graph in model.meta_graphs:
        for node in _nodes(graph.graph_def):
            if node.op in FORBIDDEN:
                raise BadModel(f"{what}: its graph has the operator {node.op} (node {node.name:.60}), which runs "
                               "code or touches files", "save the network without it")


def _nodes(graph_def: Any) -> Iterator[Any]:
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def


def _compare(tf: Any, function: Any, made: Path, shape: tuple[int, ...], what: str) -> None:
    """Raises BadModel when the .tflite and TensorFlow disagree on random inputs."""
    random = np.random.default_rng(0)
    for _ in range(TRIALS):
        x = random.standard_normal((1, *shape)).astype(np.float32)
        expected = np.asarray(tf.nest.flatten(function(tf.constant(x)))[0])
        with reading(what):
            got = invoked(made, x)
        scale = float(np.abs(expected).max(initial=0.0))
        worst = float(np.abs(got - expected).max(initial=0.0)) if got.shape == expected.shape else float("inf")
        if not worst <= TOLERANCE * scale + 1e-6:
            raise BadModel(f"{what}: converted to TFLite it differs from TensorFlow by {worst:.3g} where outputs "
                           f"reach {scale:.3g}", "deploy it from torch or ONNX")
