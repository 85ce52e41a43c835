"""Inputs for a network: some to calibrate a quantiser with, some to compare and score on.

They come from a named data set, from the user's .npz, or, where neither is given, from a seeded random
generator: good enough to compare two float networks, never to choose the ranges of an integer one.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwkit.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEED = 0
RANDOM_IMAGES = 64
KEYS = ("calibration", "images", "labels")
NEEDED = "an .npz holds 'calibration' and 'images', float32 (n, *input shape), and perhaps 'labels', int (n,)"
GIVE_DATA = "give real inputs with --dataset NAME or --data FILE.npz"


@dataclass(frozen=True)
class Samples:
    """Real (or plainly named random) inputs of one network.

    calibration   (n, *shape) float32, disjoint from `images` unless `source` says otherwise
    images        (n, *shape) float32
    labels        (n,) int64, the class of each image; None where unknown
    source        what they are, for the report
    random        made up: no range and no accuracy may be derived from them
    classes       (n,) int64, the class of each calibration image; None where unknown
    """

    calibration: NDArray[np.float32]
    images: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    source: str
    random: bool = False
    classes: NDArray[np.int64] | None = None

    def first(self, images: int | None) -> Samples:
        """With at most that many test images."""
        if images is None or images >= len(self.images):
            return self
        labels = None if self.labels is None else self.labels[:images]
        return Samples(self.calibration, self.images[:images], labels, self.source, self.random, self.classes)


def samples(shape: tuple[int, ...], calibration: int, dataset: str | None = None, data: Path | None = None,
            ) -> Samples:
    """Inputs of `shape` (one sample, no batch), `calibration` of them to calibrate with.

    `data` goes before `dataset`. Raises BadInput when they do not fit the network, UnknownName,
    ToolMissing when a data set cannot be fetched.
    """
    if calibration < 1:
        raise BadInput(f"{calibration} calibration images: at least one is needed", "use calibration=128")
    if data is not None:
        return _from_npz(data, shape, calibration)
    if dataset is not None:
        return _from_dataset(dataset, shape, calibration)
    return _made_up(shape, calibration)


def _from_dataset(name: str, shape: tuple[int, ...], calibration: int) -> Samples:
    from hwkit import datasets

    info = datasets.info(name)
    if tuple(info.shape) != shape:
        raise BadInput(f"data set {name} has images of shape {tuple(info.shape)}, the network takes {shape}",
                       "hwkit list datasets")
    test = datasets.load(name, "test")
    if info.train:
        train = datasets.load(name, "train")
        chosen = _chosen(len(train), calibration)
        picked, classes = train.images[chosen], train.labels[chosen]
        source = f"data set {name}: {len(picked)} train images to calibrate, {len(test)} test images"
    else:
        chosen = _chosen(len(test), calibration)
        picked, classes = test.images[chosen], test.labels[chosen]
        source = f"data set {name}: {len(test)} test images, which also calibrate since it has no train split"
    return Samples(picked, test.images, test.labels, source, classes=classes)


def _chosen(n: int, count: int) -> NDArray[np.intp]:
    """Positions of a fixed random subset of n images: the same for every network and every run."""
    import numpy as np

    return np.sort(np.random.RandomState(SEED).permutation(n)[:count])


def _made_up(shape: tuple[int, ...], calibration: int) -> Samples:
    import numpy as np

    values = np.random.RandomState(SEED).standard_normal((calibration + RANDOM_IMAGES, *shape)).astype(np.float32)
    return Samples(values[:calibration], values[calibration:], None,
                   f"random inputs (standard normal, seed {SEED}): no data set and no .npz was given", random=True)


def _from_npz(path: Path, shape: tuple[int, ...], calibration: int) -> Samples:
    arrays = _arrays(path)
    unknown = sorted(set(arrays) - set(KEYS))
    missing = [key for key in KEYS[:2] if key not in arrays]
    if unknown or missing:
        wrong = f"has no {missing[0]!r}" if missing else f"has an unknown array {unknown[0]!r}"
        raise BadInput(f"{path} {wrong}; it holds {', '.join(sorted(arrays)) or 'nothing'}", NEEDED)
    calibrating, images = (_checked(path, key, arrays[key], shape) for key in KEYS[:2])
    labels = _labels(path, arrays["labels"], len(images)) if "labels" in arrays else None
    picked = calibrating[_chosen(len(calibrating), calibration)]
    whole = arrays["images"].dtype
    note = "" if whole.kind == "f" else f"; given as {whole}, used as they are: scale them as in training"
    return Samples(picked, images, labels,
                   f"{path.name}: {len(picked)} inputs to calibrate, {len(images)} to compare{note}")


def _arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    import numpy as np

    try:
        with path.open("rb") as f:
            archive = np.load(f, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise BadInput(f"{path} is a single array, not an .npz archive", NEEDED)
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file", NEEDED) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
        raise BadInput(f"{path} is not a readable .npz: {e}", NEEDED) from None


def _checked(path: Path, key: str, array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    import numpy as np

    if array.dtype.kind not in "fiu":
        raise BadInput(f"{path}: {key!r} holds {array.dtype}, not numbers", NEEDED)
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape:
        raise BadInput(f"{path}: {key!r} has shape {array.shape}, the network takes {('n', *shape)}", NEEDED)
    if len(array) == 0:
        raise BadInput(f"{path}: {key!r} is empty", NEEDED)
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise BadInput(f"{path}: {key!r} holds NaN or infinite values", NEEDED)
    return values


def _labels(path: Path, array: NDArray[np.float32], images: int) -> NDArray[np.int64]:
    import numpy as np

    if array.dtype.kind not in "iu" or array.shape != (images,):
        raise BadInput(f"{path}: 'labels' has {array.dtype} of shape {array.shape}, not {images} integers", NEEDED)
    if array.size and array.min() < 0:
        raise BadInput(f"{path}: 'labels' holds {array.min()}; classes count from 0", NEEDED)
    return array.astype(np.int64)
