"""hwkit matrix as a user calls it: a small network really built, and run on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hwkit.matrix import journal
from hwkit.report import read
from tests.commands import HWKIT, alive_in, hwkit
from tests.runners.small_onnx import Net

FILE = """
models = [{ model = "small.onnx", backend = "onnxruntime" }]
precisions = ["f32", "int9"]
boards = ["host"]
[request]
duration_s = 0.05
operators = false
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a matrix file, and what its first run left; int9 is no precision."""
    made = tmp_path_factory.mktemp("matrix")
    net = Net(0)
    net.node("Flatten", net.conv("x", 3, 4), to="y")
    net.save(made / "small.onnx", [1, 3, 8, 8], [1, 256])
    (made / "nightly.toml").write_text(FILE)
    return made


def matrix(folder: Path, *words: str, code: int) -> dict[str, Mapping[str, Any]]:
    """Run nightly.toml; the cells that it tells by their names."""
    done = hwkit("matrix", "nightly.toml", "--json", *words, cwd=folder)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return {c["cell"]: c for c in json.loads(done.stdout)["cells"]}


def test_built_run_and_kept(folder: Path) -> None:
    cells = matrix(folder, code=2)
    assert cells["small/int9/host"]["state"] == "not built"
    assert "int9" in cells["small/int9/host"]["message"]
    good = cells["small/f32/host"]
    assert (good["state"], good["earlier"], good["attempts"]) == ("finished", False, 1)
    out = folder / "hwkit-out" / "matrix" / "nightly"
    (report,) = read(out / good["report"]).reports
    latency = report.find("latency")
    assert latency is not None
    assert latency.kind == good["headlines"]["latency"]["kind"] == "measured"
    assert latency.value == good["headlines"]["latency"]["value"]

    (folder / "nightly.toml").write_text(FILE.replace(', "int9"', ""))
    refused = hwkit("matrix", "nightly.toml", cwd=folder)
    assert "holds another matrix: this one has no cell small/int9/host" in refused.stderr
    (folder / "nightly.toml").write_text(FILE)
    again = matrix(folder, code=2)
    assert again["small/f32/host"] == {**good, "earlier": True}
    assert len(list(out.rglob("runs/host/*.json"))) == 1


def test_ctrl_c_in_a_measurement_leaves_the_cell_open(folder: Path, tmp_path: Path) -> None:
    (folder / "long.toml").write_text(FILE.replace("0.05", "90.0").replace(', "int9"', ""))
    child = subprocess.Popen([*HWKIT, "matrix", "long.toml", "-o", "long"], cwd=folder, text=True,
                             env={**os.environ, "TMPDIR": str(tmp_path)},
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stderr is not None
    for line in child.stderr:
        if "latency" in line:
            break
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Traceback" not in said
    assert "the same command again goes on from here" in said
    assert "hwkit: interrupted" in said
    told = json.loads((folder / "long" / "matrix.json").read_text())
    assert [c["state"] for c in told["cells"]] == ["open"]
    assert json.loads((folder / "long" / "journal.jsonl").read_text().splitlines()[-1])["event"] == "interrupted"
    assert list(tmp_path.glob("hwkit-*")) == []            # the run's folder is gone, and so is its program
    assert not alive_in(tmp_path)


def test_words_that_are_wrong_are_one_line(folder: Path) -> None:
    for words, expected in (
            ([], "no --model, and no matrix file"),
            (["--model", "dsodenet"], "no --board, and no matrix file"),
            (["nightly.toml", "--board", "host"], "--board and a matrix file exclude each other"),
            (["nightly.toml", "--warmup", "5"], "--warmup and a matrix file exclude each other"),
            (["nightli.toml"], "no such file"),
            (["--model", "dsodnet", "--board", "host"], "dsodenet"),
            (["--model", "dsodenet", "--board", "a/b"], "a name has letters"),
            (["--model", "dsodenet", "--board", "hostt"], "no board named 'hostt'; nearest: host")):
        done = hwkit("matrix", *words, cwd=folder)
        assert done.returncode == 2, done.stderr
        said = [line for line in done.stderr.splitlines() if line.startswith("hwkit: ")]
        assert len(said) == 1, done.stderr
        assert expected in said[0]
        assert " -> " in said[0]


def test_a_folder_in_use_is_one_line(folder: Path) -> None:
    with journal.opened(folder / "busy" / "journal.jsonl"):
        done = hwkit("matrix", "nightly.toml", "-o", "busy", cwd=folder)
    assert done.returncode == 2
    assert "hwkit: another hwkit is at work in busy -> wait for it" in done.stderr
