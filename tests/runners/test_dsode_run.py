"""An on-chip engine's driver as it runs on a board, here natively, with the Verilated RTL at the other end."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit import process
from hwkit.artifact import Artifact
from hwkit.board import Board
from hwkit.errors import BadInput, BoardError, JobFailed
from hwkit.runners import Request, Run, _dsode_run
from tests import small_engine

BOARD = Board(name="bench", description="this machine and a simulator", target="zcu104", kind="simulated",
              runner="local")
CHECKS = {"states as built", "results as built", "outputs as built", "outputs = integer reference",
          "stored images", "cycles as scheduled", "images on the board"}
RESULTS = ("result.json", "outputs.npy", "states.npy", "results.npy")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return small_engine.artifact(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def port(artifact: Artifact) -> Iterator[int]:
    with _dsode_run.serving(artifact, lambda _: None) as found:
        yield found


def execute(folder: Path, **env: str) -> list[str]:
    """What a board does: the payload in the folder of its job. Its lines."""
    lines: list[str] = []
    payload = _dsode_run.payload()
    process.run([sys.executable, str(payload), "job.json"], cwd=folder, timeout_s=60, what="driver",
                on_line=lines.append, env=env)
    return lines


@pytest.fixture(scope="module")
def done(artifact: Artifact, port: int, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a job that ran, and its lines."""
    folder = tmp_path_factory.mktemp("job")
    _dsode_run.write_job(artifact, Request(), folder, port=port)
    return folder, execute(folder)


def told(artifact: Artifact, folder: Path) -> Run:
    return _dsode_run.told(artifact, BOARD, Request(), folder)


def verdicts(run: Run) -> dict[str, bool | None]:
    return {f.name: f.ok for f in run.findings}


