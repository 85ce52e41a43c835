"""The whole way, as a user walks it: dsodenet trained on digits, built, executed, judged, interrupted."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hwkit.artifact import open_artifact
from hwkit.report import Report, read
from tests.commands import HWKIT, alive_in, hwkit

NETWORK = "dsodenet@digits"


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `hwkit deploy` put dsodenet@digits for rpi4 (emulated) and host (measured)."""
    folder = tmp_path_factory.mktemp("deployed")
    (folder / "budget.toml").write_text("[memory]\nflash_bytes = 1_000_000\n[accuracy]\nfloor = 0.8\n")
    done = hwkit("deploy", "--target", "rpi4", "--target", "host", NETWORK, "--budget", "budget.toml",
                 "--duration", "0.3", "-o", "out", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.json").write_text(done.stdout)
    return folder


def one(folder: Path, target: str) -> Report:
    (report,) = read(folder / "out" / target).reports
    return report


@pytest.mark.qemu
def test_stdout_is_the_report_and_equals_the_files(deployed: Path) -> None:
    told: dict[str, Any] = json.loads((deployed / "stdout.json").read_text())
    assert [r["target"] for r in told["reports"]] == ["rpi4", "host"]
    for target, said in zip(("rpi4", "host"), told["reports"], strict=True):
        assert one(deployed, target) == Report.model_validate(said)


@pytest.mark.qemu
def test_both_boards_compute_the_same_network(deployed: Path) -> None:
    arm, host = one(deployed, "rpi4"), one(deployed, "host")
    for report in (arm, host):
        accuracy, trained = report.find("accuracy"), report.find("accuracy_float")
        assert accuracy is not None
        assert trained is not None
        assert accuracy.n == trained.n == 360            # the whole test split of digits
        assert abs(accuracy.value - trained.value) <= 0.02
        assert report.within_budget is True
        assert report.ok
    assert {f.name: f.ok for f in arm.findings}["outputs as built"] is True


@pytest.mark.qemu
def test_kinds_are_never_mixed_up(deployed: Path) -> None:
    arm, host = one(deployed, "rpi4"), one(deployed, "host")
    kinds = {m.quantity: m.kind for m in arm.measurements}
    assert kinds["instructions"] == "simulated"
    assert kinds["latency"] == "estimated"               # never measured: there is no Raspberry Pi here
    assert "energy" in arm.not_measured
    latency = host.find("latency")
    assert latency is not None
    assert latency.kind == "measured"
    assert len(latency.samples) >= 30
    assert "instructions" not in {m.quantity for m in host.measurements}


@pytest.mark.qemu
def test_raw_samples_are_kept_beside_the_artifacts(deployed: Path) -> None:
    runs = sorted((deployed / "out" / "runs").glob("*/*.json"))
    assert {p.parent.name for p in runs} == {"qemu-rpi4", "host"}
    raw = json.loads(next(p for p in runs if p.parent.name == "host").read_text())
    latency = next(m for m in raw["run"]["measurements"] if m["quantity"] == "latency")
    shown = one(deployed, "host").find("latency")
    assert shown is not None
    assert tuple(latency["samples"]) == shown.samples


@pytest.mark.qemu
def test_run_again_from_the_artifact_alone(deployed: Path, tmp_path: Path) -> None:
    first = one(deployed, "rpi4").find("instructions")
    shutil.copytree(deployed / "out" / "rpi4", tmp_path / "copy")       # a run writes its report into the artifact
    done = hwkit("run", "copy", "--json", "-o", "again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (again,) = read(tmp_path / "again").reports
    second = again.find("instructions")
    assert first is not None
    assert second is not None
    assert second.samples == first.samples               # exact, not about equal


@pytest.mark.qemu
def test_over_budget_exits_with_one_and_names_the_operator(deployed: Path, tmp_path: Path) -> None:
    (tmp_path / "tight.toml").write_text("[instructions]\nper_inference = 1000\n")
    shutil.copytree(deployed / "out" / "rpi4", tmp_path / "copy")
    done = hwkit("run", "copy", "--budget", "tight.toml", cwd=tmp_path)
    assert done.returncode == 1
    assert "OVER BUDGET: instructions.per_inference" in done.stdout
    assert "CONV_2D, " in done.stdout.split("Budget")[-1]


@pytest.mark.qemu
def test_several_reports_in_one(deployed: Path, tmp_path: Path) -> None:
    folders = [str(deployed / "out" / target) for target in ("rpi4", "host")]
    done = hwkit("report", *folders, "--markdown", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.count("\n# ") + done.stdout.startswith("# ") == 2


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an artifact for host in out/, built in a cache of its own."""
    folder = tmp_path_factory.mktemp("built")
    done = hwkit("build", "--target", "host", NETWORK, "-o", "out", cwd=folder,
                 env={"HWKIT_CACHE": str(folder / "cache")})
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.qemu
def test_same_inputs_same_artifact_digest(built: Path, deployed: Path) -> None:
    """Two builds that share no cache, nor a process."""
    first, second = (open_artifact(place) for place in (built / "out", deployed / "out" / "host"))
    assert first.manifest.digest == second.manifest.digest


def test_ctrl_c_in_a_build_leaves_the_previous_artifact(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    env = {"HWKIT_CACHE": str(tmp_path / "cache")}
    before = open_artifact(tmp_path / "out").manifest.digest
    child = subprocess.Popen([*HWKIT, "build", "--target", "host", NETWORK, "--precision", "f32", "-o", "out"],
                             cwd=tmp_path, env={**os.environ, **env}, text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    assert child.stderr is not None
    for line in child.stderr:
        if "converting" in line:
            break
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in said
    assert "interrupted" in said
    assert open_artifact(tmp_path / "out").manifest.digest == before
    assert sorted(os.listdir(tmp_path)) == ["cache", "out"]
    assert not [p for p in (tmp_path / "cache" / "builds").iterdir() if p.name.startswith(".")]
    assert not alive_in(tmp_path)


@pytest.mark.parametrize("kilobytes", [4, 100])
def test_a_full_disk_is_one_line(tmp_path: Path, kilobytes: int) -> None:
    """The file-size limit stands for a full disk: writes fail in the same places, for any user."""
    command = shlex.join([*HWKIT, "build", "--target", "host", NETWORK, "-o", "out"])
    done = subprocess.run(["bash", "-c", f"ulimit -f {kilobytes}; {command}"], cwd=tmp_path, timeout=300,
                          env={**os.environ, "HWKIT_CACHE": str(tmp_path / "cache")},
                          capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if line.startswith("hwkit: ")]
    assert done.returncode == 2, done.stderr
    assert len(said) == 1
    assert "cannot write" in said[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
