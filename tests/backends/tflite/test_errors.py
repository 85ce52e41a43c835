"""What a user gets wrong is one line that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hwkit.backends.tflite import flat
from hwkit.errors import BadInput, BadModel, HwkitError
from hwkit.model import Model, Stage
from tests.backends.tflite import nets


class Small(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                         nn.Linear(144, 4))


@pytest.fixture
def small(tmp_path: Path) -> Model:
    torch.manual_seed(0)
    return nets.model(Small().eval(), tmp_path / "small", 1, 6, 6)


def refused(model: Model, folder: Path, **options: str) -> HwkitError:
    with pytest.raises(HwkitError) as caught:
        nets.build(model, folder / "build", **{"precision": "f32", **options})
    assert caught.value.hint
    assert "\n" not in caught.value.line()
    return caught.value


def test_nan_weights_name_the_parameter(small: Model, tmp_path: Path) -> None:
    network = Small().eval()
    with torch.no_grad():
        network[0].weight[0, 0, 0, 0] = float("nan")
    nets.export(network, (torch.zeros(1, 1, 6, 6),), small.path)
    error = refused(small, tmp_path)
    assert isinstance(error, BadModel)
    assert "'0.weight'" in error.message


def test_training_mode(small: Model, tmp_path: Path) -> None:
    nets.export(Small().train(), (torch.zeros(1, 1, 6, 6),), small.path)
    assert "training mode" in refused(small, tmp_path).message


def test_other_shape_than_stated(small: Model, tmp_path: Path) -> None:
    error = refused(small.model_copy(update={"input_shape": (1, 8, 8), "data": None}), tmp_path)
    assert isinstance(error, BadInput)
    assert "(1, 1, 6, 6)" in error.message
    assert "(1, 1, 8, 8)" in error.message


def test_two_outputs(small: Model, tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x - 1

    nets.export(Two(), (torch.zeros(1, 1, 6, 6),), small.path)
    assert "2 outputs" in refused(small, tmp_path).message


def test_dynamic_batch(small: Model, tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=2, max=8)
    example = (torch.zeros(2, 1, 6, 6),)
    torch.export.save(torch.export.export(Small().eval(), example, dynamic_shapes=({0: batch},)), small.path)
    assert "dynamic shape" in refused(small, tmp_path).message


def test_an_operator_that_tflite_lacks(small: Model, tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvalsh(x[:, 0] @ x[:, 0].transpose(1, 2))

    nets.export(Odd(), (torch.zeros(1, 1, 6, 6),), small.path)
    error = refused(small, tmp_path)
    assert isinstance(error, BadModel)
    assert "linalg_eigh" in error.message


def test_int8_without_real_inputs(small: Model, tmp_path: Path) -> None:
    error = refused(small.model_copy(update={"data": None}), tmp_path, precision="int8")
    assert isinstance(error, BadInput)
    assert "--dataset" in error.hint
    assert "--data" in error.hint


def test_steps_that_do_not_exist(small: Model, tmp_path: Path) -> None:
    assert "no ODE steps" in refused(small, tmp_path, ode="stepped").message


def test_stages_of_another_network(small: Model, tmp_path: Path) -> None:
    another = nn.Sequential(Small(), nn.Softmax(1)).eval()
    other = nets.export(another, (torch.zeros(1, 1, 6, 6),), tmp_path / "other.pt2")
    error = refused(small.model_copy(update={"stages": (Stage(name="other", path=other),)}), tmp_path)
    assert "do not compute what the whole network does" in error.message


def test_stages_in_the_wrong_order(ode_model: Model, tmp_path: Path) -> None:
    error = refused(ode_model.model_copy(update={"stages": ode_model.stages[::-1]}), tmp_path)
    assert "stage pool-classify takes (1, 16, 3, 3), the one before it gives (1, 1, 12, 12)" in error.message


def test_not_an_exported_program(small: Model, tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04 nothing", np.random.RandomState(0).bytes(500)):
        small.path.write_bytes(content)
        with pytest.raises(BadModel, match="not a readable exported program"):
            nets.build(small, tmp_path / f"build{len(content)}", precision="f32")


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"\x1c\0\0\0TFL3" + b"\xff" * 64,
                                     b"\x08\0\0\0TFL3" + b"\0" * 64])
def test_damaged_tflite(content: bytes) -> None:
    with pytest.raises(BadModel):
        flat.read(content)


def test_nothing_is_left_without_calibration_inputs(small: Model, tmp_path: Path) -> None:
    arrays: dict[str, Any] = dict(np.load(small.data or ""))
    np.savez(tmp_path / "empty.npz", **{**arrays, "calibration": arrays["calibration"][:0]})
    error = refused(small.model_copy(update={"data": tmp_path / "empty.npz"}), tmp_path, precision="int8")
    assert isinstance(error, BadInput)
    assert "'calibration' is empty" in error.message
