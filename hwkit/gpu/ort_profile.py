"""What ONNX Runtime's profiler writes, as times of the nodes that ran.

The file is a JSON list of trace events in microseconds. An inference is an event of category "Session" called
"model_run"; each node inside it is one of category "Node" called "<node>_kernel_time", whose `args` name its
operator, its provider and its shapes. A build with CUPTI also has events of category "Kernel" right after the node
that launched them: their `dur` is time on the GPU, where the node's own may be that of the launch alone
(microsoft/onnxruntime: onnxruntime/core/common/profiler.cc and gpu_profiler_common.cc).
The body of a loop is written beside its loop node: a node here has only the time that no inner one takes.
"""

from __future__ import annotations

import bisect
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hwkit.describe import Frozen
from hwkit.errors import BoardError

SUFFIX = "_kernel_time"
CPU = "CPUExecutionProvider"
US = 1e-6


class Kernel(Frozen):
    """One kernel on the GPU."""

    name: str
    seconds: float


class NodeRun(Frozen):
    """One execution of one node.

    start_s      since the profile began
    seconds      its own time: that of nodes inside it (the body of a loop) is left out
    duration_s   from its beginning to its end
    shape        of its first output, where the profile tells
    """

    name: str
    op: str
    provider: str
    start_s: float
    seconds: float
    duration_s: float
    shape: tuple[int, ...] = ()
    kernels: tuple[Kernel, ...] = ()

    @property
    def gpu_s(self) -> float:
        return sum(k.seconds for k in self.kernels)


class ModelRun(Frozen):
    """One inference of one session, with its nodes in order of their start."""

    start_s: float
    duration_s: float
    nodes: tuple[NodeRun, ...]


class NodeCost(Frozen):
    """What one node costs in one run of its model.

    seconds   mean over the runs kept; on the GPU where the profile has its kernels
    runs      how many runs it was seen in
    """

    name: str
    op: str
    provider: str
    seconds: float
    runs: int
    shape: tuple[int, ...] = ()


class Profile(Frozen):
    """A session's profile."""

    runs: tuple[ModelRun, ...]

    @property
    def has_kernels(self) -> bool:
        return any(node.kernels for run in self.runs for node in run.nodes)

    def steady(self) -> tuple[ModelRun, ...]:
        """The half of the runs in the middle by duration: neither a start nor a disturbed one."""
        ordered = sorted(self.runs, key=lambda r: r.duration_s)
        quarter = len(ordered) // 4
        return tuple(ordered[quarter:len(ordered) - quarter])

    @property
    def run_s(self) -> float:
        """Mean duration of a steady run."""
        return statistics.fmean(r.duration_s for r in self.steady())

    def costs(self) -> tuple[NodeCost, ...]:
        """A row a node, in order of execution; their seconds sum to at most `run_s` without kernels."""
        runs = self.steady()
        seen: dict[tuple[str, str, str], list[NodeRun]] = {}
        for run in runs:
            for node in run.nodes:
                seen.setdefault((node.name, node.op, node.provider), []).append(node)
        return tuple(
            NodeCost(name=name, op=op, provider=provider, runs=len(nodes), shape=nodes[0].shape,
                     seconds=sum(n.gpu_s if n.kernels else n.seconds for n in nodes) / len(runs))
            for (name, op, provider), nodes in seen.items())


def fallen_back(costs: Iterable[NodeCost], wanted: str) -> tuple[NodeCost, ...]:
    """Nodes that ran on the processor while the provider `wanted` was asked for."""
    return tuple(c for c in costs if c.provider == CPU and wanted != CPU)


def parse(text: str | bytes, what: str, skip: int = 0) -> Profile:
    """The profile in a file, its first `skip` runs left out. Raises BoardError where there is none; never else.

    Events that are not what they should be are left out.
    """
    again = "run it again; the profile may have been cut off"
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        raise BoardError(f"{what}: the profile is not whole JSON", again) from None
    if not isinstance(listed, list):
        raise BoardError(f"{what}: the profile is no list of events", again)
    runs, nodes = _read(listed)
    starts = [start for start, _ in runs]
    inside: list[list[NodeRun]] = [[] for _ in runs]
    for node in _own_times(nodes):
        k = bisect.bisect_right(starts, node.start_s + US / 2) - 1
        if k >= 0 and node.start_s <= runs[k][0] + runs[k][1] + US:
            inside[k].append(node)
    found = tuple(ModelRun(start_s=start, duration_s=duration, nodes=tuple(within))
                  for (start, duration), within in list(zip(runs, inside, strict=True))[skip:])
    if not any(run.nodes for run in found):
        raise BoardError(f"{what}: the profile has no run with a node in it", again)
    return Profile(runs=found)


