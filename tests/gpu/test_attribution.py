"""What the time of a network goes to, and the sentence on int8 against half precision."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwkit.gpu import trtexec
from hwkit.gpu.attribution import Attribution, Kind, Layer, chained, of_onnxruntime, of_tensorrt, why_slower
from hwkit.gpu.ort_profile import CPU, NodeCost
from hwkit.gpu.trtexec import LayerInfo, LayerTime, Profile, Times

DATA = Path(__file__).parents[1] / "data" / "trtexec"
CUDA = "CUDAExecutionProvider"
MS = 1e-3


def kind_of(name: str, **info: str) -> Kind:
    profile = Profile(runs=1, layers=(LayerTime(name=name, seconds=1.0),))
    nodes = tuple(part for part in info.pop("nodes", "").split(",") if part)
    infos = [LayerInfo(name=name, nodes=nodes, **info)] if info or nodes else []     # type: ignore[arg-type]
    return of_tensorrt(profile, infos).layers[0].kind


@pytest.mark.parametrize(("name", "kind"), [
    ("Conv_0 + Relu_1", "compute"), ("MaxPool_2", "compute"), ("PWN(Sigmoid_4, Mul_5)", "compute"),
    ("features.0.0.weight + QuantizeLinear_8 + Conv_12 + PWN(Clip_16)", "compute"),
    ("{ForeignNode[/a/Reshape.../MatMul]}", "compute"), ("/block/Transpose/Conv", "compute"),
    ("Reformatting CopyNode for Input Tensor 0 to Conv_0 + Relu_1", "reformat"),
    ("Transpose_3", "reformat"), ("/head/Reshape", "reformat"), ("/a/Transpose + /a/Reshape_1", "reformat"),
    ("Transpose_3 + Conv_4", "compute"), ("(Unnamed Layer* 8) [Shuffle]", "reformat"),
    ("reshape_before_Gemm_12", "reformat"), ("squeeze_after_(Unnamed Layer* 850) [ElementWise]", "reformat"),
    ("__myl_TranReshMove_myl0_3", "reformat"), ("__myl_TranReshMulAdd_myl0_3", "compute"),
    ("QuantizeLinear_98", "quantise"), ("x_DequantizeLinear", "quantise"),
    ("/a/QuantizeLinear + /a/DequantizeLinear", "quantise"),
    ("copied_squeeze_after_(Unnamed Layer* 850) [ElementWise]", "copy"), ("/Conv_output_0 copy", "copy"),
])
def test_a_layer_by_its_name(name: str, kind: Kind) -> None:
    assert kind_of(name) == kind


def test_a_layer_by_what_the_engine_tells() -> None:
    assert kind_of("Conv_0", type="Reformat", origin="REFORMAT") == "reformat"
    assert kind_of("input", type="Reformat", origin="QDQ") == "quantise"
    assert kind_of("7", type="Shuffle") == "reformat"
    assert kind_of("7", type="CaskConvolution") == "compute"
    assert kind_of("q", type="kgen", nodes="a_QuantizeLinear,a_DequantizeLinear") == "quantise"
    assert kind_of("q", type="kgen", nodes="a_QuantizeLinear,/a/Conv") == "compute"


def test_a_real_profile_with_its_layers() -> None:
    """Of NVIDIA's example: sums by hand from the means in the file, in µs."""
    profile = trtexec.profile((DATA / "profile.json").read_bytes(), "profile")
    found = of_tensorrt(profile, trtexec.layers((DATA / "layers.json").read_bytes(), "layers"))
    assert found.quantise_s == pytest.approx((12.2041 + 7.43947) * 1e-6)
    assert found.reformat_s == pytest.approx(6.07141e-6)
    assert found.compute_s == pytest.approx((10.7465 + 8.64475 + 6.10158) * 1e-6)
    assert (found.copy_s, found.fallback_s) == (0.0, 0.0)
    assert found.total_s == pytest.approx(profile.seconds)
    assert [layer.precision for layer in found.layers] == ["int8", "int8", "int8", "", "int8", "", ""]
    assert found.heaviest(1)[0].name == "QuantizeLinear_2"
    assert found.heaviest(1, "compute")[0].name.startswith("features.0.0.weight")
    assert found.text() == "compute 25.5 µs, quantise and dequantise 19.6 µs, reformats 6.07 µs"


