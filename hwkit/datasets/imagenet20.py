"""Twenty labelled ImageNet photographs, as foolbox ships them, scaled to 224x224. A download of 1.7 MB.

Enough to see that an ImageNet network works after conversion, not to rank two that do: one photograph
is five points. The labels are ImageNet's 1000 classes in the usual (sorted WordNet id) order. The
"train" split is for calibration alone: 20 crops, without labels (-1), of the two photographs
that scikit-learn ships.

Raw pixels are RGB of 0..255, loaded as (x - 127) / 128, what efficientnet_lite0 was trained with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwkit.datasets import Info, Raw
from hwkit.datasets._fetch import Package
from hwkit.errors import ToolMissing

INFO = Info(
    name="imagenet20",
    shape=(3, 224, 224),
    classes=1000,
    train=20,
    validation=0,
    test=20,
    own_test=True,
    mean=127.0,
    std=128.0,
    licence="MIT (package); the photographs are their authors'",
    source="foolbox 3.3.4 (PyPI), and scikit-learn's sample images for calibration",
    note="n=20",
)

_FILES = (
    "00_243", "01_559", "02_438", "03_990", "04_949", "05_853", "06_609", "07_609", "08_915", "09_455",
    "10_541", "11_630", "12_741", "13_471", "14_129", "15_99", "16_251", "17_22", "18_317", "19_305",
)   # the number of the photograph and its class
PACKAGE = Package(
    client="pip-wheel",
    name="foolbox",
    version="3.3.4",
    archive="foolbox-3.3.4-py3-none-any.whl",
    sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
    members=tuple(f"foolbox/data/imagenet_{name}.jpg" for name in _FILES),
)


def read(folder: Path) -> Raw:
    """First the calibration crops, then the labelled photographs."""
    try:
        from PIL import Image
        from sklearn.datasets import load_sample_images
    except ModuleNotFoundError as error:
        if error.name not in ("PIL", "sklearn"):
            raise
        raise ToolMissing(
            "reading data set imagenet20 needs Pillow and scikit-learn", "pip install pillow scikit-learn"
        ) from None
    photographs: list[NDArray[np.uint8]] = []
    for name in _FILES:
        with Image.open(folder / f"imagenet_{name}.jpg") as image:
            box = _centre(*image.size)
            small = image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC, box)
            photographs.append(np.asarray(small, dtype=np.uint8))
    crops = [crop for image in load_sample_images().images for crop in _crops(image)]
    labels = [-1] * len(crops) + [int(name.split("_")[1]) for name in _FILES]
    images = np.stack([*crops, *photographs]).transpose(0, 3, 1, 2)
    return Raw(np.ascontiguousarray(images), np.array(labels, np.int64))


def _centre(width: int, height: int) -> tuple[float, float, float, float]:
    """The middle 7/8 of the largest square, as the EfficientNet authors evaluate."""
    side = min(width, height) * 224 / 256
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _crops(image: NDArray[np.uint8], side: int = 224) -> list[NDArray[np.uint8]]:
    """Ten crops of a 427x640 photograph: five across, at the top and at the bottom."""
    height, width = image.shape[:2]
    tops = (0, height - side)
    lefts = np.linspace(0, width - side, 5).astype(int)
    return [image[top : top + side, left : left + side] for top in tops for left in lefts]