def _read(listed: Sequence[Any]) -> tuple[list[tuple[float, float]], list[NodeRun]]:
    """(start and duration of every run, nodes with the kernels they launched), each in order of start."""
    runs: list[tuple[float, float]] = []
    nodes: list[NodeRun] = []
    kernels: dict[int, list[Kernel]] = {}
    for event in listed:
        start, duration, name = _figures(event)
        if start is None or duration is None:
            continue
        category, args = event.get("cat"), event.get("args")
        told = args if isinstance(args, dict) else {}
        if category == "Session" and name == "model_run":
            runs.append((start, duration))
        elif category == "Node" and name.endswith(SUFFIX):
            nodes.append(NodeRun(name=name.removesuffix(SUFFIX), op=_text(told, "op_name"),
                                 provider=_text(told, "provider"), start_s=start, seconds=duration,
                                 duration_s=duration, shape=_shape(told)))
        elif category == "Kernel" and nodes:
            kernels.setdefault(len(nodes) - 1, []).append(Kernel(name=name, seconds=duration))
    whole = [n.model_copy(update={"kernels": tuple(kernels.get(k, ()))}) for k, n in enumerate(nodes)]
    return sorted(runs), sorted(whole, key=lambda n: (n.start_s, -n.duration_s))


def _figures(event: Any) -> tuple[float | None, float | None, str]:
    """Start and duration in seconds, None for what is no event, and its name."""
    if not isinstance(event, dict):
        return None, None, ""
    name = event.get("name")
    start, duration = (event.get(key) for key in ("ts", "dur"))
    good = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) and 0 <= v < 1e15
               for v in (start, duration))
    if not good or not isinstance(name, str):
        return None, None, ""
    return float(start) * US, float(duration) * US, name      # type: ignore[arg-type]   # checked above


def _text(told: Mapping[str, Any], key: str) -> str:
    value = told.get(key)
    return value if isinstance(value, str) else ""


def _shape(told: Mapping[str, Any]) -> tuple[int, ...]:
    """[{"float": [1, 8]}] -> (1, 8)."""
    listed = told.get("output_type_shape")
    first = listed[0] if isinstance(listed, list) and listed else None
    dims = next(iter(first.values()), None) if isinstance(first, dict) else None
    good = isinstance(dims, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in dims)
    return tuple(dims) if good and isinstance(dims, list) else ()


def _own_times(nodes: Sequence[NodeRun]) -> list[NodeRun]:
    """Every node without the time of those that start while it runs. `nodes` in order of start."""
    own = [n.seconds for n in nodes]
    ends = [n.start_s + n.duration_s - US / 2 for n in nodes]     # times are whole microseconds, rounded down
    open_ones: list[int] = []
    for k, node in enumerate(nodes):
        while open_ones and node.start_s >= ends[open_ones[-1]]:
            open_ones.pop()
        if open_ones:
            own[open_ones[-1]] -= node.seconds
        open_ones.append(k)
    return [n.model_copy(update={"seconds": max(0.0, own[k])}) for k, n in enumerate(nodes)]


class GraphNode(NamedTuple):
    """A node of an ONNX file, bodies of loops included: its name, operator, and tensors."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def graph_nodes(path: Path) -> list[GraphNode]:
    """The nodes of an ONNX file in their order. Raises BoardError when it cannot be read."""
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as e:      # protobuf's own, which has no type stubs, or OSError
        raise BoardError(f"{path.name} cannot be read: {' '.join(str(e).split())[:200]}") from None
    found: list[GraphNode] = []

    def add(graph: Any) -> None:
        for node in graph.node:
            found.append(GraphNode(node.name, node.op_type, tuple(node.input), tuple(node.output)))
            for attribute in node.attribute:
                for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    add(body)

    add(model.graph)
    return found


class Origins:
    """Which node of the file a node of the profile came from.

    onnxruntime names a changed node after the old one ("Conv_3_token_7") or after the tensor that it gives
    ("12_nchwc"), and fuses what follows a node into it. A node that it puts in has no origin.
    """

    ADDED = ("_nchwc", "_nhwc", "_quant", "/duplicated")
    LONGEST = 8        # nodes fused into one

    def __init__(self, nodes: Sequence[GraphNode]) -> None:
        self.by_name = {n.name: n for n in nodes if n.name}
        self.by_tensor = {name: n for n in nodes for name in n.outputs if name}

    def of(self, name: str, op: str) -> str | None:
        """Name of the node in the file, None where it has none."""
        base = self._base(name)
        if base is None:
            return None
        if base in self.by_name:
            return base
        node = at = self.by_tensor[base]
        for _ in range(self.LONGEST):      # a fused node may give the last one's tensor: back to its first
            before = [self.by_tensor[i] for i in at.inputs if i in self.by_tensor]
            if at.op in op or not before:
                break
            at = before[0]
        return (at if at.op in op else node).name or None

    def _base(self, name: str) -> str | None:
        while name:
            if name in self.by_name or name in self.by_tensor:
                return name
            shorter = self._without_suffix(name.removeprefix("fused "))
            if shorter == name:
                return None
            name = shorter
        return None

    def _without_suffix(self, name: str) -> str:
        for added in self.ADDED:
            if name.endswith(added):
                return name.removesuffix(added)
        head, _, number = name.rpartition("_")
        return head.removesuffix("_token") if head and number.isdigit() else name
