"""Small ONNX models made by hand, and artifacts of them whose golden outputs are this machine's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from hwkit.artifact import Artifact, Built, Operator, StageFile, Variant, pack

Array = np.ndarray[Any, Any]
CHANNELS, SIDE, CLASSES = 8, 8, 5
TIMES = (0.0, 0.25, 0.5)
STEP = 0.1
AT_STEP, AT_HEAD = 2, 6      # numbers of the first node of these stages


class Net:
    """Nodes and weights of one graph. A node is called <stage>/<operator><number>, as the backends call it."""

    def __init__(self, seed: int, stage: str = "net", number: int = 0) -> None:
        self.begin(stage, number)
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def begin(self, stage: str, number: int) -> None:
        """What follows belongs to `stage`, and its first node has this number."""
        self.stage, self.number = stage, number

    def constant(self, value: Array) -> str:
        self.weights.append(numpy_helper.from_array(value, f"{self.stage}.w{len(self.weights)}"))
        return self.weights[-1].name

    def node(self, op: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        name = f"{self.stage}/{op}{self.number}"
        to = to or f"{self.stage}.{self.number}"
        self.number += 1
        self.nodes.append(helper.make_node(op, inputs, [to], name=name, **attributes))
        return to

    def conv(self, given: str, inputs: int, outputs: int, to: str = "") -> str:
        weight = self.random.standard_normal((outputs, inputs, 3, 3)) / (3 * inputs ** 0.5)
        return self.node("Conv", given, self.constant(weight.astype(np.float32)),
                         self.constant(self.random.standard_normal(outputs).astype(np.float32)),
                         to=to, pads=[1] * 4)

    def save(self, path: Path, given: Sequence[int], result: Sequence[int], timed: bool = False) -> None:
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)]
        if timed:
            inputs.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, [1]))
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)]
        graph = helper.make_graph(self.nodes, "small", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def stem(net: Net, given: str, to: str = "") -> str:
    return net.node("Relu", net.conv(given, 3, CHANNELS), to=to)


def step(net: Net, given: str, weights: tuple[str, str], to: str = "", t: str = "") -> str:
    """x + STEP * relu(conv(x)), or x + t * relu(conv(x))."""
    slope = net.node("Relu", net.node("Conv", given, *weights, pads=[1] * 4))
    return net.node("Add", given, net.node("Mul", slope, t or net.constant(np.float32(STEP))), to=to)


def step_weights(net: Net) -> tuple[str, str]:
    random = np.random.default_rng(7)
    return (net.constant((random.standard_normal((CHANNELS, CHANNELS, 3, 3)) / 9).astype(np.float32)),
            net.constant(random.standard_normal(CHANNELS).astype(np.float32)))


def head(net: Net, given: str) -> None:
    flat = net.node("Flatten", net.node("GlobalAveragePool", given))
    weight = net.random.standard_normal((CHANNELS, CLASSES)).astype(np.float32)
    net.node("Gemm", flat, net.constant(weight), to="y")


def make(folder: Path, batch: int = 1) -> None:
    """stem, step, timed and head .onnx, and whole.onnx: stem, three steps and head in one file."""
    image, features, scores = (batch, 3, SIDE, SIDE), (batch, CHANNELS, SIDE, SIDE), (batch, CLASSES)
    net = Net(1, "stem")
    stem(net, "x", to="y")
    net.save(folder / "stem.onnx", image, features)
    for name, timed in (("step", False), ("timed", True)):
        net = Net(2, "step", AT_STEP)
        step(net, "x", step_weights(net), to="y", t="t" if timed else "")
        net.save(folder / f"{name}.onnx", features, features, timed)
    net = Net(3, "head", AT_HEAD)
    head(net, "x")
    net.save(folder / "head.onnx", features, scores)
    net = Net(1, "stem")
    at = stem(net, "x")
    weights = step_weights(net)
    for k in range(len(TIMES)):
        net.begin(f"step@{k}", AT_STEP)
        at = step(net, at, weights)
    net.random = np.random.default_rng(3)
    net.begin("head", AT_HEAD)
    head(net, at)
    net.save(folder / "whole.onnx", image, scores)


def bare(path: Path, **inputs: Array) -> Array:
    """The model through a plain session: what everything is held against."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


def chained(folder: Path, x: Array, times: Sequence[float] | None) -> Array:
    """stem, three steps and head by hand; `times` for the step that takes them."""
    at = bare(folder / "stem.onnx", x=x)
    for k in range(len(TIMES)):
        at = bare(folder / "step.onnx", x=at) if times is None else \
            bare(folder / "timed.onnx", x=at, t=np.array([times[k]], np.float32))
    return bare(folder / "head.onnx", x=at)


UNROLLED = (StageFile(name="whole", file="model.onnx"),)
STEPPED = (StageFile(name="stem", file="stages/stem.onnx"),
           StageFile(name="step", file="stages/step.onnx", repeat=len(TIMES)),
           StageFile(name="head", file="stages/head.onnx"))


def operators_of(models: Path) -> tuple[Operator, ...]:
    """Every node of the stages, called as what it does, as the backends list them."""
    found: list[Operator] = []
    for stage in STEPPED:
        for node in onnx.load(models / f"{stage.name}.onnx").graph.node:
            macs = SIDE * SIDE * CHANNELS * 27 if node.op_type == "Conv" else None
            found.append(Operator(index=len(found), name=node.op_type, stage=stage.name, repeat=stage.repeat,
                                  macs=macs))
    return tuple(found)


def artifact(models: Path, build: Path, target: str = "host", *, stepped: bool = True,
             variants: Sequence[Variant] = (), **golden: Array) -> Artifact:
    """The small network deployed `stepped` or unrolled, as an ONNX backend packs it."""
    (build / "golden").mkdir(parents=True)
    (build / "stages").mkdir()
    for name in ("stem", "step", "head"):
        (build / f"stages/{name}.onnx").write_bytes((models / f"{name}.onnx").read_bytes())
    (build / "model.onnx").write_bytes((models / "whole.onnx").read_bytes())
    inputs = np.load(models / "inputs.npy")
    outputs = np.concatenate([chained(models, x[None], None) for x in inputs])
    own = {"inputs": inputs, "outputs": outputs, "raw_outputs": outputs, "expected": outputs, **golden}
    for name, values in own.items():
        np.save(build / f"golden/{name}.npy", values)
    stages = STEPPED if stepped else UNROLLED
    built = Built(files=tuple(str(p.relative_to(build)) for p in sorted(build.rglob("*")) if p.is_file()),
                  stages=stages, operators=operators_of(models), variants=tuple(variants),
                  form="stepped" if stepped else "unrolled")
    return pack(build, build.parent / f"{build.name}-artifact", built, name="small", target=target,
                backend="onnxruntime", precision="f32", dataset=None, input_shape=(3, SIDE, SIDE), history=())
