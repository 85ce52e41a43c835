"""The simulated sensors of a virtual board: the model, and the files it writes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from hwkit.data import shipped
from tests.payloads import loaded

rails = loaded(shipped("boards", "payloads", "rails.py"))

CONFIG = {"sensor": "ina226", "idle_w": 2.0, "dynamic_w": 4.0, "volts_v": 5.0, "ambient_c": 25.0,
          "kelvin_per_w": 10.0, "time_constant_s": 20.0, "clock_hz": 1.5e9, "throttled_hz": 7.5e8,
          "throttle_c": 80.0}


def test_power_follows_the_load() -> None:
    model = rails.Model(CONFIG)
    for load, watts in ((0.0, 2.0), (0.5, 4.0), (1.0, 6.0)):
        model.step(load, 0.1, {})
        assert model.power_w == pytest.approx(watts)


def test_it_warms_exponentially_throttles_and_recovers() -> None:
    model = rails.Model(CONFIG)
    assert model.temperature_c == 45.0                       # 25 + 2 W x 10 K/W
    for _ in range(200):
        model.step(1.0, 0.1, {})
    assert model.temperature_c == pytest.approx(85 - 40 * math.exp(-1), abs=0.1)      # one time constant
    while model.clock_hz == CONFIG["clock_hz"]:
        model.step(1.0, 0.1, {})
    assert model.temperature_c == pytest.approx(80, abs=0.1)
    model.step(1.0, 0.1, {})
    assert model.power_w == pytest.approx(4.0)               # at half the clock, half of the dynamic power
    while model.clock_hz != CONFIG["clock_hz"]:
        model.step(1.0, 0.1, {})
    assert model.temperature_c == pytest.approx(75, abs=0.1)


def test_what_is_forced_lasts_as_long_as_it_is_forced() -> None:
    model = rails.Model(CONFIG)
    model.step(0.0, 0.1, {"temperature_c": 90.0, "power_w": 9.5})
    assert (model.temperature_c, model.power_w, model.clock_hz) == (90.0, 9.5, 7.5e8)
    model.step(0.0, 0.1, {"clock_hz": 6e8})
    assert (model.power_w, model.clock_hz) == (1.0 * 2, 6e8)
    model.step(0.0, 0.1, {})
    assert model.clock_hz == 1.5e9
    assert model.temperature_c < 46


@pytest.mark.parametrize("sensor", ["ina226", "ina3221"])
def test_the_files_are_the_kernels(tmp_path: Path, sensor: str) -> None:
    config = tmp_path / "rails.json"
    config.write_text(json.dumps({**CONFIG, "sensor": sensor}))
    root = tmp_path / "root"
    rails.main([str(config), str(root), "--seconds", "0.25"])
    monitor = root / "sys/class/hwmon/hwmon0"

    def number(path: Path) -> int:
        return int(path.read_text())

    watts = number(monitor / "in1_input") / 1e3 * number(monitor / "curr1_input") / 1e3
    assert 2.0 <= watts <= 6.01
    assert (monitor / "device/name").read_text() == f"{sensor}\n"
    if sensor == "ina226":
        assert number(monitor / "power1_input") / 1e6 == pytest.approx(watts, abs=0.01)
        assert (monitor / "power1_label").read_text() == "simulated rail\n"
    else:
        assert (monitor / "in1_label").read_text() == "simulated rail\n"
    assert 45_000 <= number(root / "sys/class/thermal/thermal_zone0/temp") <= 46_000
    assert number(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq") == 1_500_000
    assert not list(root.rglob("*.new"))


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"power_w": "many"}', '{"power_w": null}'])
def test_a_wrong_override_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "override").write_text(text)
    assert rails.overridden(str(tmp_path)) == {}
    (tmp_path / "override").write_text('{"power_w": 3, "other": 1}')
    assert rails.overridden(str(tmp_path)) == {"power_w": 3.0}
