"""What TensorRT for RTX says of an ONNX file; where it is installed, it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwkit.gpu import rtx
from hwkit.jobs import call

asked = pytest.mark.skipif(not rtx.installed(), reason=f"TensorRT for RTX is not installed: {rtx.INSTALL}")
KNOWN = (75, 80, 86, 89, 120, 121)     # of TensorRT for RTX 1.7.1


@pytest.mark.parametrize(("target", "stand_in"), [
    (53, 80), (62, 80), (72, 80), (75, 75), (78, 80), (86, 86), (87, 86), (90, 89), (110, 89), (121, 121)])
def test_the_nearest_below_stands_in(target: int, stand_in: int) -> None:
    assert rtx.taken(target, KNOWN) == stand_in


def test_not_installed_is_a_note_with_the_command() -> None:
    (found,) = rtx.findings(None)
    assert found.ok is None
    assert 'pip install "hwkit[tensorrt-rtx]"' in found.text


def test_findings_say_what_they_are_worth() -> None:
    check = rtx.Check(asked=87, version="1.7.1.116", built_for=86, files=(
        rtx.FileCheck(file="model.onnx", layers=21, built=True),
        rtx.FileCheck(file="odd.onnx", refused=("n1 (Det): unsupported node", "n2 (Det): unsupported node")),
        rtx.FileCheck(file="odder.onnx", refused=("n3 (Det): unsupported node",)),
        rtx.FileCheck(file="slow.onnx", failed="took longer than 120 s")))
    good, refused, slow = rtx.findings(check.model_dump(mode="json"))
    assert (good.ok, refused.ok, slow.ok) == (True, None, None)      # what it refuses, the board may take
    assert good.text == (
        "TensorRT for RTX 1.7.1.116 on this machine, without a GPU, built for SM86, the nearest below the "
        "target's SM87: model.onnx (21 layers). It says that the file parses and its operators have kernels "
        "there, not what the board's own TensorRT does")
    assert "odd.onnx: n1 (Det): unsupported node; nor did it take odder.onnx. The board's own may" in refused.text
    assert "slow.onnx: took longer than 120 s" in slow.text


def test_broken_libraries_are_a_note() -> None:
    (found,) = rtx.findings(rtx.Check(asked=87, unusable="libcudart.so: no such file").model_dump(mode="json"))
    assert found.ok is None
    assert "libcudart.so" in found.text


@pytest.mark.parametrize(("said", "sentence"), [       # texts of 1.7.1.116
    ("Invalid Node - dq\nITensor::getDimensions: Error Code 4: API Usage Error (dq: input has type Int32 but must "
     "have type Int8, or UInt8. In checkType at /_src/optimizer/common/nodeBase.cpp:456)\n[checkMacros.cpp::x::1] "
     "Error Code 1: Cuda Runtime (In catchCudaError at /_src/common/x.cpp:250 (cudaError 35: CUDA driver))",
     "dq: input has type Int32 but must have type Int8, or UInt8"),
    ("Assertion failed: shiftIsAllZeros(zeroPoint): Non-zero zero point is not supported.",
     "Non-zero zero point is not supported"),
    ("IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: check_turing_op_compatibility] "
     "Cannot compile operation 'Gemm' for Turing (SM75): FP32 GEMM is not supported. In compileGraph at "
     "/_src/x.cpp:2012)", "Cannot compile operation 'Gemm' for Turing (SM75): FP32 GEMM is not supported"),
    ('creator && "Plugin not found, are the plugin name, version, and namespace correct?"',
     "Plugin not found, are the plugin name, version, and namespace correct?"),
    ("", ""),
])
def test_the_sentence_in_an_error(said: str, sentence: str) -> None:
    assert rtx.plain(said) == sentence


class Graph:
    """A small network, node by node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.rng = np.random.default_rng(0)

    def constant(self, value: Any, dtype: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def save(self, path: Path, last: str, opset: int, dims: tuple[Any, ...] = (1, 3, 8, 8)) -> Path:
        self.nodes.append(helper.make_node("Identity", [last], ["y"], name="last"))
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, d) for n, d in (("x", dims), ("y", None)))
        graph = helper.make_graph(self.nodes, "net", [x], [y], self.constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
        return path


def network(path: Path, precision: str, opset: int = 17, bias: str = "float", zero: int = 0) -> Path:
    """Three convolutions that share a weight: float32, float16 between Casts, or int8 QDQ."""
    g = Graph()
    dtype = np.float16 if precision == "f16" else np.float32
    weight = g.rng.standard_normal((3, 3, 3, 3))
    v = g.node("Cast", "x", to=TensorProto.FLOAT16) if precision == "f16" else "x"
    if precision == "int8":
        scales = np.abs(weight).max((1, 2, 3)) / 127
        stored = g.constant(np.round(weight / scales[:, None, None, None]), np.int8)
        zeros = g.constant([0, 0, 0], np.int8)
        w = g.node("DequantizeLinear", stored, g.constant(scales, np.float32), zeros, axis=0)
        step = (g.constant(0.05, np.float32), g.constant(zero, np.int8))
    else:
        w = g.constant(weight, dtype)
    b = g.constant([0.1, 0.2, 0.3], dtype)
    if bias == "int32":
        b = g.node("DequantizeLinear", g.constant([1, 2, 3], np.int32), g.constant(0.1, np.float32))
    for _ in range(3):
        if precision == "int8":
            v = g.node("DequantizeLinear", g.node("QuantizeLinear", v, *step), *step)
        v = g.node("Relu", g.node("Conv", v, w, b, pads=[1, 1, 1, 1]))
    return g.save(path, g.node("Cast", v, to=TensorProto.FLOAT) if precision == "f16" else v, opset)


def one_node(path: Path, operator: str, dims: tuple[Any, ...] = (1, 3, 8, 8)) -> Path:
    g = Graph()
    return g.save(path, g.node(operator, "x"), 17, dims)


def check(*files: Path, sm: int = 87, **more: Any) -> rtx.Check:
    said = call("hwkit.gpu.rtx:job", {"files": [str(f) for f in files], "sm": sm, **more}, what="the check")
    return rtx.Check.model_validate(said)


@asked
def test_forms_of_an_artifact_parse_and_build(tmp_path: Path) -> None:
    files = [network(tmp_path / f"{precision}-{opset}.onnx", precision, opset)
             for precision, opset in (("f32", 13), ("f32", 20), ("f16", 17), ("int8", 13), ("int8", 18))]
    apart = tmp_path / "apart.onnx"
    onnx.save(onnx.load(files[0]), apart, save_as_external_data=True, location="apart.bin", size_threshold=0)
    done = check(*files, apart)
    assert (done.asked, done.built_for) == (87, 86)
    assert [(f.built, f.refused, f.failed) for f in done.files] == [(True, (), "")] * 6
    layers = [f.layers or 0 for f in done.files]
    assert layers[0] == 7                         # three Conv, three Relu, the Identity
    assert layers[2] == layers[0] + 2             # and two Casts
    (found,) = rtx.findings(done.model_dump(mode="json"))
    assert found.ok


@asked
def test_refusals_name_the_node(tmp_path: Path) -> None:
    done = check(network(tmp_path / "bias.onnx", "int8", bias="int32"),
                 network(tmp_path / "zero.onnx", "int8", zero=3),
                 one_node(tmp_path / "det.onnx", "Det"), one_node(tmp_path / "odd.onnx", "Frobnicate"))
    assert all(f.built is None and f.layers is None for f in done.files)
    bias, zero, det, odd = (f.refused[0] for f in done.files)
    assert bias.startswith("DequantizeLinear1 (DequantizeLinear): input has type Int32")
    assert "Non-zero zero point" in zero
    assert det == "Det0 (Det): unsupported node"
    assert odd.startswith("Frobnicate0 (Frobnicate): Plugin not found")


@asked
def test_what_is_no_network_is_no_crash(tmp_path: Path) -> None:
    texts = {"empty": b"", "text": b"hello", "bytes": b"\x08\x08\x12" + b"\xff" * 30}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    done = check(*(tmp_path / name for name in texts), tmp_path / "none")
    assert all(f.refused and not f.built for f in done.files)


@asked
def test_what_parses_and_does_not_build(tmp_path: Path) -> None:
    open_batch = one_node(tmp_path / "open.onnx", "Relu", ("N", 3, 8, 8))
    f32 = network(tmp_path / "f32.onnx", "f32")
    (found,) = check(open_batch).files
    assert found.built is False
    assert "no optimization profile" in found.failed
    (late,) = check(f32, timeout_s=0.001).files
    assert late.failed == "took longer than 0.001 s"
    (above,) = rtx.findings(check(f32, sm=53).model_dump(mode="json"))
    assert "built for SM80, in place of the target's SM53" in above.text
