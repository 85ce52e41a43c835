"""What targets say of their GPU."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from hwkit import target as targets
from hwkit.data import data_root
from hwkit.errors import BadDescription
from hwkit.gpu import tensorrt
from hwkit.target import Gpu

BOARDS = ("jetson-nano", "jetson-tx2", "jetson-xavier-nx", "jetson-orin-nano", "jetson-agx-orin")


def gpu_of(name: str) -> Gpu:
    found = targets.target(name).gpu
    assert found is not None
    return found


def test_every_board_is_shipped() -> None:
    assert {*BOARDS, "cuda"} <= set(targets.names())


@pytest.mark.parametrize(("name", "capability", "tensorrt_version", "jetpack"), [
    ("jetson-nano", 53, "8.2.1", "4.6.1"), ("jetson-tx2", 62, "8.2.1", "4.6.1"),
    ("jetson-xavier-nx", 72, "8.5.2", "5.1.3"), ("jetson-orin-nano", 87, "10.3.0", "6.2"),
    ("jetson-agx-orin", 87, "10.3.0", "6.2"),
])
def test_gpu_and_software(name: str, capability: int, tensorrt_version: str, jetpack: str) -> None:
    gpu = gpu_of(name)
    assert gpu.capability == capability
    assert not gpu.discrete
    assert gpu.jetpack is not None
    assert (gpu.jetpack.tensorrt, gpu.jetpack.version) == (tensorrt_version, jetpack)
    assert tensorrt.reads(gpu.jetpack.tensorrt).note == ""


@pytest.mark.parametrize("name", BOARDS)
def test_precisions_are_those_with_a_rate_and_the_default_is_the_fastest(name: str) -> None:
    target, peaks = targets.target(name), gpu_of(name).peak_ops_per_s
    assert target.backends == ("tensorrt", "onnxruntime")
    stated = [p for p in ("f32", "f16", "int8") if getattr(peaks, p)]
    assert list(target.precisions) == stated
    rates = [getattr(peaks, p).value for p in stated]
    assert rates == sorted(rates)
    assert ("int8" in stated) == (name not in ("jetson-nano", "jetson-tx2"))


@pytest.mark.parametrize("name", BOARDS)
def test_figures_hold_in_the_named_power_mode(name: str) -> None:
    gpu, rate = gpu_of(name), targets.target(name).memories.dram_bytes_per_s
    mode = next(m for m in gpu.power_modes if m.name == gpu.power_mode)
    assert gpu.clock_hz is not None
    assert rate is not None
    assert mode.gpu_clock_hz == pytest.approx(gpu.clock_hz.value, rel=1e-3)
    assert mode.dram_bytes_per_s == pytest.approx(rate.value, rel=1e-3)
    assert mode.sms is None or (gpu.sms is not None and mode.sms == gpu.sms.value)
    assert [m.number for m in gpu.power_modes] == list(range(len(gpu.power_modes)))


@pytest.mark.parametrize("name", BOARDS)
def test_a_lower_limit_never_has_a_higher_clock(name: str) -> None:
    limited = sorted((m.limit_w, m.gpu_clock_hz) for m in gpu_of(name).power_modes if m.limit_w and m.gpu_clock_hz)
    for (less, slow), (more, fast) in pairwise(limited):
        assert less == more or slow <= fast


def test_of_this_machines_gpu_nothing_is_claimed() -> None:
    target, gpu = targets.target("cuda"), gpu_of("cuda")
    assert gpu.discrete
    assert gpu.capability is None
    assert gpu.model_dump(exclude_defaults=True) == {"discrete": True}
    assert target.backends == ("onnxruntime", "tensorrt")
    assert target.precisions == ("f32", "f16", "int8")


@pytest.mark.parametrize(("old", "new", "words"), [
    ('sm = "8.7"', 'sm = "sm_87"', "gpu.sm: string should match pattern"),
    ('power_mode = "25W"', 'power_mode = "35W"', "gpu: value error, power_mode 35W is none of power_modes"),
    ('power_modes_source = ', 'power_mode_source = ', "gpu.power_mode_source: unknown key; did you mean "),
    ('tensor_cores = ["f32"', 'tensor_cores = ["f64"', "gpu.tensor_cores.0: input should be 'f32', 'f16'"),
])
def test_a_wrong_gpu_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str,
                                 words: str) -> None:
    text = (data_root() / "targets/jetson-orin-nano/target.toml").read_text()
    assert old in text
    (tmp_path / "targets/mine").mkdir(parents=True)
    (tmp_path / "targets/mine/target.toml").write_text(
        text.replace('name = "jetson-orin-nano"', 'name = "mine"').replace(old, new, 1))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadDescription) as caught:
        targets.target("mine")
    assert words in caught.value.line()
