"""What is written for a trained network: integers, and a description that can be read back."""

from __future__ import annotations

from pathlib import Path

from hwkit.compress.quantize import Result, train_seeds
from hwkit.describe import load
from hwkit.integer import separable
from hwkit.nn.qat import QatRecipe


def test_seeds_are_trained_and_described(tmp_path: Path) -> None:
    told: list[int] = []
    path, result = train_seeds("dsodenet@digits", QatRecipe(epochs=1, train_images=256), [3, 5], tmp_path,
                               lambda progress: told.append(progress.seed))
    assert load(path.with_suffix(".toml"), Result) == result
    assert separable.load(path).name == "dsodenet@digits"
    assert sorted(set(told)) == [r.seed for r in result.seeds] == [3, 5]
    assert result.shipped_seed in (3, 5)
    assert result.test_mean > 0.9
