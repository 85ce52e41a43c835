"""One inference as a trace that chrome://tracing and ui.perfetto.dev open.

Trace Event Format ("JSON Object Format", Google, 2016): complete events ("ph": "X") with `ts` and `dur` in
microseconds, on lanes that metadata events ("ph": "M") name. Events are in order of their start; an enclosing one
comes first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hwkit.files import write
from hwkit.gpu.ort_profile import ModelRun, NodeRun

Trace = dict[str, Any]
US = 1e6
PID, LANE = 1, 1       # one lane: viewers nest what lies inside


class StageRuns(NamedTuple):
    """What one stage did in one inference.

    started_s   when its profile began, on a clock that all stages share; None where that is not known: the stage
                then begins where the one before ended
    macs        multiply-accumulates of one execution, by name of the node
    """

    name: str
    runs: Sequence[ModelRun]
    started_s: float | None = None
    macs: Mapping[str, int] = {}


def of_runs(stages: Sequence[StageRuns], title: str, about: Mapping[str, str] | None = None) -> Trace:
    """A trace of ONNX Runtime's profiles: an event for the inference, each run of a stage, and each node."""
    told: list[dict[str, Any]] = []
    clocked = all(s.started_s is not None for s in stages)
    origin = min((s.started_s or 0.0) + s.runs[0].start_s for s in stages) if clocked else 0.0
    end = 0.0
    for stage in stages:
        offset = (stage.started_s or 0.0) - origin if clocked else end - stage.runs[0].start_s
        for number, run in enumerate(stage.runs):
            begin = max(0.0, run.start_s + offset)      # not -0.0
            last = begin + run.duration_s
            label = stage.name if len(stage.runs) == 1 else f"{stage.name}, run {number + 1} of {len(stage.runs)}"
            told.append(_event(label, begin, run.duration_s, {}))
            for node in run.nodes:
                at = max(begin, node.start_s + offset)
                # rounding to whole microseconds may carry a node past its run
                told.append(_event(node.name or node.op, at, max(0.0, min(node.duration_s, last - at)),
                                   _arguments(node, stage.macs)))
            end = max(end, last)
    return _whole(end, told, title, about)


def of_layers(layers: Sequence[tuple[str, float]], title: str, about: Mapping[str, str] | None = None) -> Trace:
    """A trace of layers (name, seconds) of which only the duration is known: laid end to end, as one stream runs.

    A duration that is not finite or below zero counts as zero.
    """
    told, at = [], 0.0
    for name, seconds in layers:
        taken = seconds if math.isfinite(seconds) and seconds > 0 else 0.0
        told.append(_event(name, at, taken, {}))
        at += taken
    return _whole(at, told, title, about)


def text(trace: Trace) -> str:
    return json.dumps(trace, sort_keys=True, allow_nan=False) + "\n"


def save(trace: Trace, path: Path) -> None:
    """Write it, whole or not at all. Raises NoSpace or OSError."""
    write(path, text(trace))


def _arguments(node: NodeRun, macs: Mapping[str, int]) -> dict[str, Any]:
    told: dict[str, Any] = {"operator": node.op, "provider": node.provider, "shape": list(node.shape)}
    if node.name in macs:
        told["MACs"] = macs[node.name]
    if node.kernels:
        told["kernels"] = [{"name": k.name, "us": round(k.seconds * US, 3)} for k in node.kernels]
    return told


def _event(name: str, start_s: float, duration_s: float, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "cat": "hwkit", "ph": "X", "pid": PID, "tid": LANE, "ts": round(start_s * US, 3),
            "dur": round(duration_s * US, 3), "args": arguments}


def _whole(duration_s: float, events: Iterable[dict[str, Any]], title: str,
           about: Mapping[str, str] | None) -> Trace:
    ordered = [_event("inference", 0.0, duration_s, {}), *sorted(events, key=lambda e: (e["ts"], -e["dur"]))]
    names = [{"name": key, "ph": "M", "pid": PID, "tid": LANE, "args": {"name": value}}
             for key, value in (("process_name", title), ("thread_name", "inference"))]
    return {"traceEvents": [*names, *ordered], "displayTimeUnit": "ns", "otherData": dict(about or {})}
