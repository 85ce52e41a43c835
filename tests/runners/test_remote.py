"""Whole runs over real ssh. The board is a stand-in: this machine behind an ssh server of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.artifact import Artifact, StageFile
from hwkit.board import Board
from hwkit.errors import BoardFault
from hwkit.faults import Fault
from hwkit.runners import Request, Run, _remote
from tests import sshd
from tests.commands import hwkit

QUICK = Request(iterations=30, duration_s=0.05)
STAND_IN = Board(name="stand-in", description="this machine, over ssh", target="host", kind="measured",
                 runner="ssh")


def say(text: str) -> None:
    pass


def finding(run: Run, name: str) -> Any:
    return next(f for f in run.findings if f.name == name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    with sshd.running(tmp_path_factory.mktemp("board")) as found:
        yield found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python as a fresh board has it: nothing but the standard library."""
    folder = tmp_path_factory.mktemp("bare") / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python3"


@pytest.fixture(scope="module")
def ran(server: sshd.Sshd, bare: Path, int8_cnn: Callable[[str], Artifact]) -> Run:
    return _remote.run(int8_cnn("host"), STAND_IN, server.place(python=str(bare)), QUICK, "real", say)


def test_it_measures_what_this_machine_measures(ran: Run) -> None:
    latency = next(m for m in ran.measurements if m.quantity == "latency")
    assert latency.kind == "measured"
    assert len(latency.samples) >= 30
    assert latency.conditions["board"] == "stand-in"


def test_the_outputs_that_came_back_are_checked(ran: Run) -> None:
    assert "all 6 are bit-identical" in finding(ran, "outputs as built").text


def test_operators_came_back_too(ran: Run, int8_cnn: Callable[[str], Artifact]) -> None:
    assert len(ran.operator_costs) == len(int8_cnn("host").manifest.built.operators)


def test_a_board_without_the_runtime_gets_it_for_the_run(ran: Run, bare: Path, server: sshd.Sshd) -> None:
    """numpy and the interpreter were pushed: this Python has neither, before and after."""
    assert ran.tool_versions["numpy (board)"]
    for package in ("numpy", "ai_edge_litert"):
        assert subprocess.run([str(bare), "-c", f"import {package}"], capture_output=True).returncode != 0
    assert os.listdir(server.folder / "scratch") == []


def test_how_it_was_reached_is_told(ran: Run, server: sshd.Sshd) -> None:
    text = finding(ran, "board over ssh").text
    assert f"tester@127.0.0.1:{server.port}" in text
    assert "s at work" in text


def test_wrong_outputs_are_found(server: sshd.Sshd, make_artifact: Any, samples: Any) -> None:
    wrong = make_artifact("host", [StageFile(name="cnn", file="cnn_int8.tflite")], inputs=samples,
                          raw_outputs=np.zeros((6, 5), np.int8))
    found = _remote.run(wrong, STAND_IN, server.place(python=sys.executable), QUICK, "real", say)
    assert finding(found, "outputs as built").ok is False


def test_a_model_that_the_runtime_refuses(server: sshd.Sshd, make_artifact: Any, samples: Any, models: Path,
                                          tmp_path: Path) -> None:
    artifact = make_artifact("host", [StageFile(name="cnn", file="cnn_int8.tflite")], inputs=samples,
                             raw_outputs=np.zeros((6, 5), np.int8))
    (artifact.folder / "cnn_int8.tflite").write_bytes(b"not a model")
    with pytest.raises(BoardFault) as caught:
        _remote.run(artifact, STAND_IN, server.place(python=sys.executable), QUICK, "real", say)
    assert caught.value.fault is Fault.PROCESS_FAILED
    assert caught.value.log


def test_another_architecture_is_found_before_anything_is_sent(server: sshd.Sshd,
                                                               int8_cnn: Callable[[str], Artifact]) -> None:
    pi = STAND_IN.model_copy(update={"target": "rpi4"})
    with pytest.raises(BoardFault) as caught:
        _remote.run(int8_cnn("rpi4"), pi, server.place(), QUICK, "real", say)
    assert caught.value.fault is Fault.WRONG_BOARD
    assert "x86_64" in caught.value.message


@pytest.fixture
def lab(server: sshd.Sshd, tmp_path: Path) -> dict[str, str]:
    """The environment of a user whose lab holds the stand-in."""
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards/a-server.toml").write_text(
        'name = "a-server"\ndescription = "x"\ntarget = "host"\nkind = "measured"\nrunner = "ssh"\n')
    place = server.place(python=sys.executable).model_dump(mode="json", exclude_defaults=True)
    file = tmp_path / "lab.toml"
    file.write_text('[boards.mine]\nboard = "a-server"\n' +
                    "".join(f"{key} = {json.dumps(value)}\n" for key, value in place.items()))
    file.chmod(0o600)
    return {"HWKIT_LAB": str(file)}


def test_the_command_line_with_a_board_of_the_lab(lab: dict[str, str], int8_cnn: Callable[[str], Artifact],
                                                  tmp_path: Path) -> None:
    folder = int8_cnn("host").folder
    done = hwkit("run", str(folder), "--board", "mine", "--duration", "0.05", "--json", cwd=tmp_path, env=lab)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)["reports"][0]
    assert report["board"] == "mine"
    assert any(f["name"] == "board over ssh" for f in report["findings"])
    (lab_file,) = lab.values()
    Path(lab_file).chmod(0o644)
    refused = hwkit("run", str(folder), "--board", "mine", cwd=tmp_path, env=lab)
    assert refused.returncode == 2
    assert "chmod 600" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_described_board_that_stands_nowhere(int8_cnn: Callable[[str], Artifact], tmp_path: Path) -> None:
    done = hwkit("run", str(int8_cnn("rpi4").folder), "--board", "rpi4", cwd=tmp_path,
                 env={"HWKIT_LAB": str(tmp_path / "none.toml")})
    assert done.returncode == 3
    assert "none stands in your lab" in done.stderr
