"""The payload of boards with TensorRT, end to end; a stand-in for trtexec computes y = scale * x (+ t)."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.artifact import StageFile
from hwkit.files import sha256, write_json
from hwkit.gpu import trtexec
from hwkit.gpu.engine import Wanted, engine_name, read_sidecar, refusal
from hwkit.gpu.plan import BoardPlan, Engine, board_plan, engines
from hwkit.gpu.trtexec import Precision

PAYLOADS = Path(__file__).parents[2] / "boards" / "payloads"
STANDIN = Path(__file__).parent / "standins" / "trtexec"
VERSIONS = ["8.2.1", "8.5.2", "8.6.1", "10.3.0", "11.0.0"]
REFUSED = 3


class Bench:
    """A folder with an artifact, its plan and a job; `run` executes it as a board would."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.artifact = folder, folder / "artifact"
        (self.artifact / "golden").mkdir(parents=True)
        self.inputs = np.arange(12, dtype=np.float32).reshape(3, 4) / 8
        np.save(self.artifact / "golden" / "inputs.npy", self.inputs)
        # with this interpreter: one that is looked for may take long to start
        self.trtexec = folder / "bin" / "trtexec"
        self.trtexec.parent.mkdir()
        self.trtexec.write_text(f"#!{sys.executable} -SE\n{STANDIN.read_text()}")
        self.trtexec.chmod(0o755)
        self.log = folder / "calls.jsonl"
        self.job: dict[str, Any] = {
            "plan": str(folder / "plan.json"), "artifact": str(self.artifact),
            "inputs": str(self.artifact / "golden" / "inputs.npy"), "passes": ["outputs", "latency", "operators"],
            "samples": 2, "warmup_ms": 10, "duration_s": 0.5, "iterations": 20, "idle_s": 0,
            "engines": str(folder / "engines"), "prebuilt": {}, "trtexec": str(self.trtexec),
            "out": str(folder / "out")}
        self.python, self.payload = sys.executable, PAYLOADS / "tensorrt.py"
        self.error = ""
        self.progress: list[str] = []

    def net(self, name: str, precision: Precision = "f32", form: str = "deployed", scale: float = 2.0,
            shape: tuple[int, ...] = (1, 4), repeat: int = 1,
            times: tuple[float, ...] | None = None) -> list[Engine]:
        """A file for the stand-in, as engines of a plan."""
        write_json(self.artifact / f"{name}.onnx", {"scale": scale, "shape": shape, "time": times is not None})
        stage = StageFile(name=name, file=f"{name}.onnx", repeat=repeat, times=times)
        return engines(self.artifact, [stage], precision, [shape], form)

    def plan(self, *given: list[Engine], **rest: Any) -> BoardPlan:
        plan = board_plan([e for some in given for e in some], **rest)
        write_json(Path(self.job["plan"]), plan.model_dump(mode="json"))
        return plan

    def environment(self, standin: dict[str, Any]) -> dict[str, str]:
        return {**os.environ, "STANDIN_TRTEXEC": json.dumps({"log": str(self.log), **standin})}

    def run(self, code: int = 0, **standin: Any) -> dict[str, Any]:
        """What result.json tells after a run that ends with `code`."""
        write_json(self.folder / "job.json", self.job)
        done = subprocess.run([self.python, str(self.payload), str(self.folder / "job.json")], capture_output=True,
                              text=True, timeout=60, env=self.environment(standin), check=False)
        assert done.returncode == code, done.stderr
        self.error = done.stderr.strip()
        self.progress = done.stdout.splitlines()
        assert all(line.startswith("progress: ") for line in self.progress)
        return self.result()

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "result.json").read_text())
        return found

    def refused(self, kind: str, **standin: Any) -> str:
        """One line on stderr, that and its kind in result.json; the line."""
        told = self.run(REFUSED, **standin)["refused"]
        assert told["kind"] == kind
        assert self.error == f"{told['what']}: {told['text']}"
        assert "\n" not in self.error
        return self.error

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def builds(self) -> int:
        return sum(any(word.startswith("--onnx=") for word in call) for call in self.calls())

    @property
    def out(self) -> Path:
        return Path(self.job["out"])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_it_is_python_3_6_and_needs_nothing() -> None:
    text = (PAYLOADS / "tensorrt.py").read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= set(sys.stdlib_module_names) | {"sense"}
    assert "from __future__" not in text             # annotations came in 3.7


