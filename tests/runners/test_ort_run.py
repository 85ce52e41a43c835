"""ONNX artifacts on this machine: what the runner says, and what it says when something is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit import board as boards
from hwkit.artifact import Artifact, StageFile, Variant, open_artifact
from hwkit.board import Board
from hwkit.errors import BadDescription, BadInput, BoardError, JobFailed, ToolMissing
from hwkit.pipeline import keep
from hwkit.runners import Request, Run, _findings, _forms, _ort_run, local
from hwkit.runners._forms import Form
from hwkit.runners._ort_operators import CPU, Profiles, StageProfile, with_operators
from tests.runners.small_onnx import UNROLLED, artifact, make

QUICK = Request(iterations=30, duration_s=0.05)
SAME = Variant(name="f32 unrolled", precision="f32", form="unrolled", stages=UNROLLED)


def say(text: str) -> None:
    pass


def finding(run: Run, name: str) -> Any:
    return next(f for f in run.findings if f.name == name)


def measurement(run: Run, quantity: str) -> Any:
    return next(m for m in run.measurements if m.quantity == quantity)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    make(folder)
    np.save(folder / "inputs.npy", np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def stepped(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Deployed as steps; unrolled, "int8" (the same file under that name) and a broken file beside it."""
    variants = (SAME, Variant(name="int8 unrolled", precision="int8", form="unrolled", stages=UNROLLED),
                Variant(name="f16 unrolled", precision="f16", form="unrolled",
                        stages=(StageFile(name="whole", file="golden/inputs.npy"),)))
    return artifact(models, tmp_path_factory.mktemp("built") / "stepped", variants=variants)


@pytest.fixture(scope="module")
def ran(stepped: Artifact) -> Run:
    return local.run(stepped, boards.board("host"), QUICK, say)


def asking(*providers: Any, **options: Any) -> Board:
    return boards.board("host").model_copy(update={"options": {"providers": list(providers), **options}})


def test_what_it_measures(ran: Run) -> None:
    assert [m.quantity for m in ran.measurements] == ["latency", "runtime_rss", "resident_weights", "peak_rss"]
    assert {m.kind for m in ran.measurements} == {"measured"}
    assert set(ran.not_measured) == {"energy"}
    latency = measurement(ran, "latency")
    assert len(latency.samples) >= 30
    assert latency.conditions["form"] in ("stepped", "unrolled")
    assert (latency.conditions["provider"], latency.conditions["batch"]) == ("CPUExecutionProvider", 1)
    assert set(ran.tool_versions) == {"onnxruntime (board)", "numpy (board)", "python (board)"}


def test_outputs_are_checked_both_ways(ran: Run) -> None:
    assert "all 5 are bit-identical" in finding(ran, "outputs as built").text
    assert finding(ran, "outputs as built").ok is True
    assert finding(ran, "as accurate as built").ok is True
    assert "5 of 5 answers are the trained network's" in finding(ran, "answers on the board").text


def test_the_form_that_won_is_named_with_its_calls(ran: Run) -> None:
    text = finding(ran, "ODE form").text
    assert "f32 stepped" in text
    assert "(5 calls)" in text
    assert "f32 unrolled" in text
    assert "(1 call)" in text
    fastest = measurement(ran, "latency").conditions["form"]
    assert (finding(ran, "ODE form").ok is True) == (fastest == "stepped")


def test_other_precisions_and_failures_are_told(ran: Run) -> None:
    assert finding(ran, "f32 against int8").text
    assert "not timed: inputs.npy" in finding(ran, "variant f16 unrolled").text


def test_operators_are_costed_by_index_and_nothing_is_dropped(ran: Run, stepped: Artifact) -> None:
    own = stepped.manifest.built.operators
    one = {c.index: c.value for c in ran.operator_costs}
    assert (ran.operator_unit, ran.operator_kind) == ("s", "measured")
    for o in own:
        if o.name == "Conv":
            assert one[o.index] > 0
    assert [o.index for o in ran.operators] == list(range(len(own), len(own) + len(ran.operators)))
    assert all(o.index in one for o in ran.operators)
    repeats = {o.index: o.repeat for o in (*own, *ran.operators)}
    step = [e for e in json.loads(ran.files["profile-1.json"]) if e["name"] == "model_run"]
    mean_step_s = np.mean([e["dur"] for e in step[9:]]) / 1e6
    in_step = sum(one[o.index] for o in (*own, *ran.operators) if o.stage == "step" and o.index in one)
    assert 0.2 * mean_step_s < in_step < 1.5 * mean_step_s
    assert {repeats[o.index] for o in own if o.stage == "step"} == {3}
    assert "of the runtime's own run" in finding(ran, "operators add up").text


