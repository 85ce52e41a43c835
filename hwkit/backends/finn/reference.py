"""The job before FINN: inputs, the outputs that qonnx's own executor gives for them, and rounding ties."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hwkit.backends.finn.options import Options
from hwkit.integer.agreement import executor
from hwkit.integer.graph import IntegerGraph
from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.samples import samples

GOLDEN = "golden.npz"


def job(spec: dict[str, Any], say: Say) -> dict[str, Any]:
    """Writes GOLDEN (inputs, outputs) and folder golden/; returns where the inputs are from, and the ties.

    A tie is an activation exactly half way between two levels: QONNX rounds it to the even one, FINN up.
    """
    model, options = Model.model_validate(spec["model"]), Options.model_validate(spec["options"])
    found = samples(model.input_shape, 1, model.dataset, model.data).first(options.golden)
    graph = IntegerGraph.from_qonnx(model.path)
    graph.run(found.images)
    ties = {name: count for name, count in graph.ties.items() if count and name not in graph.weight_ties}
    outputs = []
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        run = executor(model.path)
        for number, image in enumerate(found.images, 1):
            outputs.append(run(image[None])[graph.output])
            say(f"executing the QONNX file: {number} of {len(found.images)}")
    wanted = np.concatenate(outputs).astype(np.float32)
    np.savez(GOLDEN, inputs=found.images, outputs=wanted)
    Path("golden").mkdir(exist_ok=True)
    np.save("golden/inputs.npy", found.images)
    np.save("golden/outputs.npy", wanted)
    return {"source": found.source, "random": found.random, "ties": ties}