@pytest.mark.parametrize("version", VERSIONS)
def test_a_network_is_built_and_run_on_every_version(version: str, bench: Bench) -> None:
    bench.plan(bench.net("net", "int8"), bench.net("half", "f16", "f16 unrolled", scale=3.0))
    result = bench.run(version=version, gpu="Orin", sm="8.7", multiprocessors=8)
    assert result["runtime_version"] == version
    assert result["gpu"] == {"name": "Orin", "sm": "8.7", "multiprocessors": 8}
    assert result["family"] == trtexec.family(version).name
    assert result["left_out"] == {}
    assert "refused" not in result
    passes = result["passes"]
    assert not passes["build"]["deployed-net"]["reused"]

    outputs = np.load(bench.out / passes["outputs"]["deployed"]["file"])
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs, 2 * bench.inputs[:2])
    beside = np.load(bench.out / passes["outputs"]["f16 unrolled"]["file"])
    np.testing.assert_array_equal(beside, 3 * bench.inputs[:2])

    timed = passes["latency"]["deployed-net"]
    times = trtexec.times((bench.out / timed["times"]).read_bytes(), "times", warmup_ms=10)
    assert set(times.compute_s) == {1.5e-3}
    assert set(times.h2d_s) == {0.25e-3}              # copies are timed, also where they are left out by default
    assert len(times.compute_s) == 20
    assert timed["window"][2] == 20

    told = passes["operators"]["deployed-net"]
    profile = trtexec.profile((bench.out / told["profile"]).read_bytes(), "profile")
    layers = trtexec.layers((bench.out / told["layers"]).read_bytes(), "layers")
    assert [layer.name for layer in profile.layers] == [layer.name for layer in layers]
    assert layers[1].precision == ("f32" if version.startswith("11") else "int8")
    assert trtexec.log((bench.out / timed["log"]).read_text()).managed_bytes == 5 * trtexec.MIB


def test_the_engine_lies_under_its_name_with_its_description(bench: Bench) -> None:
    plan = bench.plan(bench.net("net", "f16"))
    result = bench.run(version="10.3.0", gpu="Orin", multiprocessors=8)
    wanted = Wanted(model_sha256=plan.engines[0].sha256, gpu="Orin", sm="8.7", multiprocessors=8,
                    tensorrt="10.3.0", flags=(
                        "--profilingVerbosity=detailed", "--skipInference", "--memPoolSize=workspace:1024",
                        "--stronglyTyped"))
    path = Path(result["passes"]["build"]["deployed-net"]["engine"])
    assert path.name == engine_name("deployed-net", wanted)
    sidecar = read_sidecar(path)
    assert refusal(sidecar, wanted, sha256(path)) is None
    assert sidecar.engine_bytes == path.stat().st_size
    assert {p.name for p in path.parent.iterdir()} == {
        path.name, f"{path.name}.json", "orin-sm87x8.trt10.3.0.timing.cache"}


def test_a_chain_of_stages_and_repeated_steps(bench: Bench) -> None:
    """x -> 2x, then three times h -> h/2 + t with t = 0, 1, 2, then twice h -> 3h: 9 (2x/8 + 1/2 + 2)."""
    bench.plan(bench.net("stem"), bench.net("step", scale=0.5, repeat=3, times=(0.0, 1.0, 2.0)),
               bench.net("head", scale=3.0, repeat=2))
    bench.job["samples"] = 100
    result = bench.run()
    np.testing.assert_allclose(np.load(bench.out / "outputs.npy"), 9 * (bench.inputs / 4 + 2.5), rtol=1e-5)
    assert result["passes"]["outputs"]["deployed"]["n"] == 3
    assert set(result["passes"]["latency"]) == {"deployed-stem", "deployed-step", "deployed-head"}   # each once


