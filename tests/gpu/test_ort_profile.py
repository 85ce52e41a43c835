"""Profiles of real runs, and what no run here can show written by hand as onnxruntime writes it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from hwkit.errors import BoardError
from hwkit.gpu import ort_profile
from hwkit.gpu.ort_profile import GraphNode, Origins, Profile, fallen_back, parse
from tests.runners.small_onnx import Net

RUNS, SKIPPED = 12, 2
SIDE = 96


def profiled(path: Path, x: np.ndarray[Any, Any]) -> str:
    """The profile of RUNS + SKIPPED runs of a model."""
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.intra_op_num_threads = 1
    options.profile_file_prefix = str(path.with_suffix(""))
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for _ in range(RUNS + SKIPPED):
        session.run(None, {"x": x})
    return Path(session.end_profiling()).read_text()


@pytest.fixture(scope="module")
def convs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions with what follows them, on an image of SIDE."""
    path = tmp_path_factory.mktemp("profile") / "convs.onnx"
    net = Net(1)
    at = net.node("Relu", net.conv("x", 3, 16))
    net.node("Add", at, net.conv(at, 16, 16), to="y")
    net.save(path, (1, 3, SIDE, SIDE), (1, 16, SIDE, SIDE))
    return path


@pytest.fixture(scope="module")
def text(convs: Path) -> str:
    return profiled(convs, np.ones((1, 3, SIDE, SIDE), np.float32))


@pytest.fixture(scope="module")
def profile(text: str) -> Profile:
    return parse(text, "convs.onnx", skip=SKIPPED)


def test_nodes_of_a_real_run_sum_to_the_run(profile: Profile) -> None:
    assert len(profile.runs) == RUNS
    assert len(profile.steady()) == RUNS // 2
    total = sum(c.seconds for c in profile.costs())
    assert 0.5 < total / profile.run_s < 1.1


def test_what_a_row_tells(profile: Profile) -> None:
    costs = profile.costs()
    convolutions = [c for c in costs if c.op == "Conv"]
    assert len(convolutions) == 2
    for c in convolutions:
        assert c.provider == "CPUExecutionProvider"
        assert c.runs == RUNS // 2
        assert c.shape == (1, 16, SIDE, SIDE)
        assert c.seconds > 1e-5             # millions of multiplications
    assert fallen_back(costs, "CPUExecutionProvider") == ()
    assert fallen_back(costs, "CUDAExecutionProvider") == costs


def test_changed_and_fused_nodes_are_traced_to_the_file(convs: Path, profile: Profile) -> None:
    graph = ort_profile.graph_nodes(convs)
    origins = Origins(graph)
    assert [n.op for n in graph] == ["Conv", "Relu", "Conv", "Add"]
    found = {c.name: origins.of(c.name, c.op) for c in profile.costs()}
    assert {n for n in found.values() if n and "Conv" in n} == {"net/Conv0", "net/Conv2"}
    for cost in profile.costs():            # what the runtime put in has no origin
        if cost.op in ("ReorderInput", "ReorderOutput"):
            assert found[cost.name] is None


def test_names_that_onnxruntime_makes() -> None:
    graph = [GraphNode("net/Conv0", "Conv", ("x", "w"), ("net.0",)),
             GraphNode("net/Relu1", "Relu", ("net.0",), ("net.1",)),
             GraphNode("net/Conv2", "Conv", ("net.1", "v"), ("y",))]
    origins = Origins(graph)
    assert origins.of("net/Conv2", "Conv") == "net/Conv2"
    assert origins.of("net/Conv2_token_13", "QLinearConv") == "net/Conv2"
    assert origins.of("fused net/Conv0", "FusedConv") == "net/Conv0"
    assert origins.of("net.1_nchwc", "Conv") == "net/Conv0"        # named after the fused Relu's tensor
    assert origins.of("net.1_nchwc_token_4", "Conv") == "net/Conv0"
    assert origins.of("net/Relu1_2", "Relu") == "net/Relu1"
    assert origins.of("Memcpy_token_7", "MemcpyToHost") is None
    assert origins.of("ReorderOutput", "ReorderOutput") is None
    assert origins.of("", "Conv") is None


def looped(path: Path) -> None:
    """y = x convolved eight times, in a Loop."""
    net = Net(5)
    inner = Net(6, "body")
    inner.node("Identity", "go", to="go_on")
    inner.conv("at", 16, 16, to="next")
    body = helper.make_graph(
        inner.nodes, "body", [helper.make_tensor_value_info("k", TensorProto.INT64, []),
                              helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                              helper.make_tensor_value_info("at", TensorProto.FLOAT, [1, 16, SIDE, SIDE])],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("next", TensorProto.FLOAT, [1, 16, SIDE, SIDE])], inner.weights)
    net.node("Loop", net.constant(np.int64(8)), net.constant(np.bool_(True)), "x", to="y", body=body)
    net.save(path, (1, 16, SIDE, SIDE), (1, 16, SIDE, SIDE))


