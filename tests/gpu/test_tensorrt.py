"""What each TensorRT reads, on graphs made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwkit.errors import BadInput
from hwkit.gpu import tensorrt
from hwkit.gpu.tensorrt import reads


def model(nodes: Sequence[Any], opset: int = 13, **constants: Any) -> Any:
    """A model of these nodes, its input named x and its output y."""
    tensors = [value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value), name)
               for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8))],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def node(op: str, inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",), **rest: Any) -> Any:
    return helper.make_node(op, list(inputs), list(outputs), name=f"the_{op.lower()}", **rest)


@pytest.mark.parametrize(("version", "opset"), [
    ("8.2", 13), ("8.2.1.9", 13), ("8.5.2", 17), ("8.6.2.3", 17), ("10.3.0", 20), ("10.6", 22), ("10.15.1", 24),
    ("11.0", 25), ("11.2", 25),
])
def test_newest_opset(version: str, opset: int) -> None:
    assert reads(version).opset == opset
    assert reads(version).note == ""


@pytest.mark.parametrize(("version", "taken", "words"), [
    ("10.7.0", "10.6", "taken from 10.6, the nearest below it"),
    ("10.16.2", "10.15", "taken from 10.15, the nearest below it"),
    ("12.0", "11.0", "taken from 11.0, the nearest below it"),
    ("9.3", "8.6", "taken from 8.6, the nearest below it"),
    ("8.0.1", "8.2", "taken from 8.2, the oldest that is"),
])
def test_a_version_that_is_not_listed_is_taken_as_another_and_that_is_said(version: str, taken: str,
                                                                           words: str) -> None:
    found = reads(version)
    assert found.release == taken
    assert found.note == f"what TensorRT {version} reads is not listed here: {words}"


def test_a_version_that_is_none() -> None:
    with pytest.raises(BadInput, match="'newest' is no version of TensorRT"):
        reads("newest")


# Rows of docs/operators.md that say N, at the commits that tensorrt.toml names.
NOT_READ = {
    "8.2": (
        "BitShift Compress ConcatFromSequence ConvInteger Det DynamicQuantizeLinear Hardmax IsInf MatMulInteger "
        "MaxRoiPool MaxUnpool MeanVarianceNormalization Mod Multinomial NegativeLogLikelihoodLoss NonZero OneHot "
        "QLinearConv QLinearMatMul RandomNormal RandomNormalLike Reciprocal RoiAlign SequenceAt SequenceConstruct "
        "SequenceEmpty SequenceErase SequenceInsert SequenceLength Shrink SoftmaxCrossEntropyLoss SplitToSequence "
        "StringNormalizer TfIdfVectorizer Unique Xor"
    ),
    "8.5": (
        "Bernoulli BitShift BlackmanWindow Compress ConcatFromSequence ConvInteger DFT Det DynamicQuantizeLinear "
        "HammingWindow HannWindow Hardmax IsInf LayerNormalization MatMulInteger MaxRoiPool MaxUnpool "
        "MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement OptionalHasElement "
        "QLinearConv QLinearMatMul STFT SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert "
        "SequenceLength SequenceMap SoftmaxCrossEntropyLoss SplitToSequence StringNormalizer TfIdfVectorizer "
        "Unique"
    ),
    "10.6": (
        "AffineGrid Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Col2Im CenterCropPad Compress "
        "ConcatFromSequence ConvInteger DFT Det DynamicQuantizeLinear ImageDecoder MatMulInteger MaxRoiPool "
        "MaxUnpool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement "
        "OptionalHasElement QLinearConv QLinearMatMul RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty "
        "SequenceErase SequenceInsert SequenceLength SequenceMap SoftmaxCrossEntropyLoss SplitToSequence "
        "StringConcat StringNormalizer StringSplit TfIdfVectorizer Unique"
    ),
}
NOT_READ["10.15"] = NOT_READ["10.6"]
UNLISTED = {"8.5": {"CastLike"}, "10.15": {"Swish"}}                   # neither Y nor N there
DROPPED = {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}          # experimental ones that ONNX has no more


@pytest.mark.parametrize("version", NOT_READ)
def test_read_and_not_read_are_together_what_onnx_has_up_to_that_opset(version: str) -> None:
    since: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            since[schema.name] = min(since.get(schema.name, schema.since_version), schema.since_version)
    found, not_read = reads(version), set(NOT_READ[version].split())
    assert found.operators & not_read == set()
    standard = {name for name, opset in since.items() if opset <= found.opset}
    assert (found.operators - DROPPED) | not_read | UNLISTED.get(version, set()) == standard


def test_no_operator_is_added_twice_and_restrictions_are_of_known_ones() -> None:
    table = tensorrt._table()
    listed = [op for r in table.releases for op in r.adds.split()]
    assert len(listed) == len(set(listed))
    assert {op for r in table.restrictions for op in r.operators} <= set(listed)


def test_a_plain_network_is_read_by_all() -> None:
    plain = model([node("Conv", ("x", "w"), ("a",)), node("Relu", ("a",), ("b",)), node("Add", ("b", "w"))],
                  w=np.ones((1, 1, 3, 3), np.float32))
    for release in tensorrt._table().releases:
        assert reads(release.version).refusals(plain) == []


def test_an_opset_that_is_too_new() -> None:
    new = model([node("Relu")], opset=18)
    assert reads("8.5.2").refusals(new) == [
        "opset 18 is newer than the 17 that TensorRT 8.5.2 reads: export it with opset 17"]
    assert reads("10.3").refusals(new) == []


def test_an_operator_that_is_not_read_says_which_does() -> None:
    assert reads("8.2.1").refusals(model([node("HardSwish")])) == [
        "node 'the_hardswish' (HardSwish): TensorRT 8.2.1 does not read this operator (8.5 does): "
        "write it with other operators, or use ONNX Runtime"]
    assert reads("11.0").refusals(model([node("Unique")])) == [
        "node 'the_unique' (Unique): TensorRT 11.0 does not read this operator: write it with other operators, or "
        "use ONNX Runtime"]
    assert reads("10.3").refusals(model([node("MatMulInteger", ("x", "x"))])) == [
        "node 'the_matmulinteger' (MatMulInteger): TensorRT 10.3 does not read this operator: put QuantizeLinear "
        "and DequantizeLinear around the float operator"]


def test_operators_of_another_domain_need_a_plugin() -> None:
    (line,) = reads("10.3").refusals(model([node("FastGelu", domain="com.microsoft")]))
    assert "no operator of the domain 'com.microsoft'" in line
    assert "bring a plugin" in line


def test_a_node_without_a_name_is_called_by_its_output() -> None:
    unnamed = helper.make_node("Unique", ["x"], ["y"])
    assert reads("10.3").refusals(model([unnamed]))[0].startswith("node 'y' (Unique): ")


def pair(zero: Any) -> list[Any]:
    return [node("QuantizeLinear", ("x", "s", "z"), ("q",)), node("DequantizeLinear", ("q", "s", "z"))]


@pytest.mark.parametrize("version", [r.version for r in tensorrt._table().releases])
def test_quantised_pairs_are_symmetric_int8(version: str) -> None:
    scale = np.float32(0.1)
    assert reads(version).refusals(model(pair("z"), s=scale, z=np.int8(0))) == []
    shifted = reads(version).refusals(model(pair("z"), s=scale, z=np.int8(3)))
    assert [line.split(":")[1].strip()[:30] for line in shifted] == ["its zero point must be 0 in Te"] * 2
    unsigned = reads(version).refusals(model(pair("z"), s=scale, z=np.uint8(0)))
    assert len(unsigned) == 1
    assert "(DequantizeLinear): it takes int8" in unsigned[0]
    assert "quantise to int8, and leave biases in float" in unsigned[0]


def test_an_integer_bias_is_refused() -> None:
    """As ONNX Runtime's quantiser writes it unless told otherwise."""
    bias = [node("DequantizeLinear", ("bias", "s"), ("b",)), node("Add", ("x", "b"))]
    (line,) = reads("10.3").refusals(model(bias, bias=np.zeros(8, np.int32), s=np.float32(0.1)))
    assert "it takes int8, float8 and int4 alone in TensorRT 10.3" in line
    assert reads("10.3").refusals(model(bias, bias=np.zeros(8, np.int8), s=np.float32(0.1))) == []