def test_few_samples_of_a_long_chain(bench: Bench) -> None:
    bench.plan(bench.net("step", scale=1.0, repeat=33))
    bench.job.update(samples=3, passes=["outputs"])
    assert bench.run()["passes"]["outputs"]["deployed"]["n"] == 1


def test_batches_are_filled_and_cut(bench: Bench) -> None:
    bench.plan(bench.net("net", shape=(2, 4)))
    bench.job.update(samples=3, passes=["outputs"])
    bench.run()
    np.testing.assert_array_equal(np.load(bench.out / "outputs.npy"), 2 * bench.inputs)
    assert sum("--exportOutput" in word for call in bench.calls() for word in call) == 2


def test_an_engine_is_used_again(bench: Bench) -> None:
    bench.plan(bench.net("net"))
    bench.job["passes"] = ["latency"]
    bench.run()
    result = bench.run()
    assert result["passes"]["build"]["deployed-net"]["reused"]
    assert bench.builds() == 1


def engine_of(result: dict[str, Any]) -> Path:
    return Path(result["passes"]["build"]["deployed-net"]["engine"])


@pytest.mark.parametrize("change", [{"version": "8.6.2"}, {"gpu": "Xavier"}, {"multiprocessors": 16}])
def test_on_another_board_it_is_built_again(change: dict[str, Any], bench: Bench) -> None:
    bench.plan(bench.net("net"))
    bench.job["passes"] = ["latency"]
    first = engine_of(bench.run())
    again = bench.run(**change)
    assert not again["passes"]["build"]["deployed-net"]["reused"]
    assert engine_of(again) != first
    assert bench.builds() == 2


def test_a_stale_engine_under_the_right_name_is_built_again(bench: Bench) -> None:
    """As when folders of engines are copied from board to board by hand."""
    bench.plan(bench.net("net"))
    bench.job["passes"] = ["latency"]
    path = engine_of(bench.run(gpu="Orin"))
    for name, text, why in (
            (f"{path.name}.json", path.with_name(f"{path.name}.json").read_text().replace("8.6.1", "8.5.2"),
             "it was built by TensorRT 8.5.2, this is 8.6.1"),
            (f"{path.name}.json", "{", "there is no readable description beside it"),
            (path.name, "cut off", "the file is damaged: it is not the one that was built")):
        path.with_name(name).write_text(text)
        told = bench.run(gpu="Orin")["passes"]["build"]["deployed-net"]
        assert (told["reused"], told["why"]) == (False, why)
        assert refusal(read_sidecar(path), read_sidecar(path), sha256(path)) is None


@pytest.mark.parametrize(("change", "why"), [
    ({"gpu": "Xavier"}, "it was built on Orin, this GPU is Xavier"),
    ({"sm": "7.2"}, "it was built for SM 8.7, this GPU has SM 7.2"),
    ({"version": "8.5.2"}, "it was built by TensorRT 8.6.1, this is 8.5.2")])
def test_a_foreign_engine_that_was_brought_along_is_never_loaded(change: dict[str, Any], why: str,
                                                                 bench: Bench) -> None:
    bench.plan(bench.net("net"))
    bench.job["passes"] = ["latency"]
    path = engine_of(bench.run(gpu="Orin"))
    bench.log.unlink()
    bench.job["prebuilt"] = {"deployed-net": str(path)}
    assert bench.refused("engine", **{"gpu": "Orin", **change}).endswith(f"is refused: {why}")
    assert len(bench.calls()) == 1                   # the probe, whose engine does not exist
    assert "no such.engine" in bench.calls()[0][0]
    assert bench.run(gpu="Orin")["passes"]["build"]["deployed-net"] == {
        "engine": str(path), "reused": True, "bytes": path.stat().st_size}


