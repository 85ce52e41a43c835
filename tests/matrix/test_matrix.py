"""A matrix loses nothing and does nothing twice. Builds and boards are stand-ins (tests/matrix/standins.py)."""

from __future__ import annotations

import _thread
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hwkit.errors import BadDescription, BadInput, BoardFault, JobFailed, NoSpace, UnknownName
from hwkit.faults import Fault
from hwkit.files import sha256
from hwkit.matrix import journal, work
from hwkit.matrix.cells import Matrix, cells_of, read
from hwkit.matrix.standing import Outcome, Standing
from hwkit.process import run as run_process
from tests.matrix.standins import BOARDS, MODELS, Bench, describe_boards, small


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    describe_boards(tmp_path / "own")
    monkeypatch.setenv("HWKIT_PATH", str(tmp_path / "own"))
    made = Bench()
    made.install(monkeypatch.setattr)
    return made


def execute(folder: Path, again: bool = False, **changes: Any) -> Standing:
    standing, _ = work.execute(small(**changes), folder, again, "hwkit matrix", lambda text: None)
    return standing


def of(standing: Standing, name: str) -> Outcome:
    return next(c for c in standing.cells if c.cell == name)


def records(folder: Path) -> list[journal.Record]:
    return [journal.Record.model_validate_json(line)
            for line in (folder / work.JOURNAL).read_bytes().splitlines()]


def reports(folder: Path) -> dict[str, str]:
    """Cell -> digest of its report."""
    below = folder / "cells"
    found = {str(p.parent.relative_to(below)): sha256(p) for p in below.glob("*/*/*/report.json")}
    assert found
    return found


# what is done

def test_every_cell_runs_once_and_every_artifact_is_built_once(bench: Bench, tmp_path: Path) -> None:
    standing = execute(tmp_path / "m")
    assert standing.exit_code == 0
    assert {c.state for c in standing.cells} == {"finished"}
    assert Counter(bench.runs) == {(m, p, b): 1 for m in MODELS for p in ("int8", "f32") for b in BOARDS}
    assert bench.builds == {f"{m}/{p}/{t}": 1 for m in MODELS for p in ("int8", "f32") for t in ("rpi4", "rpi5")}
    told = json.loads((tmp_path / "m" / "matrix.json").read_text())
    assert Standing.model_validate(told) == standing
    page = (tmp_path / "m" / "matrix.md").read_text()
    assert page.count("| finished |") == 24
    assert "sim." in page                                  # a number never goes without its kind
    assert "**24 of 24 cells finished**" in page


def test_boards_run_at_once_and_the_cells_of_one_in_order(bench: Bench, tmp_path: Path) -> None:
    meet = threading.Barrier(3)
    for board in BOARDS:
        bench.script[MODELS[0], "int8", board] = [lambda: meet.wait(20)]      # broken unless all three are there
    assert execute(tmp_path / "m").exit_code == 0
    for board in BOARDS:
        in_order = [(m, p, board) for m in MODELS for p in ("int8", "f32")]
        assert [run for run in bench.runs if run[2] == board] == in_order


def test_boards_that_are_this_machine_come_last_and_alone(bench: Bench, tmp_path: Path) -> None:
    for name in ("bench-b", "bench-c"):
        path = tmp_path / "own" / "boards" / f"{name}.toml"
        path.write_text(path.read_text().replace("simulated", "measured"))
    bench.seconds = 0.005
    assert execute(tmp_path / "m").exit_code == 0
    assert [b for _, _, b in bench.runs] == ["bench-a"] * 8 + ["bench-b"] * 8 + ["bench-c"] * 8
    assert all(len(together) == 1 for together in bench.at_once)


