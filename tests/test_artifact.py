"""Artifacts: packed whole, opened only when nothing was changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwkit.artifact import MANIFEST, Artifact, open_artifact, pack
from hwkit.errors import BadInput


def test_what_was_packed_is_what_opens(small_artifact: Artifact) -> None:
    assert open_artifact(small_artifact.folder) == small_artifact


def test_same_content_same_digest(small_artifact: Artifact, tmp_path: Path) -> None:
    m = small_artifact.manifest
    again = pack(tmp_path / "build", tmp_path / "elsewhere", m.built, name=m.name, target=m.target,
                 backend=m.backend, precision=m.precision, dataset=m.dataset, input_shape=m.input_shape,
                 history=m.history)
    assert again.manifest.digest == m.digest


@pytest.mark.parametrize("change", ["file", "missing", "manifest", "digest", "schema", "garbage", "outside"])
def test_a_changed_artifact_is_refused(small_artifact: Artifact, change: str) -> None:
    folder = small_artifact.folder
    manifest = folder / MANIFEST
    told = json.loads(manifest.read_text())
    match change:
        case "file":
            (folder / "net.tflite").write_bytes(b"\1" * 100)
        case "missing":
            (folder / "net.tflite").unlink()
        case "manifest":
            told["precision"] = "f32"
        case "digest":
            told["digest"] = "0" * 64
        case "schema":
            told["schema_version"] = 99
        case "outside":
            told["sha256"]["../../etc/passwd"] = "0" * 64
    if change in ("manifest", "digest", "schema", "outside"):
        manifest.write_text(json.dumps(told))
    if change == "garbage":
        manifest.write_bytes(b"\xff\0garbage")
    with pytest.raises(BadInput) as caught:
        open_artifact(folder)
    assert "\n" not in caught.value.line()
    assert "hwkit build" in caught.value.line()


def test_a_folder_that_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not an artifact"):
        open_artifact(tmp_path)