@pytest.fixture
def changed(artifact: Artifact, tmp_path: Path) -> Callable[..., Artifact]:
    """changed(file, change): the artifact with another content of a file of its driver, which the driver takes."""
    def change(name: str, change: Callable[[bytes], bytes]) -> Artifact:
        copy = Artifact(folder=tmp_path / "changed", manifest=artifact.manifest)
        shutil.copytree(artifact.folder, copy.folder)
        path = copy.path(_dsode_run.DRIVER).with_name(name)
        path.write_bytes(change(path.read_bytes()))
        about = copy.path(_dsode_run.DRIVER).with_name("design.json")
        design = json.loads(about.read_bytes())
        if name in design["sha256"]:
            design["sha256"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
            about.write_text(json.dumps(design))
        return copy
    return change


# ------------------------------------------------------------------ a run

def test_every_bit_is_the_integer_references(artifact: Artifact, done: tuple[Path, list[str]]) -> None:
    run = told(artifact, done[0])
    assert verdicts(run) == dict.fromkeys(CHECKS, True)
    (cycles,) = run.measurements
    assert (cycles.quantity, cycles.kind) == ("cycles", "simulated")
    assert cycles.samples == (float(small_engine.CYCLES),) * len(small_engine.IMAGES)
    assert set(run.not_measured) == {"latency", "energy"}
    assert {"verilator", "numpy (board)", "dsode_driver (board)"} <= set(run.tool_versions)
    assert np.array_equal(np.load(done[0] / "outputs.npy"), small_engine.NETWORK.logits(small_engine.IMAGES))
    assert [line for line in done[1] if not line.startswith("progress: ")] == []
    assert f"progress: {len(small_engine.IMAGES)} images" in done[1]


def test_the_board_gets_all_files_it_needs_and_no_others(artifact: Artifact, port: int, tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    _dsode_run.write_job(artifact, Request(), tmp_path / "job", port=port)
    (tmp_path / "job" / "artifact").unlink()             # it leads to the whole artifact
    job = json.loads((tmp_path / "job" / "job.json").read_text())
    named = [job["driver"], job["inputs"], *job["beside"]]
    for name in named:
        (tmp_path / "job" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.path(name.removeprefix("artifact/")), tmp_path / "job" / name)
    assert not [name for name in named if "outputs" in name or "results" in name], "the answers are on the board"
    execute(tmp_path / "job")
    assert verdicts(told(artifact, tmp_path / "job")) == dict.fromkeys(CHECKS, True)


def test_one_wrong_byte_of_a_table_is_seen(changed: Any, port: int, tmp_path: Path) -> None:
    first_weight = 8                                     # of the first record, behind its bank and row
    wrong = changed("tables.bin", lambda b: b[:first_weight] + bytes([b[first_weight] ^ 1]) + b[first_weight + 1:])
    (tmp_path / "job").mkdir()
    _dsode_run.write_job(wrong, Request(), tmp_path / "job", port=port)
    execute(tmp_path / "job")
    run = verdicts(told(wrong, tmp_path / "job"))
    assert {name for name, ok in run.items() if not ok} == {
        "results as built", "outputs as built", "outputs = integer reference", "stored images"}


def test_a_wrong_stem_is_seen_before_the_engine(changed: Any, port: int, tmp_path: Path) -> None:
    def scaled(design: bytes) -> bytes:
        about = json.loads(design)
        about["stem"]["input_scale"] *= 2
        return json.dumps(about).encode()

    wrong = changed("design.json", scaled)
    (tmp_path / "job").mkdir()
    _dsode_run.write_job(wrong, Request(), tmp_path / "job", port=port)
    execute(tmp_path / "job")
    assert verdicts(told(wrong, tmp_path / "job"))["states as built"] is False


# ------------------------------------------------------------------ what goes wrong, each one line

def test_the_driver_refuses_another_design(changed: Any, port: int, tmp_path: Path) -> None:
    def renamed(design: bytes) -> bytes:
        about = json.loads(design)
        about["digest"] ^= 1
        return json.dumps(about).encode()

    wrong = changed("design.json", renamed)
    (tmp_path / "job").mkdir()
    _dsode_run.write_job(wrong, Request(), tmp_path / "job", port=port)
    with pytest.raises(JobFailed, match=f"made for another design: DIGEST reads {small_engine.DIGEST:#010x}") as e:
        execute(tmp_path / "job")
    assert "Traceback" not in e.value.log


def test_an_engine_that_is_not_there_is_one_line(artifact: Artifact, tmp_path: Path) -> None:
    _dsode_run.write_job(artifact, Request(), tmp_path, port=1)
    with pytest.raises(JobFailed, match=r"simulated logic at 127\.0\.0\.1:1 cannot be reached") as e:
        execute(tmp_path)
    assert "Traceback" not in e.value.log


def test_damaged_tables_never_reach_the_engine(artifact: Artifact, port: int, tmp_path: Path) -> None:
    copy = Artifact(folder=tmp_path / "changed", manifest=artifact.manifest)
    shutil.copytree(artifact.folder, copy.folder)
    copy.path(_dsode_run.DRIVER).with_name("tables.bin").write_bytes(b"\0" * 160)
    (tmp_path / "job").mkdir()
    _dsode_run.write_job(copy, Request(), tmp_path / "job", port=port)
    with pytest.raises(JobFailed, match=r"tables\.bin is damaged"):
        execute(tmp_path / "job")


def test_only_an_engine_is_taken(small_artifact: Artifact, artifact: Artifact, tmp_path: Path) -> None:
    assert _dsode_run.holds(artifact)
    assert not _dsode_run.holds(small_artifact)
    with pytest.raises(BadInput, match="holds no engine with a driver"):
        _dsode_run.write_job(small_artifact, Request(), tmp_path, port=1)


@pytest.mark.parametrize(("name", "content", "said"), [
    ("result.json", None, "wrote no result"), ("result.json", b"{}", "cannot be read"),
    ("states.npy", b"", "states.npy cannot be read"), ("results.npy", None, "results.npy cannot be read"),
    ("outputs.npy", b"\x93NUMPY", "outputs.npy cannot be read")])
def test_results_that_cannot_be_read_are_one_line(name: str, content: bytes | None, said: str, artifact: Artifact,
                                                  done: tuple[Path, list[str]], tmp_path: Path) -> None:
    for result in RESULTS:
        shutil.copyfile(done[0] / result, tmp_path / result)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BoardError, match=said):
        told(artifact, tmp_path)


def test_results_of_another_shape_or_type_are_wrong_results(artifact: Artifact, done: tuple[Path, list[str]],
                                                            tmp_path: Path) -> None:
    for result in RESULTS:
        shutil.copyfile(done[0] / result, tmp_path / result)
    np.save(tmp_path / "outputs.npy", np.load(done[0] / "outputs.npy").astype(np.float64))
    np.save(tmp_path / "results.npy", np.load(done[0] / "results.npy")[:-1])
    wrong = {name for name, ok in verdicts(told(artifact, tmp_path)).items() if not ok}
    assert wrong == {"outputs as built", "outputs = integer reference", "results as built"}


# ------------------------------------------------------------------ real logic, played by a stand-in of pynq

STANDIN = '''
"""Stand-in of pynq: one engine and one DMA in a bitstream, both at the simulator of {port}."""
import sys, types
import numpy as np
sys.path.insert(0, {payloads!r})
from simulated_pl import SimulatedPl
pl = SimulatedPl("127.0.0.1", {port})
Clocks = types.SimpleNamespace(fclk0_mhz=200.0)
allocate = lambda shape, dtype: np.zeros(shape, dtype)
MMIO = lambda address, size: pl

class Channel:
    idle, array = False, None
    def transfer(self, array): self.array, self.idle = array, False; move()
    def wait(self): pass
send, receive = Channel(), Channel()
came = 0

def move():
    global came
    if send.array is not None and receive.array is not None:
        answer = pl.transfer(send.array.tobytes())
        receive.array[:len(answer)] = np.frombuffer(answer, np.uint8)
        came, send.array, receive.array = len(answer), None, None
        send.idle = receive.idle = True

class Overlay:
    def __init__(self, bitfile):
        assert bitfile == "design.bit"
        self.dma = types.SimpleNamespace(sendchannel=send, recvchannel=receive, read=lambda at: came)
        self.ip_dict = {{"engine": {{"type": "hwkit:dsode:dsode_top:1.0", "phys_addr": 0, "addr_range": 256}},
                        "dma": {{"type": "xilinx.com:ip:axi_dma:7.1"}}}}
'''


def test_real_logic_has_times_of_the_boards_kind(artifact: Artifact, port: int, tmp_path: Path) -> None:
    payload = _dsode_run.payload()
    (tmp_path / "pynq.py").write_text(STANDIN.format(port=port, payloads=str(payload.parent)))
    _dsode_run.write_job(artifact, Request(), tmp_path, bitfile="design.bit")
    execute(tmp_path, PYTHONPATH=str(tmp_path))
    run = _dsode_run.told(artifact, BOARD.model_copy(update={"kind": "measured"}), Request(), tmp_path)
    assert verdicts(run) == dict.fromkeys(CHECKS, True)
    assert {m.kind for m in run.measurements} == {"measured"}
    found = {m.quantity: m.value for m in run.measurements}
    assert found["kernel_latency"] == pytest.approx(small_engine.CYCLES / 200e6)
    assert found["latency"] == pytest.approx(found["kernel_latency"] + found["transfer_latency"]
                                             + found["host_latency"])
    assert all(value > 0 for value in found.values())
    assert "latency" not in run.not_measured
    assert "verilator" not in run.tool_versions


def test_an_old_python_reads_the_payload() -> None:
    ast.parse(_dsode_run.payload().read_text(), feature_version=(3, 6))