def test_a_build_that_fails_is_told_in_one_line(bench: Bench) -> None:
    bench.plan(bench.net("net"))
    assert "Internal Error (Assertion engine != nullptr failed. ); Engine set up failed" in bench.refused(
        "build", fail="build")
    assert (bench.out / "deployed-net.build.log").is_file()
    assert not list(Path(bench.job["engines"]).glob("*.engine"))


def test_a_form_beside_it_that_fails_is_left_out(bench: Bench) -> None:
    bench.plan(bench.net("net"), bench.net("other", "int8", "int8 unrolled", scale=7.0),
               bench.net("third", "f16", "f16 unrolled"))
    result = bench.run(fail="build", only='"scale": 7.0')
    assert result["left_out"]["int8 unrolled"]["kind"] == "build"
    assert set(result["passes"]["latency"]) == {"deployed-net", "f16-unrolled-third"}


@pytest.mark.parametrize("what", ["time", "profile", "output"])
def test_a_run_that_fails_keeps_what_was_done_before(what: str, bench: Bench) -> None:
    bench.plan(bench.net("net"))
    bench.refused("run", fail=what)
    done = {"output": set(), "time": {"outputs"}, "profile": {"outputs", "latency"}}[what]
    assert set(bench.result()["passes"]) == {"build"} | done


def test_an_export_that_is_cut_off_is_refused(bench: Bench) -> None:
    bench.plan(bench.net("net"))
    assert "is no output as trtexec exports it" in bench.refused("run", damage="output")


def test_a_command_that_never_ends_is_ended(bench: Bench) -> None:
    bench.plan(bench.net("net"), build_timeout_s=0.3)
    started = time.monotonic()
    assert "ended after 0.3 s; see deployed-net.build.log" in bench.refused("timeout", hang="build")
    assert time.monotonic() - started < 20


def test_trtexec_ends_with_the_payload(bench: Bench) -> None:
    bench.plan(bench.net("net"))
    write_json(bench.folder / "job.json", bench.job)
    child = subprocess.Popen([sys.executable, str(bench.payload), str(bench.folder / "job.json")],
                             env=bench.environment({"hang": "build"}), stdout=subprocess.PIPE)
    log = bench.out / "deployed-net.build.log"
    deadline = time.monotonic() + 20
    while (not log.is_file() or len(bench.calls()) < 2) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=20) == 128 + signal.SIGTERM
    assert child.stdout is not None
    child.stdout.close()
    running = [p for p in Path("/proc").glob("[0-9]*/cmdline") if cmdline(p).count(str(bench.folder))]
    assert running == []


