"""Artifacts: packed whole, opened only when nothing was changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hwkit.artifact import MANIFEST, Artifact, open_artifact, pack, require_replaceable
from hwkit.errors import BadInput, NoSpace


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


def test_a_folder_with_someone_elses_files_is_never_replaced(small_artifact: Artifact, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(mine)
    for place in (mine, tmp_path / "file", tmp_path / "link", tmp_path):
        with pytest.raises(BadInput) as caught:
            pack(tmp_path / "build", place, small_artifact.manifest.built, name="n", target="t", backend="b",
                 precision="p", dataset=None, input_shape=(1,), history=())
        assert "choose another folder with -o" in caught.value.line()
    assert (mine / "thesis.txt").read_text() == (tmp_path / "file").read_text() == "precious"


def test_an_empty_folder_a_new_one_and_an_old_artifact_may_be_replaced(small_artifact: Artifact,
                                                                      tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "not" / "there" / "yet", small_artifact.folder, Path("relative")):
        require_replaceable(place)
    assert not (tmp_path / "not").exists()            # asking makes nothing


@pytest.mark.parametrize("place", ["/proc/nowhere/out", "x" * 300])
def test_a_place_that_cannot_be_is_one_line(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoSpace) as caught:
        require_replaceable(Path(place))
    assert "\n" not in caught.value.line()
    assert os.listdir(tmp_path) == []
