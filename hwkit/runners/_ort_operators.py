"""onnxruntime's profiles of an ONNX artifact as the costs of its operators, what they show, and a trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hwkit.artifact import Artifact, Finding, Operator, StageFile
from hwkit.describe import Frozen
from hwkit.errors import BoardError
from hwkit.gpu import attribution, ort_profile, trace
from hwkit.gpu.ort_profile import CPU, ModelRun, NodeCost, Profile
from hwkit.runners import OperatorCost, Run
from hwkit.units import shown

TRACE = "trace.json"
LITTLE = 0.05            # share of the nodes' time that may run on the processor without being a fault
MOST_LISTED = 5
ADDS_UP = (0.8, 1.25)    # the nodes' sum over the timed inference


class StageProfile(Frozen):
    """A profile's file, and when it began on a clock that all of the job share."""

    profile: str
    started_ns: int | None = None


class Profiles(Frozen):
    """One a stage. The first `warmup` inferences are not to be read, `runs` are."""

    stages: tuple[StageProfile, ...]
    warmup: int
    runs: int


class _Stage(Frozen):
    """A deployed stage's profile, its nodes' costs, and which operator of the artifact each node came from."""

    stage: StageFile
    profile: Profile
    costs: tuple[NodeCost, ...]
    operators: dict[str, int]        # name of a node of the profile -> index of an operator
    started_ns: int | None


def without(run: Run, why: str) -> Run:
    """The run, which says why it has no operators."""
    return run.model_copy(update={"not_measured": {**run.not_measured, "operators": why}})


def with_operators(run: Run, artifact: Artifact, profiles: Profiles, folder: Path, wanted: str,
                   timed_s: float) -> Run:
    """The run with the costs of its operators, what they show, the raw profiles and a trace.

    wanted    the provider that was asked for
    timed_s   median of the deployed form in the timed pass
    """
    texts = {p.profile: _text(folder / Path(p.profile).name) for p in profiles.stages}
    try:
        stages = _stages(artifact, profiles, texts)
    except BoardError as e:
        return without(run, e.message).model_copy(update={"files": texts})
    costs, added = _operators(artifact, stages)
    findings = [_adds_up(artifact, stages, costs, timed_s), *_added(added, costs, stages),
                *_fall_back(stages, wanted), _spent(stages, wanted),
                Finding(name="trace", ok=None, text=f"{TRACE}, beside the raw samples of this run, shows one "
                                                    "inference in chrome://tracing or ui.perfetto.dev")]
    return run.model_copy(update={
        "operator_costs": costs, "operator_unit": "s", "operator_kind": run.measurements[0].kind,
        "operators": added, "findings": (*run.findings, *findings),
        "files": {**texts, TRACE: trace.text(_trace(artifact, stages, profiles.runs, run.board))}})


def _spent(stages: Sequence[_Stage], wanted: str) -> Finding:
    """What the profiled time goes to: computing, or what stands around it."""
    spent = attribution.chained([attribution.of_onnxruntime(
        [c.model_copy(update={"seconds": c.seconds * one.stage.repeat}) for c in one.costs], wanted)
        for one in stages])
    heavy = ", ".join(f"{layer.name} {shown(layer.seconds, 's')}" for layer in spent.heaviest())
    return Finding(name="where the time goes", ok=None, text=f"{spent.text()}; heaviest: {heavy}")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as e:
        raise BoardError(f"the board's {path.name} cannot be read: {e.strerror}") from None


def _stages(artifact: Artifact, profiles: Profiles, texts: dict[str, str]) -> list[_Stage]:
    built = artifact.manifest.built
    if len(profiles.stages) != len(built.stages):
        raise BoardError(f"{len(profiles.stages)} profiles for {len(built.stages)} stages")
    found = []
    for stage, one in zip(built.stages, profiles.stages, strict=True):
        profile = ort_profile.parse(texts[one.profile], stage.file, skip=profiles.warmup * stage.repeat)
        costs = profile.costs()
        origins = ort_profile.Origins(ort_profile.graph_nodes(artifact.path(stage.file)))
        index = _indices(origins.by_name, built.operators)
        came = {c.name: origins.of(c.name, c.op) for c in costs}
        found.append(_Stage(stage=stage, profile=profile, costs=costs, started_ns=one.started_ns,
                            operators={name: index[node] for name, node in came.items() if node in index}))
    return found


def _indices(names: Iterable[str], operators: Sequence[Operator]) -> dict[str, int]:
    """Name of a node in the file -> index of its operator.

    A node is called <stage>[@<step>]/<operator><index>, in every form of the network; or just as its operator.
    """
    by_name = {(o.stage, f"{o.name}{o.index}"): o.index for o in operators}
    alone = {o.name: o.index for o in operators}
    found = {}
    for name in names:
        stage, _, rest = name.partition("/")
        index = by_name.get((stage.partition("@")[0], rest), alone.get(name))
        if index is not None:
            found[name] = index
    return found


