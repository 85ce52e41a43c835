"""The file format of MNIST and its successors."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwkit.datasets import Raw
from hwkit.errors import BadInput


def read_idx(path: Path) -> NDArray[Any]:
    """A uint8 array: two zero bytes, type 8, number of axes, their lengths as big-endian int32, the data."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise BadInput(f"{path.name} is not an IDX file of bytes")
    axes = data[3]
    shape = struct.unpack_from(f">{axes}i", data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def read_mnist_like(folder: Path, suffix: str = "") -> Raw:
    """The four files of a data set in MNIST's form: 28x28 grey images, 60,000 to train and 10,000 to test."""
    images = [read_idx(folder / f"{part}-images-idx3-ubyte{suffix}") for part in ("train", "t10k")]
    labels = [read_idx(folder / f"{part}-labels-idx1-ubyte{suffix}") for part in ("train", "t10k")]
    return Raw(np.concatenate(images)[:, None], np.concatenate(labels).astype(np.int64))
