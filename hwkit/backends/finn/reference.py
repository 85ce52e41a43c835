"""The job before FINN: inputs, the outputs that qonnx's own executor gives for them, and rounding ties."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from hwkit.backends.finn.options import Options
from hwkit.integer.agreement import executor
from hwkit.integer.graph import IntegerGraph
from hwkit.integer.requantize import mode_named
from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.samples import samples

GOLDEN = "golden.npz"


def job(spec: dict[str, Any], say: Say) -> dict[str, Any]:
    """Writes GOLDEN (inputs, outputs) and folder golden/; returns where the inputs are from, and the ties.

    A tie is an activation exactly half way between two levels: QONNX rounds it to the even one, FINN up. Where
    there are any, GOLDEN also holds what the network gives when every half is rounded up ("half_up").
    """
    model, options = Model.model_validate(spec["model"]), Options.model_validate(spec["options"])
    found = samples(model.input_shape, 1, model.dataset, model.data).first(options.golden)
    graph = IntegerGraph.from_qonnx(model.path)
    graph.run(found.images)
    ties = {name: count for name, count in graph.ties.items() if count and name not in graph.weight_ties}
    say("executing the QONNX file")
    wanted = _outputs(model.path, graph.output, found.images)
    kept: dict[str, Any] = {"inputs": found.images, "outputs": wanted}
    if ties:
        say("executing it with halves rounded up")
        twin = Path("half_up.onnx")
        onnx.save(half_up(onnx.load(str(model.path))), str(twin))
        kept["half_up"] = _outputs(twin, graph.output, found.images)
    np.savez(GOLDEN, **kept)
    Path("golden").mkdir(exist_ok=True)
    np.save("golden/inputs.npy", found.images)
    np.save("golden/outputs.npy", wanted)
    return {"source": found.source, "random": found.random, "ties": ties}


def _outputs(path: Path, output: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What qonnx's executor gives, image by image."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        run = executor(path)
        return np.concatenate([run(image[None])[output] for image in images]).astype(np.float32)


def half_up(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network whose quantisers of activations round halves up: floor(x + 1/2) in place of round(x)."""
    graph = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    shapes = {v.name: v for v in (*graph.value_info, *graph.input)}
    weights = set(constants)
    nodes: list[NodeProto] = []
    for node in graph.node:
        if all(name in weights for name in node.input if name):
            weights.update(node.output)
        mode = next((a for a in node.attribute if a.name == "rounding_mode"), None)
        if (node.op_type in ("Quant", "IntQuant") and node.input[0] not in weights
                and (mode is None or mode_named(mode.s.decode()) == "ROUND")):
            half = np.asarray(constants[node.input[1]], np.float32) / 2
            graph.initializer.append(numpy_helper.from_array(half, f"{node.name}_half"))
            raised = f"{node.name}_raised"
            nodes.append(onnx.helper.make_node("Add", [node.input[0], f"{node.name}_half"], [raised]))
            shape = [d.dim_value for d in shapes[node.input[0]].type.tensor_type.shape.dim]
            graph.value_info.append(onnx.helper.make_tensor_value_info(raised, onnx.TensorProto.FLOAT, shape))
            node.input[0] = raised
            if mode is not None:
                node.attribute.remove(mode)
            node.attribute.append(onnx.helper.make_attribute("rounding_mode", "FLOOR"))
        nodes.append(node)
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return model