def _operators(artifact: Artifact,
               stages: Sequence[_Stage]) -> tuple[tuple[OperatorCost, ...], tuple[Operator, ...]]:
    """Costs of one execution, and the nodes that the artifact does not have, those of a kind as one operator."""
    known = artifact.manifest.built.operators
    whole: dict[int, float] = {}
    others: dict[tuple[str, str, str, tuple[int, ...]], list[tuple[NodeCost, int]]] = {}
    for one in stages:
        for cost in one.costs:
            index = one.operators.get(cost.name)
            if index is None:
                others.setdefault((one.stage.name, cost.op, cost.provider, cost.shape), []).append(
                    (cost, one.stage.repeat))
            else:
                whole[index] = whole.get(index, 0.0) + cost.seconds * one.stage.repeat
    costs = [OperatorCost(index=o.index, value=whole[o.index] / o.repeat) for o in known if o.index in whole]
    following = max((o.index for o in known), default=-1) + 1
    added = []
    for index, ((stage, op, provider, shape), nodes) in enumerate(others.items(), following):
        name = f"{op} {nodes[0][0].name}" + (f" and {len(nodes) - 1} more" if len(nodes) > 1 else "")
        runs = sum(repeat for _, repeat in nodes)
        added.append(Operator(index=index, name=name, stage=stage, repeat=runs, output_shape=shape,
                              delegate=provider))
        costs.append(OperatorCost(index=index, value=sum(c.seconds * repeat for c, repeat in nodes) / runs))
    return tuple(costs), tuple(added)


def _adds_up(artifact: Artifact, stages: Sequence[_Stage], costs: Sequence[OperatorCost],
             timed_s: float) -> Finding:
    """The nodes' times against the runtime's own run and against the timed one."""
    nodes = sum(c.seconds * s.stage.repeat for s in stages for c in s.costs)
    runs = sum(s.profile.run_s * s.stage.repeat for s in stages)
    ratio = nodes / timed_s
    text = f"the profiled nodes take {shown(nodes, 's')}, {nodes / runs:.2f} of the runtime's own run and " \
           f"{ratio:.2f} of the timed inference ({shown(timed_s, 's')})"
    if runs > ADDS_UP[1] * timed_s:
        text += f"; profiling makes it take {runs / timed_s:.1f} times as long"
    have = {c.index for c in costs}
    fused = sum(o.index not in have for o in artifact.manifest.built.operators)
    if fused:
        text += f"; {fused} operators have no node of their own: the runtime fused or folded them into others"
    fits = ADDS_UP[0] <= ratio <= ADDS_UP[1]
    return Finding(name="operators add up", ok=True if fits else None,
                   text=text if fits else text + ": read the table as an order, not as shares")


def _added(added: Sequence[Operator], costs: Sequence[OperatorCost], stages: Sequence[_Stage]) -> list[Finding]:
    """The nodes that the runtime put in, the costliest by name."""
    if not added:
        return []
    one = {c.index: c.value for c in costs}
    total = sum(c.seconds * s.stage.repeat for s in stages for c in s.costs)
    dear = sorted(added, key=lambda o: -one[o.index] * o.repeat)
    taken = sum(one[o.index] * o.repeat for o in added)
    names = "; ".join(f"{o.name}, {shown(one[o.index] * o.repeat, 's')}" for o in dear[:MOST_LISTED])
    rest = "; and others" if len(dear) > MOST_LISTED else ""
    return [Finding(name="nodes of the runtime's own", ok=None,
                    text=f"what is no operator of the artifact takes {shown(taken, 's')}, "
                         f"{100 * taken / total if total else 0:.0f} % of all: {names}{rest}")]


def _fall_back(stages: Sequence[_Stage], wanted: str) -> list[Finding]:
    """Nodes that ran on the processor instead of the provider that was asked for."""
    if wanted == CPU:
        return []
    fell = [(c, s.stage.repeat) for s in stages for c in ort_profile.fallen_back(s.costs, wanted)]
    total = sum(c.seconds * s.stage.repeat for s in stages for c in s.costs)
    name = "fall-back to the processor"
    if not fell:
        return [Finding(name=name, ok=True, text="no node ran there")]
    taken = sum(c.seconds * repeat for c, repeat in fell)
    share = taken / total if total else 0.0
    names = ", ".join(f"{c.name} ({c.op})" for c, _ in fell)
    return [Finding(name=name, ok=None if share < LITTLE else False,
                    text=f"{len(fell)} nodes, {shown(taken, 's')}, {100 * share:.0f} % of all: {names}")]


def _trace(artifact: Artifact, stages: Sequence[_Stage], profiled: int, board: str) -> trace.Trace:
    """The inference of median length among those profiled. Raises BoardError when none is whole."""

    def of(one: _Stage, number: int) -> tuple[ModelRun, ...]:
        repeat = one.stage.repeat
        return one.profile.runs[number * repeat:(number + 1) * repeat]

    whole = [n for n in range(profiled) if all(len(of(s, n)) == s.stage.repeat for s in stages)]
    if not whole:
        raise BoardError("no inference was profiled whole")
    ordered = sorted(whole, key=lambda n: sum(r.duration_s for s in stages for r in of(s, n)))
    chosen = ordered[len(ordered) // 2]
    macs = {o.index: o.macs for o in artifact.manifest.built.operators if o.macs is not None}
    first = min(s.started_ns or 0 for s in stages)     # 0 where a stage has no clock
    listed = [trace.StageRuns(name=s.stage.name, runs=of(s, chosen),
                              started_s=(s.started_ns - first) / 1e9 if s.started_ns and first else None,
                              macs={node: macs[k] for node, k in s.operators.items() if k in macs})
              for s in stages]
    return trace.of_runs(listed, f"{artifact.manifest.name} on {board}",
                         {"artifact": artifact.manifest.digest, "precision": artifact.manifest.precision,
                          "inference": f"profiled one, number {chosen + 1} of {profiled}"})