def cmdline(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:                                  # it ended meanwhile
        return ""


def test_no_trtexec(bench: Bench) -> None:
    bench.plan(bench.net("net"))
    bench.job["trtexec"] = str(bench.folder / "none")
    assert "is not installed" in bench.refused("missing")


def test_trtexec_is_found_on_the_path(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.plan(bench.net("net"))
    bench.job.update(trtexec="", passes=[])
    monkeypatch.setenv("PATH", f"{bench.trtexec.parent}{os.pathsep}{os.environ['PATH']}")
    assert bench.run()["trtexec"] == str(bench.trtexec)


def test_a_version_that_is_too_old(bench: Bench) -> None:
    bench.plan(bench.net("net"))
    assert bench.refused("version", version="8.0.1") == "TensorRT 8.0.1: is older than any the plan is for"


def test_no_gpu(bench: Bench) -> None:
    bench.plan(bench.net("net"))
    assert "does not find a GPU: Cuda failure" in bench.refused("run", fail="device")


def test_a_model_that_is_not_the_plans(bench: Bench) -> None:
    bench.plan(bench.net("net"))
    bench.net("net", scale=9.0)
    assert "not the file that the plan is for" in bench.refused("input")


@pytest.mark.parametrize(("array", "why"), [
    (np.zeros((3, 5), np.float32), "has samples of [5], but deployed-net takes [4]"),
    (np.zeros((3, 4)), "its values are <f8"), (np.zeros((0, 4), np.float32), "its shape is (0, 4)"),
    (np.asfortranarray(np.zeros((3, 4), np.float32)), "is no float32 .npy"), (np.float32(3), "does not hold")])
def test_inputs_that_do_not_fit(array: Any, why: str, bench: Bench) -> None:
    bench.plan(bench.net("net"))
    np.save(bench.job["inputs"], array)
    assert why in bench.refused("input")


@pytest.mark.parametrize("damage", [b"", b"text", b"\x93NUMPY\x01\x00\xff", b"\x93NUMPY\x01\x00\x02\x00({"])
def test_inputs_that_are_damaged(damage: bytes, bench: Bench) -> None:
    bench.plan(bench.net("net"))
    Path(bench.job["inputs"]).write_bytes(damage)
    assert "is no float32 .npy file" in bench.refused("input")


def test_inputs_that_are_cut_off(bench: Bench) -> None:
    bench.plan(bench.net("net"))
    path = Path(bench.job["inputs"])
    path.write_bytes(path.read_bytes()[:-4])
    assert "does not hold whole samples" in bench.refused("input")


def test_no_plan(bench: Bench) -> None:
    Path(bench.job["plan"]).write_text("[]")
    assert "is no plan" in bench.refused("input")


@pytest.fixture
def beside(bench: Bench) -> Bench:
    """The payload copied to a folder, as it is on a board."""
    folder = bench.folder / "board"
    folder.mkdir()
    shutil.copy(bench.payload, folder)
    bench.payload = folder / "tensorrt.py"
    bench.job.update(idle_s=0.3, passes=["latency"])
    return bench


def test_power_is_recorded_beside_the_timed_run(beside: Bench) -> None:
    shutil.copy(PAYLOADS / "sense.py", beside.payload.parent)
    beside.plan(beside.net("net"))
    told = beside.run(lasts_s=0.3)["passes"]["latency"]["deployed-net"]
    assert told["power_problem"] == ""
    lines = [json.loads(line) for line in (beside.out / told["power"]).read_text().splitlines()]
    windows = {line["text"]: line["values"] for line in lines if line["kind"] == "window"}
    idle, timed = windows["idle"], windows["timed"]
    assert idle["end_s"] - idle["start_s"] >= 0.3
    assert timed["start_s"] >= idle["end_s"]
    assert timed["end_s"] - timed["start_s"] == pytest.approx(0.3, abs=0.1)
    assert timed["inferences"] == 20
    assert lines[-1]["kind"] == "end"


def test_without_the_recorder_the_rest_is_done(beside: Bench) -> None:
    beside.plan(beside.net("net"))
    told = beside.run()["passes"]["latency"]["deployed-net"]
    assert told["power"] is None
    assert "sense.py" in told["power_problem"]
    assert told["window"][2] == 20


def test_the_power_mode_is_kept_as_it_is_printed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.plan(bench.net("net"))
    bench.job["passes"] = []
    tools = bench.folder / "tools"
    tools.mkdir()
    (tools / "nvpmodel").write_text('#!/bin/sh\necho "NV Power Mode: 15W"\necho "$1"\n')
    (tools / "nvpmodel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    assert bench.run()["nvpmodel"] == "NV Power Mode: 15W\n-q\n"


def test_all_commands_are_kept(bench: Bench) -> None:
    bench.plan(bench.net("net"))
    result = bench.run()
    assert [command[1:] for command in result["commands"]] == bench.calls()
    assert not any("{" in word for command in result["commands"] for word in command)