def test_a_loop_and_its_body_are_not_counted_twice(tmp_path: Path) -> None:
    looped(tmp_path / "loop.onnx")
    found = parse(profiled(tmp_path / "loop.onnx", np.ones((1, 16, SIDE, SIDE), np.float32)), "loop", SKIPPED)
    costs = {c.op: c for c in found.costs()}
    assert sum(c.seconds for c in found.costs()) <= 1.1 * found.run_s
    assert costs["Conv"].seconds > costs["Loop"].seconds            # the body's time is the body's
    assert costs["Conv"].seconds > 0.5 * found.run_s
    assert [n.op for n in ort_profile.graph_nodes(tmp_path / "loop.onnx")] == ["Loop", "Identity", "Conv"]


def event(category: str, name: str, ts: float, dur: float, **args: Any) -> dict[str, Any]:
    return {"cat": category, "pid": 1, "tid": 1, "dur": dur, "ts": ts, "ph": "X", "name": name, "args": args}


GPU, HOST = "CUDAExecutionProvider", "CPUExecutionProvider"
BY_HAND = [
    event("Session", "model_loading_uri", 0, 900),
    event("Session", "model_run", 1000, 100),
    event("Node", "a_fence_before", 1001, 1, op_name="Conv"),
    event("Node", "a_kernel_time", 1002, 30, op_name="Conv", provider=GPU, output_type_shape=[{"float": [1, 4]}]),
    event("Kernel", "implicit_gemm", 1003, 50, op_name="Conv"),
    event("Kernel", "add_bias", 1004, 10, op_name="Conv"),
    event("Node", "b_kernel_time", 1040, 20, op_name="TopK", provider=HOST),
    event("Session", "model_run", 2000, 300),
    event("Node", "a_kernel_time", 2002, 30, op_name="Conv", provider=GPU),
    event("Kernel", "implicit_gemm", 2003, 70, op_name="Conv"),
]


def test_time_on_the_gpu_is_that_of_the_kernels() -> None:
    found = parse(json.dumps(BY_HAND), "by hand")
    assert found.has_kernels
    assert [r.duration_s for r in found.runs] == pytest.approx([1e-4, 3e-4])
    costs = {c.name: c for c in found.costs()}
    assert costs["a"].seconds == pytest.approx((60e-6 + 70e-6) / 2)
    assert (costs["a"].shape, costs["a"].runs) == ((1, 4), 2)
    assert costs["b"].seconds == pytest.approx(20e-6 / 2)            # in one run of two
    assert [c.name for c in fallen_back(found.costs(), GPU)] == ["b"]


def test_keys_that_another_version_lacks_are_not_needed() -> None:
    bare = [{k: v for k, v in e.items() if k != "args"} for e in BY_HAND]
    costs = parse(json.dumps(bare), "bare").costs()
    assert {(c.name, c.op, c.provider) for c in costs} == {("a", "", ""), ("b", "", "")}


@pytest.mark.parametrize("cut", [0, 1, 100, -3])
def test_a_file_that_was_cut_off_is_one_line(text: str, cut: int) -> None:
    with pytest.raises(BoardError, match=r"convs\.onnx: the profile is not whole JSON") as e:
        parse(text[:cut], "convs.onnx")
    assert "\n" not in e.value.line()


@pytest.mark.parametrize("wrong", ["{}", "[]", "3", json.dumps(BY_HAND[:2]), json.dumps(BY_HAND[2:5])])
def test_a_file_without_a_run_is_one_line(wrong: str) -> None:
    with pytest.raises(BoardError, match="profile"):
        parse(wrong, "x")


def test_all_runs_skipped_is_one_line() -> None:
    with pytest.raises(BoardError, match="no run"):
        parse(json.dumps(BY_HAND), "x", skip=2)


def test_mutated_files_never_crash_it(text: str) -> None:
    dice = random.Random(0)
    odd: list[Any] = [None, True, -1, 1e300, "", "x", [], {}, [None], {"a": []}, 7]
    lines = [json.loads(line.rstrip(",")) for line in text.splitlines() if line.startswith("{")][:80]
    read = 0
    for _ in range(1500):
        changed = [dict(e) for e in lines]
        for _ in range(dice.randint(1, 6)):
            one = changed[dice.randrange(len(changed))]
            place = one
            if dice.random() < 0.5 and isinstance(one.get("args"), dict) and one["args"]:
                place = one["args"] = dict(one["args"])
            place[dice.choice(list(place))] = dice.choice(odd)
        if dice.random() < 0.3:
            changed[dice.randrange(len(changed))] = dice.choice(odd)
        try:
            costs = parse(json.dumps(changed), "mutated").costs()
        except BoardError:
            continue
        read += 1
        assert all(0 <= c.seconds < 1e12 for c in costs)
    assert read > 1000


def test_a_file_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(BoardError, match=r"no\.onnx cannot be read"):
        ort_profile.graph_nodes(tmp_path / "no.onnx")