def test_unrolled_steps_are_the_operators_of_the_step(models: Path, tmp_path: Path) -> None:
    unrolled = artifact(models, tmp_path / "unrolled", stepped=False)
    run = local.run(unrolled, boards.board("host"), QUICK, say)
    one = {c.index: c.value for c in run.operator_costs}
    (step,) = [o for o in unrolled.manifest.built.operators if (o.name, o.stage) == ("Conv", "step")]
    nodes = [e for e in json.loads(run.files["profile-0.json"]) if e["cat"] == "Node"]
    steps = [e["dur"] / 1e6 for e in nodes if e["args"]["op_name"] == "Conv"
             and e["args"]["input_type_shape"][0] == {"float": [1, 8, 8, 8]}]
    assert len(steps) == 13 * 3                      # three steps in each of the profiled inferences
    assert 0.3 * np.median(steps) < one[step.index] < 2.5 * np.median(steps)      # of one step, not of all three
    assert step.repeat == 3
    assert not [o for o in run.operators if "Conv" in o.name]


def test_the_trace_is_one_inference_with_all_its_runs(ran: Run) -> None:
    trace = json.loads(ran.files["trace.json"])
    events = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    names = [e["name"] for e in events]
    assert names[0] == "inference"
    assert [n for n in names if n in ("stem", "head") or n.startswith("step, run")] == [
        "stem", "step, run 1 of 3", "step, run 2 of 3", "step, run 3 of 3", "head"]
    assert all(e["ts"] + e["dur"] <= events[0]["dur"] + 0.01 for e in events)
    assert any(e["args"].get("MACs") for e in events)


def test_files_are_kept_beside_the_samples(ran: Run, stepped: Artifact, tmp_path: Path) -> None:
    path = keep(ran, stepped, tmp_path / "runs")
    kept = json.loads(path.read_text())
    assert kept["files"] == ["profile-0.json", "profile-1.json", "profile-2.json", "trace.json"]
    assert "files" not in kept["run"]
    for name in kept["files"]:
        assert (path.with_suffix("") / name).read_text() == ran.files[name]
    assert list((tmp_path / "runs").glob("*/*.json")) == [path]


def test_without_operators_nothing_is_profiled(stepped: Artifact) -> None:
    run = local.run(stepped, boards.board("host"), QUICK.model_copy(update={"operators": False}), say)
    assert (run.operator_costs, run.files) == ((), {})


def test_one_file_without_variants(models: Path, tmp_path: Path) -> None:
    run = local.run(artifact(models, tmp_path / "whole", stepped=False), boards.board("host"), QUICK, say)
    assert not [f for f in run.findings if f.name in ("ODE form", "fall-back to the processor")]
    assert measurement(run, "latency").conditions["form"] == "unrolled"


def test_wrong_outputs_are_found(models: Path, tmp_path: Path) -> None:
    wrong = artifact(models, tmp_path / "wrong", raw_outputs=np.zeros((5, 5), np.float32),
                     expected=np.zeros((5, 5), np.float32), outputs=np.zeros((5, 5), np.float32))
    run = local.run(wrong, boards.board("host"), QUICK, say)
    assert finding(run, "outputs as built").ok is False
    assert finding(run, "as accurate as built").ok is False


def test_a_variant_that_computes_something_else_never_wins(models: Path, tmp_path: Path) -> None:
    built = artifact(models, tmp_path / "odd", variants=(SAME,))
    whole = built.path("model.onnx")
    whole.write_bytes(whole.read_bytes().replace(np.float32(0.1).tobytes(), np.float32(0.5).tobytes()))
    run = local.run(built, boards.board("host"), QUICK, say)
    assert measurement(run, "latency").conditions["form"] == "stepped"
    assert finding(run, "variant f32 unrolled as accurate as built").ok is False


