"""Inputs from a data set, from an .npz, or made up and named so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit import datasets
from hwkit.errors import BadInput, UnknownName
from hwkit.samples import samples

SHAPE = (1, 4, 5)
GOOD: dict[str, Any] = {"calibration": np.ones((7, *SHAPE)), "images": np.zeros((3, *SHAPE), np.uint8),
                        "labels": np.array([0, 1, 2])}


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def test_a_data_set_calibrates_on_train_and_scores_on_test() -> None:
    found = samples((1, 8, 8), 20, dataset="digits")
    train, test = datasets.load("digits", "train"), datasets.load("digits", "test")
    assert found.labels is not None
    np.testing.assert_array_equal(found.images, test.images)
    np.testing.assert_array_equal(found.labels, test.labels)
    known = {image.tobytes() for image in train.images}
    assert len(found.calibration) == 20
    assert all(image.tobytes() in known for image in found.calibration)
    assert "20 train images" in found.source
    np.testing.assert_array_equal(samples((1, 8, 8), 20, dataset="digits").calibration, found.calibration)


def test_calibration_images_come_with_their_classes() -> None:
    """In the order of the images, whatever the number; the user's own file has none."""
    train = datasets.load("digits", "train")
    known = {image.tobytes(): label for image, label in zip(train.images, train.labels, strict=True)}
    found = samples((1, 8, 8), 200, dataset="digits")
    assert found.classes is not None
    assert found.classes.tolist() == [known[image.tobytes()] for image in found.calibration]
    kept = found.first(3).classes
    assert kept is not None
    np.testing.assert_array_equal(kept, found.classes)


def test_fewer_test_images() -> None:
    found = samples((1, 8, 8), 5, dataset="digits").first(9)
    assert found.labels is not None
    assert (len(found.images), len(found.labels)) == (9, 9)


def test_a_data_set_of_another_shape_or_name() -> None:
    with pytest.raises(BadInput, match=r"images of shape \(1, 8, 8\), the network takes \(3, 8, 8\)"):
        samples((3, 8, 8), 5, dataset="digits")
    with pytest.raises(UnknownName, match="digits"):
        samples((1, 8, 8), 5, dataset="digts")


def test_ones_own_inputs_go_before_a_data_set(tmp_path: Path) -> None:
    found = samples(SHAPE, 5, dataset="digits", data=npz(tmp_path, **GOOD))
    assert found.labels is not None
    assert (found.calibration.shape, found.images.shape) == ((5, *SHAPE), (3, *SHAPE))
    assert found.images.dtype == np.float32
    assert found.labels.tolist() == [0, 1, 2]
    assert "data.npz" in found.source


def test_labels_may_be_missing(tmp_path: Path) -> None:
    path = npz(tmp_path, calibration=GOOD["calibration"], images=GOOD["images"])
    assert samples(SHAPE, 5, data=path).labels is None
    assert samples(SHAPE, 5, data=path).classes is None


@pytest.mark.parametrize(("change", "words"), [
    ({"calibration": None}, "no 'calibration'"), ({"images": None}, "no 'images'"),
    ({"extra": np.ones(1)}, "'extra'"), ({"images": np.ones((3, 1, 5, 4))}, r"shape \(3, 1, 5, 4\)"),
    ({"images": np.ones(SHAPE)}, "shape"),
    ({"calibration": np.ones((0, *SHAPE))}, "'calibration' is empty"), ({"images": np.ones((0, *SHAPE))}, "empty"),
    ({"images": np.full((3, *SHAPE), np.nan)}, "NaN"), ({"images": np.full((3, *SHAPE), np.inf)}, "infinite"),
    ({"images": np.full((3, *SHAPE), "a")}, "not numbers"), ({"labels": np.array([0, 1])}, "'labels'"),
    ({"labels": np.array([0.0, 1.0, 2.0])}, "'labels'")])
def test_a_wrong_npz_is_one_line(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    arrays = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(BadInput, match=words) as caught:
        samples(SHAPE, 5, data=npz(tmp_path, **arrays))
    assert "\n" not in caught.value.line()
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"not an archive"])
def test_a_file_that_is_no_npz(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(BadInput, match=r"data\.npz"):
        samples(SHAPE, 5, data=tmp_path / "data.npz")


def test_a_single_array_and_a_missing_file(tmp_path: Path) -> None:
    with (tmp_path / "data.npz").open("wb") as f:
        np.save(f, np.ones((3, *SHAPE)))
    with pytest.raises(BadInput, match="single array"):
        samples(SHAPE, 5, data=tmp_path / "data.npz")
    with pytest.raises(BadInput, match="no such file"):
        samples(SHAPE, 5, data=tmp_path / "absent.npz")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", calibration=np.array([{}], dtype=object), images=GOOD["images"])
    with pytest.raises(BadInput, match="not a readable"):
        samples(SHAPE, 5, data=tmp_path / "data.npz")


def test_made_up_inputs_say_so() -> None:
    found = samples(SHAPE, 5)
    assert found.random
    assert found.labels is None
    assert found.source.startswith("random inputs")
    np.testing.assert_array_equal(found.images, samples(SHAPE, 5).images)
    assert not {i.tobytes() for i in found.images} & {i.tobytes() for i in found.calibration}


def test_no_calibration_at_all() -> None:
    with pytest.raises(BadInput, match="at least one"):
        samples(SHAPE, 0)
