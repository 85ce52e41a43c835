"""Handwritten digits, 8x8: the test part of the UCI set, as scikit-learn ships it.

Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998. The
digits of one writer may fall into several splits, as in most work on this set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwkit.datasets import Info, Raw
from hwkit.errors import ToolMissing

INFO = Info(
    name="digits",
    shape=(1, 8, 8),
    classes=10,
    train=1257,
    validation=180,
    test=360,
    own_test=False,
    mean=4.884,
    std=6.017,
    licence="CC BY 4.0",
    source="scikit-learn, sklearn.datasets.load_digits",
)
PACKAGE = None


def read(folder: Path) -> Raw:
    """Raw values are 0..16."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        raise ToolMissing("data set digits is part of scikit-learn", "pip install 'hwkit[torch]'") from None
    found = load_digits()
    return Raw(found.images.astype(np.uint8)[:, None], found.target.astype(np.int64))