def test_a_provider_that_this_onnxruntime_lacks_is_one_line(stepped: Artifact) -> None:
    board = asking("CUDAExecutionProvider")
    with pytest.raises(ToolMissing, match="asks for CUDAExecutionProvider") as e:
        local.run(stepped, board, QUICK, say)
    assert "\n" not in e.value.line()
    assert "onnxruntime-gpu" in e.value.hint
    (problem,) = local.missing(board)
    assert "CUDAExecutionProvider" in problem.message
    with pytest.raises(ToolMissing):
        local.make(board, say)
    assert local.missing(asking("CPUExecutionProvider")) == []


def test_the_board_of_an_nvidia_gpu_asks_for_its_provider() -> None:
    board = boards.board("cuda")
    assert local.options(board).listed() == [("CUDAExecutionProvider", {"use_tf32": "0"})]
    assert (board.kind, board.target) == ("measured", "cuda")


def test_nodes_that_fell_back_to_the_processor_are_listed(ran: Run, stepped: Artifact, tmp_path: Path) -> None:
    """A run that asked for a GPU and has these profiles, in which every node ran on the processor."""
    for name, text in ran.files.items():
        (tmp_path / name).write_text(text)
    stages = tuple(StageProfile(profile=f"profile-{k}.json") for k in range(3))
    profiles = Profiles(stages=stages, warmup=3, runs=10)
    found = with_operators(ran.model_copy(update={"findings": ()}), stepped, profiles, tmp_path,
                           "CUDAExecutionProvider", 1e-4)
    fell = finding(found, "fall-back to the processor")
    assert fell.ok is False
    assert "100 % of all" in fell.text
    assert "(Gemm)" in fell.text


def test_a_profile_that_was_cut_off_loses_the_operators_only(ran: Run, stepped: Artifact, tmp_path: Path) -> None:
    for name, text in ran.files.items():
        (tmp_path / name).write_text(text[:1000])
    stages = tuple(StageProfile(profile=f"profile-{k}.json") for k in range(3))
    found = with_operators(ran, stepped, Profiles(stages=stages, warmup=3, runs=10), tmp_path, CPU, 1e-4)
    assert "not whole JSON" in found.not_measured["operators"]
    assert found.measurements == ran.measurements


def test_options_of_a_provider_reach_it(stepped: Artifact) -> None:
    given = ["CPUExecutionProvider", {"use_arena": "0"}]
    run = local.run(stepped, asking(given), QUICK, say)
    assert measurement(run, "latency").conditions["provider_options"] == {"use_arena": "0"}


def test_another_interpreter_runs_it(stepped: Artifact) -> None:
    board = asking("CPUExecutionProvider", python=sys.executable)
    assert local.missing(board) == []
    assert local.run(stepped, board, QUICK, say).measurements
    absent = asking("CPUExecutionProvider", python="/no/such/python")
    assert "no interpreter at /no/such/python" in local.missing(absent)[0].message
    with pytest.raises(ToolMissing, match="no interpreter"):
        local.run(stepped, absent, QUICK, say)


