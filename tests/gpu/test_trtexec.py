"""trtexec: the command lines of each version, and what can be read in what it writes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwkit.errors import BadInput, BoardError
from hwkit.gpu import trtexec
from hwkit.gpu.trtexec import FAMILIES, MIB, PRECISIONS, build_words, family, output_words, profile_words
from hwkit.gpu.trtexec import time_words as timing_words

DATA = Path(__file__).parents[1] / "data" / "trtexec"
PARSERS: dict[str, Callable[[str | bytes, str], object]] = {
    "times.json": trtexec.times, "profile.json": trtexec.profile, "layers.json": trtexec.layers,
    "layers-10.json": trtexec.layers, "layers-names.json": trtexec.layers, "output.json": trtexec.outputs}


def read(name: str) -> str:
    return (DATA / name).read_text()


@pytest.mark.parametrize(("version", "name"), [
    ("8.2.1", "8.2"), ("8.4.0", "8.4"), ("8.5.2", "8.4"), ("8.6.2", "8.6"), ("10.3.0", "10"), ("10.16.1", "10"),
    ("11.0.0", "11"), ("12.1.0", "11")])
def test_a_version_belongs_to_a_family(version: str, name: str) -> None:
    assert family(version).name == name


@pytest.mark.parametrize("version", ["8.0.1", "7.1.3", "", "10", "ten.three", "1.2.3.4.5"])
def test_what_is_too_old_or_no_version_is_refused(version: str) -> None:
    with pytest.raises(BadInput) as caught:
        family(version)
    assert "\n" not in caught.value.line()


def test_options_of_each_version() -> None:
    """As samples/common/sampleOptions.cpp of each release has them."""
    def flags(version: str, precision: trtexec.Precision) -> set[str]:
        return {word.split("=")[0] for word in build_words(family(version), precision)[4:]}

    common = {"--profilingVerbosity"}
    assert flags("8.2.1", "f32") == common | {"--buildOnly", "--workspace"}
    assert flags("8.5.2", "f16") == common | {"--buildOnly", "--memPoolSize", "--fp16"}
    assert flags("8.6.1", "int8") == common | {"--skipInference", "--memPoolSize", "--int8", "--fp16"}
    assert flags("10.3.0", "f16") == common | {"--skipInference", "--memPoolSize", "--stronglyTyped"}
    assert flags("10.3.0", "int8") == common | {"--skipInference", "--memPoolSize", "--int8", "--fp16"}
    for precision in PRECISIONS:             # strongly typed: the file says it all
        assert flags("11.0.0", precision) == common | {"--skipInference", "--memPoolSize"}


def test_copies_are_timed_in_every_version() -> None:
    for one in FAMILIES:
        for words in (timing_words(one), profile_words(one), output_words(one)):
            assert "--noDataTransfers" not in words
            assert ("--includeDataTransfers" in words) == (one.name == "11")
        assert "--exportProfile={profile}" not in timing_words(one)     # profiling is a run of its own
        assert "--useCudaGraph" not in profile_words(one)


@pytest.mark.parametrize(("text", "version"), [
    ("&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec", "8.2.1"),
    ("[TensorRT v8601]", "8.6.1"), ("[TensorRT v8412]", "8.4.12"), ("[TensorRT v9100]", "9.1.0"),
    ("[TensorRT v100001]", "10.0.1"), ("[TensorRT v100300] [b33]", "10.3.0"), ("[TensorRT v101601]", "10.16.1"),
    ("[TensorRT v110100] [b106]", "11.1.0"), ("[I] TensorRT version: 8.6.2\n", "8.6.2"),
    ("TensorRT.trtexec # trtexec", ""), ("", "")])
def test_versions_in_banners(text: str, version: str) -> None:
    assert trtexec.version(text) == version


def test_a_build_log() -> None:
    told = trtexec.log(read("build-8.6.log"))
    assert told.version == "8.6.2"
    assert told.device == trtexec.Device(name="Orin", sm="8.7", multiprocessors=8, memory_bytes=7620 * MIB)
    assert (told.passed, told.build_s, told.engine_bytes) == (True, 89.5, 3 * MIB)
    assert (told.managed_bytes, told.context_bytes, told.queries, told.errors) == (None, None, None, ())


def test_a_timing_log() -> None:
    told = trtexec.log(read("time-10.3.log"))
    assert told.version == "10.3.0"
    assert told.device is not None
    assert (told.device.name, told.device.multiprocessors) == ("Orin", 16)
    assert (told.queries, told.engine_bytes, told.managed_bytes) == (2077, 4 * MIB, 11 * MIB)
    assert told.context_bytes == pytest.approx(7.84766 * MIB, rel=1e-6)


def test_a_failed_log() -> None:
    told = trtexec.log(read("failed-11.1.log"))
    assert (told.version, told.passed, told.device) == ("11.1.0", False, None)
    assert told.errors == ("Unknown option: --fp16", "ModelImporter.cpp:914: ERROR: no such operator")


@given(st.text(max_size=400))
def test_no_log_raises(text: str) -> None:
    trtexec.log(text)
    trtexec.log(read("time-10.3.log").replace("7620", text).replace("10.3", text))


def test_times_in_seconds() -> None:
    times = trtexec.times(read("times.json"), "times")
    assert times.compute_s == pytest.approx((0.873472e-3, 0.8448e-3, 0.843776e-3, 0.843776e-3))
    assert times.latency_s == times.compute_s
    assert times.h2d_s == times.d2h_s == (0.0, 0.0, 0.0, 0.0)
    assert times.enqueue_s[0] == pytest.approx(0.03389e-3)
    assert times.span_s == pytest.approx(3.41709e-3)          # 5.9945 - 2.57741


def test_rows_of_the_warm_up_are_left_out() -> None:
    assert len(trtexec.times(read("times.json"), "times", warmup_ms=4.0).compute_s) == 2
    with pytest.raises(BoardError, match="no inference was timed"):
        trtexec.times(read("times.json"), "times", warmup_ms=100.0)


def test_columns_of_other_versions_are_passed_over() -> None:
    rows = json.loads(read("times.json"))
    assert trtexec.times(json.dumps([{**row, "endToEndMs": 1.5, "more": {}} for row in rows]), "times") == \
        trtexec.times(read("times.json"), "times")


@pytest.mark.parametrize("change", [
    {"computeMs": None}, {"computeMs": "0.8"}, {"computeMs": -1}, {"d2hMs": float("nan")}, {"h2dMs": float("inf")},
    {"latencyMs": True}, {"latencyMs": 10 ** 400}])
def test_a_row_that_is_no_timing_is_refused(change: dict[str, Any]) -> None:
    rows = json.loads(read("times.json"))
    with pytest.raises(BoardError):
        trtexec.times(json.dumps([*rows, {**rows[0], **change}]), "times")


def test_a_profile() -> None:
    profile = trtexec.profile(read("profile.json"), "profile")
    assert profile.runs == 4216
    assert [layer.name for layer in profile.layers][:2] == [
        "QuantizeLinear_2", "features.0.0.weight + QuantizeLinear_8 + Conv_12 + PWN(Clip_16)"]
    assert profile.layers[0].seconds == pytest.approx(12.2041e-6)
    assert profile.seconds == pytest.approx(51.20781e-6, rel=1e-6)         # summed by hand


def test_a_profile_gives_the_median_where_it_is_told() -> None:
    text = '[{"count" : 2}, {"name" : "a", "timeMs" : 6, "averageMs" : 3, "medianMs" : 2, "percentage" : -nan}]'
    assert trtexec.profile(text, "profile").layers[0].seconds == pytest.approx(2e-3)


def test_detailed_layers() -> None:
    layers = {layer.name: layer for layer in trtexec.layers(read("layers.json"), "layers")}
    quantise, conv, mixed = (layers[name] for name in (
        "QuantizeLinear_2", "features.0.0.weight + QuantizeLinear_8 + Conv_12 + PWN(Clip_16)",
        "features.2.conv.2.weight + QuantizeLinear_90 + Conv_94"))
    assert (quantise.type, quantise.origin, quantise.precision) == ("Reformat", "QDQ", "int8")
    assert (conv.type, conv.precision, conv.output) == ("CaskConvolution", "int8", "int8")
    assert (mixed.precision, mixed.output) == ("int8", "f16")


def test_layers_of_a_newer_version() -> None:
    conv, moved, quantised = trtexec.layers(read("layers-10.json"), "layers")
    assert (conv.precision, conv.nodes) == ("f16", ("/stem/Conv", "/stem/Relu"))
    assert (moved.precision, moved.nodes) == ("f32", ("/Transpose", "/Reshape"))
    assert quantised.precision == ""


def test_layers_by_name_alone() -> None:
    layers = trtexec.layers(read("layers-names.json"), "layers")
    assert len(layers) == 3
    assert layers[0] == trtexec.LayerInfo(name="QuantizeLinear_2")


def test_an_output() -> None:
    y = trtexec.outputs(read("output.json"), "output")["y"]
    assert y.shape == (2, 3)
    assert y.values[:3] == (0.125, -1.0, 3.40282e38)
    assert math.isnan(y.values[3])
    assert y.values[4] == -math.inf


@pytest.mark.parametrize(("name", "text"), [
    ("times.json", "[]"), ("times.json", "{}"), ("times.json", "[1]"), ("times.json", ""), ("times.json", b"\xff"),
    ("profile.json", '[{"count": 3}]'), ("profile.json", '[{"name": "a", "averageMs": 1}]'),
    ("profile.json", '[{"count": 3}, {"name": "a"}]'), ("layers.json", '{"Layers": []}'), ("layers.json", "[]"),
    ("layers.json", '{"Layers": [{"LayerType": "Conv"}]}'), ("layers.json", '{"Layers": [3]}'),
    ("output.json", '[{"name": "y", "dimensions": "2", "values": [1]}]'),
    ("output.json", '[{"name": "y", "dimensions": "1", "values": ["1"]}]'), ("output.json", "[]"),
    ("output.json", "[" * 100_000)])
def test_what_is_no_such_file_is_one_line(name: str, text: str | bytes) -> None:
    with pytest.raises(BoardError) as caught:
        PARSERS[name](text, "engine.json")
    assert caught.value.line().startswith("engine.json: ")
    assert caught.value.hint


@given(st.sampled_from(sorted(PARSERS)), st.data())
def test_a_file_that_is_cut_off_is_never_taken_for_a_whole_one(name: str, data: st.DataObject) -> None:
    text = read(name).rstrip()
    with pytest.raises(BoardError):
        PARSERS[name](text[:data.draw(st.integers(0, len(text) - 1))], name)


def read_or_refused(name: str, text: str | bytes) -> None:
    """Nothing but a BoardError of one line may come out."""
    refused = ""
    try:
        PARSERS[name](text, name)
    except BoardError as e:
        refused = e.line()
    assert "\n" not in refused


@given(st.sampled_from(sorted(PARSERS)), st.data())
def test_a_damaged_file_is_read_or_refused(name: str, data: st.DataObject) -> None:
    text = bytearray(read(name).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at:at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    read_or_refused(name, bytes(text))


TEXT = st.text(max_size=8)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
                    max_leaves=8)


@given(st.sampled_from(sorted(PARSERS)), st.data(), JSON)
def test_a_value_of_another_type_is_read_or_refused(name: str, data: st.DataObject, value: object) -> None:
    whole: Any = json.loads(read(name).replace("-nan", "NaN").replace("nan", "NaN").replace("-inf", "-Infinity"))
    at: Any = whole
    for _ in range(data.draw(st.integers(0, 4))):
        keys = list(at) if isinstance(at, dict) else list(range(len(at))) if isinstance(at, list) else []
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.booleans()):
            at[key] = value
            break
        at = at[key]
    read_or_refused(name, json.dumps(whole))
