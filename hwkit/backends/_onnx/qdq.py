"""int8: QuantizeLinear and DequantizeLinear around what is to be quantised, placed for who reads them.

onnxruntime's quantiser places and calibrates them. For a GPU it is told what TensorRT needs: zero points of 0, no
int32 bias (its parser refuses one), pairs in front of Conv, Gemm and MatMul and nowhere else. A pair behind a
convolution would stand between it and its activation, which are fused otherwise; pairs at every addition keep an
unrolled ODE from compiling. onnxruntime's CPU kernels are integer only between two pairs, so that for a CPU every
operator has them: EfficientNet-Lite0 takes 0.46 of its float time so, and 2.8 times it placed for TensorRT.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from hwkit.backends._onnx.operators import values
from hwkit.backends._onnx.tidy import shortened
from hwkit.errors import BadModel

QUANTISED = ("Conv", "Gemm", "MatMul")
ON_A_CPU = (*QUANTISED, "Add", "Relu", "Clip", "GlobalAveragePool", "AveragePool", "MaxPool", "Reshape", "Flatten",
            "Transpose", "Concat")
# "gpu": weights stored as int8; "gpu, float weights": with a QuantizeLinear of their own, which TensorRT 8 needs.
Placement = Literal["gpu", "gpu, float weights", "cpu"]
Given = Mapping[str, NDArray[Any]]


class _Reader(CalibrationDataReader):    # type: ignore[misc]
    def __init__(self, given: Sequence[Given]) -> None:
        self.left: Iterator[Given] = iter(given)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        one = next(self.left, None)
        return None if one is None else dict(one)


def quantized(model: ModelProto, stage: str, calibration: Sequence[Given], placement: Placement) -> ModelProto:
    """The float32 `model` of a stage with int8 Conv, Gemm and MatMul; for a CPU all that have integer kernels.

    Ranges are the least and greatest that each value reaches over `calibration`. Nodes keep their names. Raises
    BadModel when the quantiser cannot.
    """
    # a ReLU whose work the next range does would be dropped, and go with the last range (_float_output)
    options: dict[str, Any] = {"QDQKeepRemovableActivations": True}
    if placement != "cpu":
        options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False,
                   "AddQDQPairToWeight": placement == "gpu, float weights",
                   "OpTypesToExcludeOutputQuantization": list(QUANTISED)}
    with tempfile.TemporaryDirectory(prefix="hwkit-qdq-") as scratch:
        source, result = Path(scratch) / "float.onnx", Path(scratch) / "int8.onnx"
        source.write_bytes(model.SerializeToString())
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)          # the quantiser advises to run its de-sharing pre-processing
        try:
            quantize_static(str(source), str(result), _Reader(calibration), quant_format=QuantFormat.QDQ,
                            op_types_to_quantize=list(ON_A_CPU if placement == "cpu" else QUANTISED),
                            nodes_to_exclude=_uneven(model),
                            activation_type=QuantType.QUInt8 if placement == "cpu" else QuantType.QInt8,
                            weight_type=QuantType.QInt8, per_channel=True, extra_options=options)
        except Exception as e:   # the quantiser raises ValueError, KeyError, RuntimeError ...
            raise BadModel(f"int8 ranges cannot be chosen: {' '.join(str(e).split()):.250}",
                           "choose precision=f16") from None
        finally:
            root.setLevel(level)
        made = onnx.load(str(result))
    if placement == "cpu":
        _float_output(made)
    else:
        _only_in_front_of_products(made)
    return shortened(made, stage)


def _uneven(model: ModelProto) -> list[str]:
    """Additions of something small (a bias, the time): no integer kernel takes what becomes of their scales."""
    known = values(model)
    return [n.name for n in model.graph.node if n.op_type == "Add"
            and len({known[name].shape if name in known else None for name in n.input}) > 1]


def _float_output(model: ModelProto) -> None:
    """The last pair goes: the next stage's first one stands where it stood, and two in a row round twice."""
    graph = model.graph
    made_by = {n.output[0]: n for n in graph.node}
    last = made_by[graph.output[0].name]
    if last.op_type != "DequantizeLinear":
        return
    first = made_by[last.input[0]]
    made_by[first.input[0]].output[0] = last.output[0]
    graph.node.remove(last)
    graph.node.remove(first)


def _only_in_front_of_products(model: ModelProto) -> None:
    """Nodes that stay float read the float value: the quantiser gives every reader of a value the rounded one.

    In an ODE block that would round the state itself once a step, on its way around f.
    """
    whole = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    rounded = {n.output[0]: whole[n.input[0]] for n in model.graph.node
               if n.op_type == "DequantizeLinear" and n.input[0] in whole}
    for node in model.graph.node:
        if node.op_type not in (*QUANTISED, "QuantizeLinear", "DequantizeLinear"):
            for k, name in enumerate(node.input):
                node.input[k] = rounded.get(name, name)


def quantised_nodes(model: ModelProto) -> list[str]:
    """Names of the nodes of a quantised model that compute in int8."""
    real = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return [node.name for node in model.graph.node if node.op_type in QUANTISED and set(node.input) & real]


def restored(model: ModelProto, original: ModelProto, stage: str, names: Sequence[str]) -> ModelProto:
    """`model` with the nodes of those names as they are in the float `original`."""
    wanted = set(names)
    floats = {node.name: node for node in original.graph.node if node.name in wanted}
    copy = ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.name in floats:
            node.CopyFrom(floats[node.name])
    have = {t.name for t in copy.graph.initializer} | {name for node in copy.graph.node for name in node.output}
    read = {name for node in copy.graph.node for name in node.input}
    copy.graph.initializer.extend(t for t in original.graph.initializer if t.name in read - have)
    return shortened(copy, stage)