def test_one_cell_over_budget_makes_exit_code_1(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text("[memory]\nflash_bytes = 2000\n[target.rpi5.memory]\nflash_bytes = 10\n")
    standing = execute(tmp_path / "m", budget=tmp_path / "b.toml")
    assert standing.exit_code == 1
    assert {c.board for c in standing.cells if c.exit_code == 1} == {"bench-c"}
    assert "OVER BUDGET: memory.flash_bytes" in of(standing, "dsodenet/int8/bench-c").verdict


# what goes wrong

def test_a_transient_fault_is_tried_again(bench: Bench, tmp_path: Path) -> None:
    bench.script["resnet8", "f32", "bench-b"] = [BoardFault(Fault.LINK_DROPPED, "cut"),
                                                 BoardFault(Fault.THROTTLED, "too hot")]
    standing = execute(tmp_path / "m")
    assert standing.exit_code == 0
    assert of(standing, "resnet8/f32/bench-b").attempts == 3
    own = [r for r in records(tmp_path / "m") if r.cell == "resnet8/f32/bench-b"]
    assert [(r.event, r.attempt, r.fault) for r in own[1:]] == [
        ("attempt", 1, None), ("failed", 1, Fault.LINK_DROPPED), ("attempt", 2, None),
        ("failed", 2, Fault.THROTTLED), ("attempt", 3, None), ("finished", 3, None)]
    assert all(r.transient and r.wait_s for r in own if r.event == "failed")


@pytest.mark.parametrize(("error", "fault"), [
    (BoardFault(Fault.OUT_OF_MEMORY, "too big for it"), Fault.OUT_OF_MEMORY),
    (JobFailed("the program died"), Fault.PROCESS_FAILED),
    (BadInput("needs a newer runtime", "update it"), None)])
def test_a_permanent_fault_is_the_result_of_its_cell(bench: Bench, tmp_path: Path, error: Any,
                                                     fault: Fault | None) -> None:
    cell = ("resnet8", "int8", "bench-a")
    bench.script[cell] = [error]
    standing = execute(tmp_path / "m")
    assert bench.runs.count(cell) == 1
    found = of(standing, "/".join(cell))
    assert (found.state, found.fault, found.message) == ("failed", fault, error.message)
    assert standing.exit_code == error.exit_code
    assert sum(c.state == "finished" for c in standing.cells) == 23

    again = execute(tmp_path / "m")                        # the next invocation tries it, and nothing else
    assert again.exit_code == 0
    assert bench.runs.count(cell) == 2
    assert len(bench.runs) == 25
    assert of(again, "/".join(cell)).earlier is False


def test_a_model_that_cannot_be_built_costs_no_run(bench: Bench, tmp_path: Path) -> None:
    standing = execute(tmp_path / "m", precisions=["int3", "int8"])
    assert standing.exit_code == 2
    assert Counter(c.state for c in standing.cells) == {"not built": 12, "finished": 12}
    assert bench.builds["dsodenet/int3/rpi4"] == 1         # two boards have this target
    assert all(p == "int8" for _, p, _ in bench.runs)


def test_a_board_that_is_lost_for_good_is_given_up_alone(bench: Bench, tmp_path: Path) -> None:
    execute(tmp_path / "m", models=MODELS[2:3])            # so that some of its cells are finished already
    bench.runs.clear()
    bench.script["resnet8", "int8", "bench-a"] = [BoardFault(Fault.BOARD_LOST, "no power", "switch it on")] * 4
    standing = execute(tmp_path / "m")
    states = Counter((c.board, c.state) for c in standing.cells)
    assert states == {("bench-a", "finished"): 4, ("bench-a", "failed"): 1, ("bench-a", "not run"): 3,
                      ("bench-b", "finished"): 8, ("bench-c", "finished"): 8}
    assert Counter(b for _, _, b in bench.runs)["bench-a"] == 2 + 4      # the lost cell: once, and three retries
    last = of(standing, "mobilenet_v2/f32/bench-a")
    assert (last.state, last.fault, last.attempts) == ("not run", Fault.BOARD_LOST, 0)
    assert "no power" in last.message
    assert standing.exit_code == 4
    assert "20 of 24 cells finished; the same command" in (tmp_path / "m" / "matrix.md").read_text()
    assert execute(tmp_path / "m").exit_code == 0          # the board is back


def test_a_bug_is_noted_and_not_swallowed(bench: Bench, tmp_path: Path) -> None:
    bench.script["resnet8", "int8", "bench-b"] = [KeyError("no such thing")]
    with pytest.raises(KeyError, match="no such thing"):
        execute(tmp_path / "m")
    assert any(r.event == "failed" and r.message.startswith("KeyError") for r in records(tmp_path / "m"))
    before = {r.cell for r in records(tmp_path / "m") if r.event == "finished"}
    assert before
    bench.runs.clear()
    assert execute(tmp_path / "m").exit_code == 0
    assert not before & {"/".join(run) for run in bench.runs}


def test_a_full_disk_here_is_not_the_fault_of_a_cell(bench: Bench, tmp_path: Path) -> None:
    bench.script["dsodenet", "int8", "bench-b"] = [NoSpace("cannot write: the disk is full")]
    with pytest.raises(NoSpace):
        execute(tmp_path / "m")


# going on

def test_what_is_finished_is_not_done_again(bench: Bench, tmp_path: Path) -> None:
    first = execute(tmp_path / "m")
    before = reports(tmp_path / "m")
    bench.runs.clear()
    second = execute(tmp_path / "m")
    assert bench.runs == []
    assert reports(tmp_path / "m") == before
    assert all(c.earlier for c in second.cells)
    assert [c.model_copy(update={"earlier": False}) for c in second.cells] == list(first.cells)


def test_another_request_another_board_or_another_package_is_done_again(
        bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(tmp_path / "m")
    bench.runs.clear()
    execute(tmp_path / "m", request={"threads": 4})
    assert len(bench.runs) == 24
    bench.runs.clear()
    path = tmp_path / "own" / "boards" / "bench-c.toml"
    path.write_text(path.read_text() + "[options]\ntimeout_s = 5\n")
    execute(tmp_path / "m", request={"threads": 4})
    assert {b for _, _, b in bench.runs} == {"bench-c"}
    bench.runs.clear()
    monkeypatch.setattr("hwkit.pipeline._package_digest", lambda: "another")
    execute(tmp_path / "m", request={"threads": 4})
    assert len(bench.runs) == 24


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_a_report_that_is_not_whole_is_made_again(bench: Bench, tmp_path: Path, harm: str) -> None:
    execute(tmp_path / "m")
    before = reports(tmp_path / "m")
    report = tmp_path / "m" / "cells" / "ds_cnn" / "f32" / "bench-a" / "report.json"
    if harm == "gone":
        report.unlink()
    else:
        report.write_bytes(report.read_bytes()[:-10])
    bench.runs.clear()
    execute(tmp_path / "m")
    assert bench.runs == [("ds_cnn", "f32", "bench-a")]
    assert reports(tmp_path / "m") == before


def test_again_does_all_anew_and_goes_on_where_that_ended(bench: Bench, tmp_path: Path) -> None:
    execute(tmp_path / "m")
    bench.script["resnet8", "int8", "bench-b"] = [KeyError("stop here")]
    bench.runs.clear()
    with pytest.raises(KeyError):
        execute(tmp_path / "m", again=True)
    assert sum(r.event == "finished" for r in records(tmp_path / "m")) < 48
    execute(tmp_path / "m")
    assert set(Counter(r.cell for r in records(tmp_path / "m") if r.event == "finished").values()) == {2}
    raw = list((tmp_path / "m").glob("cells/*/*/*/runs/*/*.json"))
    assert len(raw) == 48                                  # raw samples are never overwritten


def test_a_matrix_may_grow_but_not_become_another(bench: Bench, tmp_path: Path) -> None:
    execute(tmp_path / "m", boards=["bench-a"])
    bench.runs.clear()
    execute(tmp_path / "m")
    assert {b for _, _, b in bench.runs} == {"bench-b", "bench-c"}
    before = (tmp_path / "m" / work.JOURNAL).read_bytes()
    with pytest.raises(BadInput, match=r"holds another matrix: this one has no cell .*bench-c"):
        execute(tmp_path / "m", boards=["bench-a", "bench-b"])
    with pytest.raises(BadInput, match="holds another matrix"):
        execute(tmp_path / "m", models=[{"model": "odenet", "name": m} for m in MODELS])
    assert (tmp_path / "m" / work.JOURNAL).read_bytes() == before


def test_a_folder_of_others_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    with pytest.raises(BadInput, match="holds files that are not a matrix's"):
        execute(tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]


def test_a_second_process_on_the_same_folder_is_refused(bench: Bench, tmp_path: Path) -> None:
    refused: list[str] = []

    def second() -> None:
        with pytest.raises(BadInput) as caught:
            execute(tmp_path / "m")
        refused.append(caught.value.line())

    bench.script["dsodenet", "int8", "bench-a"] = [second]
    assert execute(tmp_path / "m").exit_code == 0
    assert len(refused) == 1
    assert "another hwkit is at work" in refused[0]


# ending in the middle

def test_ctrl_c_ends_what_every_board_does_and_the_rest_stays_open(bench: Bench, tmp_path: Path) -> None:
    """Three boards: one waits for a real program, one says something now and then, one waits before a retry."""
    def talk() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            time.sleep(0.01)
            matrix_say("still here")

    def program() -> None:
        run_process([sys.executable, "-c", f"import os,time; open({str(tmp_path / 'pid')!r},'w').write("
                     "str(os.getpid())); time.sleep(60)"], timeout_s=90, what="a long program")

    plain_run = bench.run

    def run(artifact: Any, board: Any, request: Any, say: Any) -> Any:
        nonlocal matrix_say
        if board.name == "bench-b":
            matrix_say = say
        return plain_run(artifact, board, request, say)

    matrix_say: Any = None
    bench.run = run                                        # type: ignore[method-assign]
    bench.script["resnet8", "int8", "bench-a"] = [program]
    bench.script["resnet8", "int8", "bench-b"] = [talk]
    bench.script["resnet8", "int8", "bench-c"] = [BoardFault(Fault.BUSY, "someone else measures")]

    def press() -> None:
        while not (tmp_path / "pid").exists() or len(bench.runs) < 9:
            time.sleep(0.01)
        time.sleep(0.1)
        _thread.interrupt_main()

    threading.Thread(target=press, daemon=True).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        execute(tmp_path / "m", retries={"limit": 3, "first_s": 100, "longest_s": 100})
    assert time.monotonic() - begun < 15
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()
    told = Standing.model_validate_json((tmp_path / "m" / "matrix.json").read_bytes())
    assert Counter(c.state for c in told.cells) == {"finished": 6, "open": 18}
    assert records(tmp_path / "m")[-1].event == "interrupted"
    bench.runs.clear()
    bench.script.clear()
    assert execute(tmp_path / "m").exit_code == 0
    assert len(bench.runs) == 18


def test_torn_anywhere_the_journal_brings_the_same_reports(bench: Bench, tmp_path: Path) -> None:
    execute(tmp_path / "whole")
    data, before = (tmp_path / "whole" / work.JOURNAL).read_bytes(), reports(tmp_path / "whole")
    for length in range(0, len(data), len(data) // 4):
        shutil.copytree(tmp_path / "whole", tmp_path / "torn")
        (tmp_path / "torn" / work.JOURNAL).write_bytes(data[:length])
        bench.runs.clear()
        execute(tmp_path / "torn")
        assert len(bench.runs) == 24 - data[:length].rpartition(b"\n")[0].count(b'"event": "finished"')
        assert reports(tmp_path / "torn") == before
        shutil.rmtree(tmp_path / "torn")


def test_killed_at_any_moment_it_loses_no_cell_and_doubles_none(bench: Bench, tmp_path: Path) -> None:
    """SIGKILL at random moments of a matrix of 24 cells on boards that also fail now and then."""
    execute(tmp_path / "undisturbed")
    seeds = [str(seed) for seed in range(1, 5)]
    done = subprocess.run([sys.executable, "-m", "tests.matrix.standins", str(tmp_path), *seeds], text=True,
                          capture_output=True, timeout=300, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [str(t["seed"]) for t in told] == seeds
    print(done.stdout)
    assert sum(t["kills"] for t in told) >= 8
    assert len({n for t in told for n in t["finished"]}) >= 5        # they hit early and late
    for seed in seeds:
        folder = tmp_path / seed
        assert reports(folder) == reports(tmp_path / "undisturbed")
        finished = Counter(r.cell for r in records(folder) if r.event == "finished")
        assert finished == {f"{m}/{p}/{b}": 1 for m in MODELS for p in ("int8", "f32") for b in BOARDS}
        over: set[str] = set()
        for record in records(folder):
            assert record.event not in ("started", "attempt") or record.cell not in over
            over |= {record.cell} if record.event == "finished" else set()
        assert [p.name for p in folder.rglob(".*")] == []             # no half-written file is left
        standing = Standing.model_validate_json((folder / "matrix.json").read_bytes())
        assert {c.state for c in standing.cells} == {"finished"}
        page = (folder / "matrix.md").read_text()
        assert page.count("| finished") == 24


# its file

FILE = """
models = ["dsodenet@digits", {model = "nets/own.tflite", precisions = []}, {model = "f.py:build", name = "mine"}]
precisions = ["int8", "f32"]
boards = ["bench-a", "bench-c"]
budget = "b.toml"
[request]
duration_s = 0.5
[retries]
limit = 1
"""


@pytest.fixture
def file(bench: Bench, tmp_path: Path) -> Path:
    (tmp_path / "there" / "nets").mkdir(parents=True)
    (tmp_path / "there" / "nets" / "own.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 40)
    (tmp_path / "there" / "f.py").write_text("def build(): ...\n")
    (tmp_path / "there" / "nightly.toml").write_text(FILE)
    return tmp_path / "there" / "nightly.toml"


def test_paths_in_a_file_are_seen_from_its_folder(file: Path) -> None:
    found = read(file)
    assert found.title == "nightly"
    assert found.budget == file.parent / "b.toml"
    cells = cells_of(found)
    assert [c.name for c in cells if c.board.name == "bench-a"] == [
        "dsodenet-digits/int8/bench-a", "dsodenet-digits/f32/bench-a", "own/default/bench-a",
        "mine/int8/bench-a", "mine/f32/bench-a"]
    own = next(c for c in cells if c.model.label == "own").wanted
    assert own.options == {}                               # a TFLite file is taken as it is
    assert Path(own.model) == file.parent / "nets" / "own.tflite"
    assert {c.wanted.options.get("precision") for c in cells if c.model.label == "mine"} == {"int8", "f32"}


@pytest.mark.parametrize(("old", "new", "said"), [
    ("duration_s", "duration", "request.duration: unknown key; did you mean 'duration_s'"),
    ("limit = 1", "limit = -1", "retries.limit: "),
    ("limit = 1", "first_s = 500.0", "longest_s is shorter than first_s"),
    ('["bench-a", "bench-c"]', "[]", "boards: "),
    ('"mine"', '"a/b"', "a name has letters"),
    ("dsodenet@digits\",", "dsodenet@digits\", 3,", "models.1: ")])
def test_what_is_wrong_in_a_file_is_named(file: Path, old: str, new: str, said: str) -> None:
    file.write_text(FILE.replace(old, new))
    with pytest.raises(BadDescription) as caught:
        read(file)
    assert said in caught.value.line()


def test_what_no_one_knows_is_said_before_anything_is_built(bench: Bench, tmp_path: Path) -> None:
    for changes, error in (({"boards": ["bench-x"]}, UnknownName), ({"models": ["dsodnet"]}, UnknownName),
                           ({"models": ["dsodenet", "dsodenet"]}, BadInput), ({"precisions": ["../x"]}, BadInput),
                           ({"budget": tmp_path / "none.toml"}, BadDescription)):
        with pytest.raises(error):
            execute(tmp_path / "m", **changes)
    assert not (tmp_path / "m").exists()
    assert not bench.builds


def test_a_matrix_without_a_name_is_called_after_what_it_has() -> None:
    assert Matrix.model_validate({"models": ["dsodenet@digits", "a/b.onnx"], "boards": ["x"]}).title == \
        "dsodenet-digits-b-x"
