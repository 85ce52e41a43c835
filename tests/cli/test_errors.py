"""A user's mistake is one line on stderr with the next command, the documented exit code, and no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BOARD = """
name = "my-board"
description = "a board on my desk"
target = "rpi4"
kind = "simulated"
runner = "qemu_user"
[options]
cpu = "cortex-a72"
"""
FIGURE = '{ value = 1.0e9, kind = "published", source = "data sheet" }'
TARGET = f"""
name = "mine"
description = "my part"
part = "X"
backends = ["tflite"]
precisions = ["int8"]
[memories]
dram_bytes = {FIGURE}
"""


def hwkit(*words: str, cwd: Path, code: int) -> subprocess.CompletedProcess[str]:
    """Run the command; assert the exit code and that nothing but one line was said about the error."""
    done = subprocess.run([sys.executable, "-m", "hwkit", *words], cwd=cwd, timeout=120,
                          capture_output=True, text=True)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    if code:
        said = [line for line in done.stderr.splitlines() if line.startswith("hwkit: ")]
        assert len(said) == 1, done.stderr
        assert " -> " in said[0], said     # the next command
    return done


@pytest.mark.parametrize(("words", "code", "expected"), [
    (["deply"], 2, "no verb named 'deply'; nearest: deploy"),
    (["deploy", "dsodenet"], 2, "Missing option '--target'"),
    (["deploy", "--target", "rpi5x", "dsodenet"], 2, "no target named 'rpi5x'; nearest: rpi5"),
    (["deploy", "--target", "rpi4", "--board", "qemu-rpi", "dsodenet"], 2, "no board named 'qemu-rpi'"),
    (["deploy", "--target", "rpi4", "--board", "host", "dsodenet"], 2, "board host is a host, not a rpi4"),
    (["check", "--target", "rpi4", "dsodnet"], 2, "dsodenet"),
    (["check", "--target", "rpi4", ""], 2, "model's name is empty"),
    (["check", "--target", "rpi4", "no/such/file.onnx"], 2, "there is no folder no/such"),
    (["check", "--target", "rpi4", "dsodenet", "--dataset", "mnits"], 2, "mnist"),
    (["check", "--target", "rpi4", "dsodenet", "--precision", "int9"], 2, "int8"),
    (["check", "--target", "rpi4", "dsodenet", "--set", "golden"], 2, "not KEY=VALUE"),
    (["check", "--target", "rpi4", "dsodenet", "--set", "goldn=3"], 2, "golden"),
    (["check", "--target", "rpi4", "dsodenet", "--data", "x.npz"], 2, "no such file"),
    (["check", "--target", "rpi4", "resnet8", "--input-shape", "1,-2"], 2, "not positive whole numbers"),
    (["deploy", "--target", "rpi4", "dsodenet", "--budget", "b.toml"], 2, "no such file"),
    (["run", "nowhere"], 2, "is not an artifact"),
    (["report", "nowhere"], 2, "no report here"),
    (["report"], 2, "name at least one"),
    (["list", "target"], 2, "nearest: targets"),
    (["board", "make", "qemu-rpi6"], 2, "no board named 'qemu-rpi6'; nearest: qemu-rpi"),
])
def test_wrong_words(words: list[str], code: int, expected: str, tmp_path: Path) -> None:
    assert expected in hwkit(*words, cwd=tmp_path, code=code).stderr
    assert list(tmp_path.iterdir()) == []            # nothing half-written


@pytest.mark.parametrize(("old", "new", "expected"), [
    ("kind = ", "kin = ", "kin: unknown key; did you mean 'kind'?"),
    ('kind = "simulated"', 'kind = "real"', "kind: input should be 'measured' or 'simulated'"),
    ('description = "a board on my desk"', 'description = ""', "description: must not be empty"),
    ('target = "rpi4"', "target = 4", "target: input should be a valid string"),
    ('name = "my-board"', 'name = "other"', "name: is 'other', but it stands where 'my-board' is looked up"),
    ('runner = "qemu_user"', "", "runner: missing"),
    ('[options]', "[options", "not valid TOML"),
])
def test_a_wrong_board_file(old: str, new: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "my-board.toml").write_text(BOARD.replace(old, new))
    said = _refused(tmp_path, "boards")
    assert expected in said
    assert "my-board.toml" in said


@pytest.mark.parametrize(("old", "new", "expected"), [
    ("dram_bytes", "dram_mb", "memories.dram_mb: unknown key; did you mean 'dram_bytes'?"),
    ('source = "data sheet"', 'source = ""', "memories.dram_bytes.source: must not be empty"),
    ('source = "data sheet"', 'source = "  "', "memories.dram_bytes.source: must not be empty"),
    (FIGURE, "1e9", "memories.dram_bytes: input should be"),
    ('kind = "published"', 'kind = "known"', "memories.dram_bytes.kind: input should be"),
    ("value = 1.0e9", "value = nan", "memories.dram_bytes.value: input should be a finite number"),
])
def test_a_wrong_target_file(old: str, new: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "targets" / "mine").mkdir(parents=True)
    (tmp_path / "targets" / "mine" / "target.toml").write_text(TARGET.replace(old, new))
    assert expected in _refused(tmp_path, "targets")


def _refused(folder: Path, noun: str) -> str:
    done = subprocess.run([sys.executable, "-m", "hwkit", "list", noun], cwd=folder, timeout=60,
                          capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_a_made_up_board_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "my-board.toml").write_text(BOARD)
    rows = json.loads(hwkit("list", "boards", "--json", cwd=tmp_path, code=0).stdout)
    assert "my-board" in {row["name"] for row in rows}
    assert len(rows) > 1                              # beside the shipped ones


def test_a_made_up_target_is_one_folder(tmp_path: Path) -> None:
    (tmp_path / "targets" / "mine").mkdir(parents=True)
    (tmp_path / "targets" / "mine" / "target.toml").write_text(TARGET)
    rows = json.loads(hwkit("list", "targets", "--json", cwd=tmp_path, code=0).stdout)
    assert {"mine", "rpi4"} <= {row["name"] for row in rows}


def test_json_tells_the_error_too(tmp_path: Path) -> None:
    for words in (["report", "nowhere"], ["check", "--target", "rpi4"], ["deply"]):
        told = json.loads(hwkit(*words, "--json", cwd=tmp_path, code=2).stdout)["error"]
        assert told["exit_code"] == 2
        assert told["hint"]


def test_help_needs_no_heavy_library() -> None:
    heavy = ("torch", "numpy", "onnx", "pydantic", "tensorflow", "rich")
    program = ("import sys; sys.argv = ['hwkit', '--help']\n"
               "from hwkit.cli import main\n"
               "try:\n    main()\nexcept SystemExit:\n    pass\n"
               f"print([m for m in {heavy} if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("noun", ["targets", "boards", "backends", "networks", "datasets", "runners", "passes"])
def test_list_and_its_json_name_the_same_things(noun: str, tmp_path: Path) -> None:
    rows = json.loads(hwkit("list", noun, "--json", cwd=tmp_path, code=0).stdout)
    text = hwkit("list", noun, cwd=tmp_path, code=0).stdout
    assert all(row["name"] in text and row["about"] for row in rows)
    if noun != "passes":
        assert rows