def test_a_chain_counts_repeats_and_copies_at_its_ends_alone() -> None:
    times = Times(enqueue_s=(0,) * 3, h2d_s=(1, 2, 9), compute_s=(5,) * 3, d2h_s=(3, 4, 4), latency_s=(9,) * 3,
                  span_s=9)
    profile = Profile(runs=1, layers=(LayerTime(name="Conv_0", seconds=5.0),))
    whole = chained([of_tensorrt(profile, times=times), of_tensorrt(profile, times=times, repeat=10)])
    assert (whole.compute_s, whole.h2d_s, whole.d2h_s, whole.copy_s, whole.total_s) == (55.0, 2.0, 4.0, 6.0, 61.0)


def test_nodes_of_onnx_runtime() -> None:
    def cost(op: str, seconds: float, provider: str = CUDA) -> NodeCost:
        return NodeCost(name=f"the {op}", op=op, provider=provider, seconds=seconds, runs=1)

    found = of_onnxruntime([cost("Conv", 1), cost("TopK", 2, CPU), cost("MemcpyToHost", 4), cost("Transpose", 8),
                            cost("MemcpyFromHost", 16), cost("DequantizeLinear", 32)], CUDA,
                           {"the Conv": "f16", "the TopK": "bf16"}, h2d_s=64, d2h_s=128)
    assert (found.compute_s, found.fallback_s, found.reformat_s, found.quantise_s) == (1, 2, 8, 32)
    assert found.copy_s == 4 + 16 + 64 + 128
    assert [layer.precision for layer in found.layers[:2]] == ["f16", ""]
    assert of_onnxruntime([cost("Conv", 1, CPU)], CPU).fallback_s == 0           # nothing else was asked for


def network(*layers: tuple[str, Kind, float, str], copies: float = 0.0) -> Attribution:
    return Attribution(h2d_s=copies, layers=tuple(
        Layer(name=name, kind=kind, seconds=ms * MS, precision=precision)                  # type: ignore[arg-type]
        for name, kind, ms, precision in layers))


F16 = network(("Conv_0", "compute", 0.6, "f16"), ("Conv_1", "compute", 0.4, "f16"))


def test_int8_that_won() -> None:
    int8 = network(("Conv_0", "compute", 0.3, "int8"), ("Conv_1", "compute", 0.2, "int8"))
    assert why_slower(int8, F16) == "INT8 beat FP16: 500 µs against 1.00 ms, 2.00 times as fast"


def test_int8_that_lost_to_reformats_and_unfused_pairs() -> None:
    int8 = network(("Conv_0", "compute", 0.4, "int8"), ("Conv_1", "compute", 0.3, "int8"),
                   ("Reformatting CopyNode for Input Tensor 0 to Conv_1", "reformat", 0.5, ""),
                   ("QuantizeLinear_7", "quantise", 0.2, "int8"))
    assert why_slower(int8, F16) == (
        "INT8 lost to FP16: 1.40 ms against 1.00 ms, since it spends 500 µs more in reformats (Reformatting "
        "CopyNode for Input Tensor 0 to Conv_1 500 µs); 200 µs more in quantise and dequantise layers that were "
        "not fused (QuantizeLinear_7 200 µs)")


def test_int8_that_lost_to_layers_left_in_float() -> None:
    int8 = network(("Conv_0", "compute", 0.9, "f32"), ("Conv_1", "compute", 0.3, "int8"))
    assert why_slower(int8, F16) == (
        "INT8 lost to FP16: 1.20 ms against 1.00 ms, since it spends 200 µs more in layers that compute, most of "
        "them left in float: 900 µs (Conv_0 900 µs)")


def test_int8_that_lost_to_the_processor_and_to_copies() -> None:
    int8 = network(("Conv_0", "compute", 0.5, "int8"), ("TopK", "fallback", 2.0, ""), copies=1.0 * MS)
    sentence = why_slower(int8, F16)
    assert "2.00 ms more in nodes that fell back to the CPU (TopK 2.00 ms); 1.00 ms more in copies" in sentence


def test_timed_latencies_decide_and_no_difference_is_none() -> None:
    assert why_slower(F16, F16).startswith("INT8 is no faster than FP16: 1.00 ms against 1.00 ms; ")
    faster = network(("Conv_0", "compute", 0.5, "int8"))
    assert why_slower(faster, F16, int8_s=2 * MS, f16_s=1.5 * MS) == (
        "INT8 lost to FP16: 2.00 ms against 1.50 ms; its layers save only 500 µs, and nothing else explains it")
    assert why_slower(F16, faster, int8_s=1 * MS, f16_s=3 * MS).startswith("INT8 beat FP16")


def test_long_names_are_cut() -> None:
    int8 = network(("x" * 500, "reformat", 3.0, ""))
    assert len(why_slower(int8, F16)) < 250
