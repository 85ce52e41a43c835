"""Traces in the format that chrome://tracing and Perfetto read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwkit.gpu.ort_profile import Kernel, ModelRun, NodeRun
from hwkit.gpu.trace import StageRuns, of_layers, of_runs, save, text


def node(name: str, start_s: float, duration_s: float, **rest: Any) -> NodeRun:
    return NodeRun(name=name, op="Conv", provider="CUDAExecutionProvider", start_s=start_s, seconds=duration_s,
                   duration_s=duration_s, **rest)


STEM = ModelRun(start_s=5.0, duration_s=100e-6, nodes=(
    node("a", 5.0 + 10e-6, 40e-6, shape=(1, 8), kernels=(Kernel(name="gemm", seconds=30e-6),)),
    node("b", 5.0 + 60e-6, 45e-6)))                            # rounded past the end of its run
STEPS = tuple(ModelRun(start_s=2.0 + k * 30e-6, duration_s=20e-6, nodes=(node("c", 2.0 + k * 30e-6, 15e-6),))
              for k in range(3))


def complete(trace: dict[str, Any]) -> list[dict[str, Any]]:
    return [e for e in trace["traceEvents"] if e["ph"] == "X"]


def ordered_inside(events: list[dict[str, Any]]) -> None:
    """In order of start, and all inside the first, which is the inference."""
    starts = [e["ts"] for e in events]
    assert starts == sorted(starts)
    assert (events[0]["name"], events[0]["ts"]) == ("inference", 0)
    assert all(e["ts"] + e["dur"] <= events[0]["dur"] + 0.01 for e in events)


def test_stages_without_a_common_clock_lie_end_to_end() -> None:
    events = complete(of_runs([StageRuns("stem", [STEM]), StageRuns("step", STEPS)], "net"))
    ordered_inside(events)
    assert [(e["name"], e["ts"], e["dur"]) for e in events] == [
        ("inference", 0, 180), ("stem", 0, 100), ("a", 10, 40), ("b", 60, 40),
        ("step, run 1 of 3", 100, 20), ("c", 100, 15), ("step, run 2 of 3", 130, 20), ("c", 130, 15),
        ("step, run 3 of 3", 160, 20), ("c", 160, 15)]


def test_stages_with_one_lie_where_they_were() -> None:
    stages = [StageRuns("stem", [STEM], 1000.0), StageRuns("step", STEPS, 1003.0 + 500e-6)]
    events = complete(of_runs(stages, "net"))
    ordered_inside(events)
    starts = {e["name"]: e["ts"] for e in events}
    assert starts["stem"] == 0
    assert starts["step, run 1 of 3"] == pytest.approx(500, abs=0.01)


def test_an_event_tells_what_its_node_is() -> None:
    events = complete(of_runs([StageRuns("stem", [STEM], macs={"a": 123})], "net"))
    told = next(e for e in events if e["name"] == "a")["args"]
    assert told == {"operator": "Conv", "provider": "CUDAExecutionProvider", "shape": [1, 8], "MACs": 123,
                    "kernels": [{"name": "gemm", "us": 30}]}


def test_the_file_is_json_of_the_trace_event_format(tmp_path: Path) -> None:
    trace = of_runs([StageRuns("stem", [STEM])], "net on board", {"precision": "int8"})
    save(trace, tmp_path / "out" / "trace.json")
    read = json.loads((tmp_path / "out" / "trace.json").read_text())
    assert read == json.loads(text(trace))
    names = {e["name"]: e["args"]["name"] for e in read["traceEvents"] if e["ph"] == "M"}
    assert names["process_name"] == "net on board"
    for e in complete(read):
        assert {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"} <= e.keys()
    assert read["otherData"] == {"precision": "int8"}
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["trace.json"]


def test_layers_of_which_only_the_time_is_known_lie_end_to_end() -> None:
    layers = [("conv", 20e-6), ("odd", float("nan")), ("reformat", 5e-6), ("fc", 1e-6)]
    events = complete(of_layers(layers, "engine"))
    ordered_inside(events)
    assert [(e["name"], e["ts"], e["dur"]) for e in events] == [
        ("inference", 0, 26), ("conv", 0, 20), ("reformat", 20, 5), ("odd", 20, 0), ("fc", 25, 1)]