def test_without_a_zero_point_the_type_is_unsigned() -> None:
    bare = [node("QuantizeLinear", ("x", "s"), ("q",)), node("DequantizeLinear", ("q", "s"))]
    assert "it takes int8" in reads("8.5").refusals(model(bare, s=np.float32(0.1)))[0]


def test_a_zero_point_that_is_not_in_the_file_is_not_held_against_it() -> None:
    outside = numpy_helper.from_array(np.int8(0), "z")
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="weights.bin")
    assert reads("10.3").refusals(model(pair("z"), s=np.float32(0.1), z=outside)) == []


def test_weights_of_a_convolution_are_constants_for_the_oldest_also_through_pairs() -> None:
    kernel = np.ones((1, 1, 1, 1), np.int8)
    quantised = [node("DequantizeLinear", ("w", "s"), ("f",)), node("Conv", ("x", "f"))]
    assert reads("8.2").refusals(model(quantised, w=kernel, s=np.float32(1))) == []
    computed = [node("Relu", ("x",), ("f",)), node("Conv", ("x", "f"))]
    assert "its weights must be constants in TensorRT 8.2" in reads("8.2").refusals(model(computed))[0]
    assert reads("8.5").refusals(model(computed)) == []


@pytest.mark.parametrize(("nodes", "version", "words"), [
    ([node("MaxPool", outputs=("y", "i"), kernel_shape=[2, 2])], "8.2", "its output Indices is not supported"),
    ([node("MaxPool", kernel_shape=[2, 2])], "8.2", None),
    ([node("AveragePool", kernel_shape=[2, 2], dilations=[2, 2])], "10.3", "it must not be dilated"),
    ([node("AveragePool", kernel_shape=[2, 2], dilations=[1, 1])], "10.3", None),
    ([node("Resize", mode="cubic")], "10.3", "it knows the modes nearest and linear"),
    ([node("Resize", mode="linear")], "10.3", None),
    ([node("Resize", coordinate_transformation_mode="tf_crop_and_resize")], "8.5", "does not know this"),
    ([node("Unsqueeze", ("x", "a"))], "10.3", "its axes must be constants"),
    ([node("Unsqueeze", ("x", "a"))], "10.15", None),
    ([helper.make_node("Constant", [], ["a"], value=numpy_helper.from_array(np.array([0])), name="c"),
      node("Unsqueeze", ("x", "a"))], "10.3", None),
    ([node("TopK", ("x", "k"))], "8.5", "its K must be a constant"),
    ([node("TopK", ("x", "k"), sorted=0)], "10.3", "it must be sorted"),
])
def test_restrictions(nodes: list[Any], version: str, words: str | None) -> None:
    found = reads(version).refusals(model(nodes))
    if words is None:
        assert found == []
    else:
        (line,) = found
        assert words in line
        assert f"in TensorRT {version}: " in line


def test_bodies_of_loops_are_looked_into() -> None:
    body = helper.make_graph([helper.make_node("Unique", ["x"], ["u"], name="inside")], "body", [], [])
    assert "node 'inside' (Unique)" in reads("10.3").refusals(model([node("Loop", ("n", "c"), body=body)]))[0]