@pytest.mark.parametrize("options", [{"providers": []}, {"providers": [""]}, {"providers": [3]}, {"python": ""}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadDescription):
        local.missing(boards.board("host").model_copy(update={"options": options}))


LOG = "[E:onnxruntime] Failed to load library x.so with error: libcublasLt.so.12: cannot open shared object file"


@pytest.mark.parametrize(("refused", "error", "words"), [
    ({"kind": "provider", "what": "CUDAExecutionProvider", "text": "got CPU"}, BoardError, "libcublasLt.so.12"),
    ({"kind": "session", "what": "a.onnx", "text": "opset 99"}, BoardError, "load a.onnx as asked: opset 99"),
    ({"kind": "missing", "what": "P", "text": "it has Q"}, ToolMissing, "asks for P"),
    (None, JobFailed, "exit code"),
])
def test_what_onnxruntime_refused_is_said(tmp_path: Path, refused: Any, error: Any, words: str) -> None:
    about = {"runtime": "onnxruntime", "runtime_version": "1", "numpy": "2", "python": "3", "machine": "x",
             "passes": {}, "refused": refused}
    (tmp_path / "result.json").write_text(json.dumps(about))
    found = _ort_run.failed(tmp_path, JobFailed("it failed with exit code 3", log=LOG), boards.board("host"))
    assert type(found) is error
    assert words in found.message
    assert "\n" not in found.line()


def test_a_crash_while_profiling_keeps_the_rest(stepped: Artifact, tmp_path: Path) -> None:
    """The profiled run is ended as the system ends one that has no memory left."""
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nexport PYTHONPATH="{tmp_path}"\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if 'operators' in getattr(sys, 'orig_argv', []): os.kill(os.getpid(), signal.SIGKILL)\n")
    run = local.run(stepped, asking("CPUExecutionProvider", python=str(wrapper)), QUICK, say)
    assert measurement(run, "latency").samples
    assert "the profiled run ended with code -9" in run.not_measured["operators"]
    assert finding(run, "outputs as built").ok is True


def test_a_payload_that_takes_too_long_is_ended(stepped: Artifact) -> None:
    with pytest.raises(JobFailed, match="longer than"):
        local.run(stepped, asking("CPUExecutionProvider", timeout_s=1.0), Request(duration_s=60), say)


def test_mixed_stages_are_refused(stepped: Artifact) -> None:
    stages = (*stepped.manifest.built.stages, StageFile(name="n", file="n.bit"))
    built = stepped.manifest.built.model_copy(update={"stages": stages})
    mixed = Artifact(folder=stepped.folder, manifest=stepped.manifest.model_copy(update={"built": built}))
    with pytest.raises(BadInput, match="stages"):
        local.run(mixed, boards.board("host"), QUICK, say)
    assert open_artifact(stepped.folder) == stepped


def test_the_judgement_of_outputs_is_against_the_build_machines_own_error(models: Path, tmp_path: Path) -> None:
    expected = np.random.default_rng(3).standard_normal((5, 5)).astype(np.float32)
    size = float(np.sqrt(np.mean(expected ** 2)))
    built = artifact(models, tmp_path / "judged", expected=expected, outputs=expected + np.float32(0.01) * size)
    ok = [_findings.as_accurate(built, expected + np.float32(k) * size) for k in (0.0, 0.0159, 0.0161, -0.015)]
    assert [f.ok for f in ok if f] == [True, True, False, True]      # 1.5 x 1 % + 0.1 % of the outputs' RMS
    assert "1 % on the build machine" in str(ok[0])
    part = _findings.as_accurate(built, expected[:2])
    assert part is not None
    assert part.ok is True
    missing_values = _findings.as_accurate(built, expected * np.float32("nan"))
    assert missing_values is not None
    assert missing_values.ok is False
    assert _findings.as_accurate(built, expected[:, :3]) is None


def form(name: str, form: Any, precision: str, calls: int, seconds: float, **rest: Any) -> Form:
    samples = tuple(seconds * (1 + 0.001 * (k % 5)) for k in range(40))
    return Form(name=name, form=form, precision=precision, calls=calls, seconds=samples, **rest)


def test_why_a_form_won_is_said_as_far_as_the_calls_tell() -> None:
    unrolled = form("f16 unrolled", "unrolled", "f16", 1, 1e-3)
    stepped = form("f16 stepped", "stepped", "f16", 11, 2e-3)
    (told,) = _forms.findings([unrolled, stepped])
    assert told.ok is True
    assert "takes 50 % less" in told.text
    assert "10 more calls: 100 µs each" in told.text
    (told,) = _forms.findings([stepped, unrolled])
    assert told.ok is None
    assert "the latency reported is that of f16 unrolled" in told.text
    (told,) = _forms.findings([form("a", "stepped", "f16", 11, 1e-3), form("b", "unrolled", "f16", 1, 2e-3)])
    assert "although it makes 10 more calls" in told.text
    (told,) = _forms.findings([unrolled, form("f16 stepped", "stepped", "f16", 11, 1.0002e-3)])
    assert "no difference" in told.text


def test_precisions_are_held_against_the_deployed_one() -> None:
    int8 = form("int8 unrolled", "unrolled", "int8", 1, 1e-3)
    f16 = form("f16 unrolled", "unrolled", "f16", 1, 2e-3)
    (won,) = _forms.findings([int8, f16])
    assert (won.name, won.ok) == ("int8 against f16", True)
    assert "2.00 times as fast" in won.text
    (lost,) = _forms.findings([f16, int8])
    assert (lost.name, lost.ok) == ("f16 against int8", None)
    assert "f16 lost, taking 2.00 times as long" in lost.text
    wrong = form("f32 stepped", "stepped", "int8", 9, 1e-4, accurate=False)
    assert _forms.fastest([int8, wrong]) is int8
