"""The sensors' files, values and lines, and what nvpmodel and jetson_clocks print."""

from __future__ import annotations

from typing import Any

import pytest

from hwkit.errors import BoardError, UnknownName
from hwkit.runners.power import Reading, names, sensor, total_w
from hwkit.runners.power._clocks import clocks, conditions, power_mode
from hwkit.runners.power.hwmon import sample as hwmon
from hwkit.runners.power.ina3221 import rails
from hwkit.runners.power.ina3221 import sample as ina3221
from hwkit.runners.power.meter import joined as meter
from hwkit.runners.power.nvml import sample as nvml
from hwkit.runners.power.rapl import joined as rapl

HWMON = {                       # AGX Orin, L4T R39.2: voltages, currents and labels of a public test of its kernel
    "1-0040/hwmon/hwmon5/in1_label": "VDD_GPU_SOC\n", "1-0040/hwmon/hwmon5/in1_input": "4900\n",
    "1-0040/hwmon/hwmon5/curr1_input": "2000\n",
    "1-0040/hwmon/hwmon5/in2_label": "VDD_CPU_CV\n", "1-0040/hwmon/hwmon5/in2_input": "4900\n",
    "1-0040/hwmon/hwmon5/curr2_input": "1000\n",
    "1-0040/hwmon/hwmon5/in3_label": "VIN_SYS_5V0\n", "1-0040/hwmon/hwmon5/in3_input": "5000\n",
    "1-0040/hwmon/hwmon5/curr3_input": "1600\n",
    "1-0040/hwmon/hwmon5/in7_label": "sum of shunt voltages\n", "1-0040/hwmon/hwmon5/in7_input": "1200\n",
    "1-0040/hwmon/hwmon5/curr4_input": "360\n",
    "1-0041/hwmon/hwmon6/in1_label": "NC\n", "1-0041/hwmon/hwmon6/in1_input": "0\n",
    "1-0041/hwmon/hwmon6/curr1_input": "0\n",
    "1-0041/hwmon/hwmon6/in2_label": "VDDQ_VDD2_1V8AO\n", "1-0041/hwmon/hwmon6/in2_input": "4968\n",
    "1-0041/hwmon/hwmon6/curr2_input": "80\n"}
IIO = {                         # Nano, JetPack 4
    "6-0040/iio:device0/rail_name_0": "POM_5V_IN\n", "6-0040/iio:device0/in_power0_input": "2104\n",
    "6-0040/iio:device0/in_voltage0_input": "5072\n", "6-0040/iio:device0/in_current0_input": "416\n",
    "6-0040/iio:device0/rail_name_1": "POM_5V_GPU\n", "6-0040/iio:device0/in_power1_input": "0\n",
    "6-0040/iio:device0/rail_name_2": "POM_5V_CPU\n", "6-0040/iio:device0/in_voltage2_input": "5000\n",
    "6-0040/iio:device0/in_current2_input": "80\n"}


def test_sensors_are_found_by_their_name() -> None:
    assert names() == ["cpu", "hwmon", "ina3221", "meter", "nvml", "rapl", "tegrastats"]
    assert sensor("nvml").sample is nvml
    with pytest.raises(UnknownName, match="nearest: tegrastats"):
        sensor("tegrastat")
    with pytest.raises(UnknownName):
        sensor("_samples")


def test_hwmon_is_volts_times_amperes() -> None:
    got = ina3221(Reading(t_s=3, files=HWMON))
    assert got.rails == pytest.approx({"VDD_GPU_SOC": 9.8, "VDD_CPU_CV": 4.9, "VIN_SYS_5V0": 8.0,
                                       "VDDQ_VDD2_1V8AO": 0.39744})
    assert total_w(got) == pytest.approx(22.7)
    assert (got.sensor, got.t_s) == ("ina3221", 3)


def test_iio_is_its_power_or_volts_times_amperes() -> None:
    got = ina3221(Reading(t_s=0, files=IIO))
    assert got.rails == pytest.approx({"POM_5V_IN": 2.104, "POM_5V_GPU": 0, "POM_5V_CPU": 0.4})
    assert total_w(got) == pytest.approx(2.104)


@pytest.mark.parametrize("text", [None, "", "garbage", "4.9", "0x10", "4900 mV", "9" * 5000, "٤"])
def test_a_file_without_a_number_costs_its_rail_only(text: str | None) -> None:
    found = rails({**HWMON, "1-0040/hwmon/hwmon5/in1_input": text})
    assert "VDD_GPU_SOC" not in found
    assert found["VDD_CPU_CV"] == pytest.approx(4.9)


def test_two_rails_of_one_name_stay_two() -> None:
    found = rails({**HWMON, "1-0041/hwmon/hwmon6/in2_label": "VDD_CPU_CV"})
    assert sorted(w for name, w in found.items() if name.startswith("VDD_CPU_CV")) == pytest.approx([0.39744, 4.9])


def test_no_rail_at_all_is_an_error() -> None:
    with pytest.raises(BoardError, match="no rail of the INA3221 could be read"):
        ina3221(Reading(t_s=0, files={path: None if "_input" in path else text for path, text in IIO.items()}))


NVML: dict[str, Any] = {"power_mw": 312345, "energy_mj": 123456789012, "graphics_mhz": 1980, "memory_mhz": 2619,
                        "temperature_c": 54, "gpu_percent": 97, "reasons": 0x4 | 0x40 | 0x1}


def test_nvml_in_si() -> None:
    got = nvml(Reading(t_s=1, values=NVML))
    assert got.rails == pytest.approx({"GPU": 312.345})
    assert got.counter_j == pytest.approx(123456789.012)
    assert got.clocks_hz == {"GR3D": (1.98e9,), "MEM": (2.619e9,)}
    assert got.temperatures_c == {"GPU": 54}
    assert got.gpu_load == pytest.approx(0.97)
    assert got.throttled == ("power cap", "temperature, by hardware")       # idling is no throttling


def test_what_a_gpu_does_not_tell_is_absent() -> None:
    got = nvml(Reading(t_s=1, values={**dict.fromkeys(NVML), "power_mw": 1000}))
    assert (got.rails, got.counter_j, got.clocks_hz, got.loads, got.throttled) == ({"GPU": 1.0}, None, {}, {}, ())
    with pytest.raises(BoardError, match="NVML gave no value"):
        nvml(Reading(t_s=1, values=dict.fromkeys(NVML)))


# printed by boards, as published: Nano (JetPack 4, before and after jetson_clocks), TX2 (emulator of
# rbonghi/jetson_stats), AGX Orin (JetPack 5 and 7), Orin Nano (JetPack 6)
NANO = """SOC family:tegra210  Machine:NVIDIA Jetson Nano Developer Kit
Online CPUs: 0-1
CPU Cluster Switching: Disabled
cpu0: Online=1 Governor=schedutil MinFreq=921600 MaxFreq=921600 CurrentFreq=921600 IdleStates: WFI=1 c7=1 
cpu1: Online=1 Governor=schedutil MinFreq=921600 MaxFreq=921600 CurrentFreq=921600 IdleStates: WFI=1 c7=1 
cpu2: Online=0 Governor=schedutil MinFreq=102000 MaxFreq=921600 CurrentFreq=921600 IdleStates: WFI=1 c7=1 
cpu3: Online=0 Governor=schedutil MinFreq=102000 MaxFreq=921600 CurrentFreq=921600 IdleStates: WFI=1 c7=1 
GPU MinFreq=76800000 MaxFreq=614400000 CurrentFreq=460800000
EMC MinFreq=204000000 MaxFreq=1600000000 CurrentFreq=1600000000 FreqOverride=0
Fan: speed=0
NV Power Mode: 5W
"""  # noqa: W291
NANO_LOCKED = NANO.replace("MinFreq=76800000 MaxFreq=614400000 CurrentFreq=460800000",
                           "MinFreq=614400000 MaxFreq=614400000 CurrentFreq=614400000").replace(
                               "FreqOverride=0", "FreqOverride=1")
TX2 = """SOC family:tegra186  Machine:quill
Online CPUs: 0,3-5
CPU Cluster Switching: Disabled
cpu0: Online=1 Governor=schedutil MinFreq=345600 MaxFreq=2035200 CurrentFreq=2035200 IdleStates: C1=1 c7=1
cpu1: Online=0 Governor=schedutil MinFreq=345600 MaxFreq=2035200 CurrentFreq=1113600 IdleStates: C1=1 c6=1 c7=1
cpu3: Online=1 Governor=schedutil MinFreq=345600 MaxFreq=2035200 CurrentFreq=1881600 IdleStates: C1=1 c7=1
GPU MinFreq=114750000 MaxFreq=1134750000 CurrentFreq=114750000
EMC MinFreq=40800000 MaxFreq=1600000000 CurrentFreq=1600000000 FreqOverride=0
Fan: speed=0
NV Power Mode: MAXP_CORE_ARM
"""
AGX_ORIN_JP7 = """SOC family:tegra234  Machine:NVIDIA Jetson AGX Orin Developer Kit
Online CPUs: 0-10, Offline CPUs: 11
cpu0:  Governor=schedutil MinFreq=2201600 MaxFreq=2201600 CurrentFreq=2201600 IdleStates: WFI=0 c7=0
cpu10: Governor=schedutil MinFreq=2201600 MaxFreq=2201600 CurrentFreq=2201600 IdleStates: WFI=0 c7=0
cpu11: Governor=schedutil MinFreq=729600 MaxFreq=2201600 CurrentFreq=729600 IdleStates: WFI=0 c7=0
GPU MinFreq=1300500000 MaxFreq=1300500000 CurrentFreq=1300500000
Active GPU TPCs: 8
EMC MinFreq=3199000000 MaxFreq=3199000000 CurrentFreq=3199000000
DLA0_CORE:   Online=1 MinFreq=0 MaxFreq=1600000000 CurrentFreq=1600000000
PVA0_AXI:  Online=1 MinFreq=0 MaxFreq=985600000 CurrentFreq=985600000
FAN Dynamic Speed Control=nvfancontrol hwmon2_pwm1=66
NV Power Mode: MAXN
"""
ORIN_NANO_VERBOSE = """NVPM VERB: Config file: /etc/nvpmodel.conf
NVPM VERB: parsing done for /etc/nvpmodel.conf
NVPM VERB: Current mode: NV Power Mode: 25W
1
NVPM VERB: PARAM CPU_ONLINE: ARG CORE_0: PATH /sys/devices/system/cpu/cpu0/online: REAL_VAL: 1 CONF_VAL: 1
NVPM VERB: PARAM GPU: ARG MIN_FREQ: PATH /sys/devices/platform/17000000.gpu/devfreq_dev/min_freq: REAL_VAL: 306000000 CONF_VAL: 0
"""  # noqa: E501
XAVIER_VERBOSE = "NVPM VERB: Config file: /etc/nvpmodel.conf\nNV Fan Mode:quiet\n" \
                 "NVPM VERB: Current mode: NV Power Mode: MODE_15W_6CORE\n2\n"


@pytest.mark.parametrize(("text", "mode"), [
    ("NV Power Mode: MAXN\n0\n", ("MAXN", 0)),
    ("NV Fan Mode:quiet\nNV Power Mode: MODE_30W_ALL\n3\n", ("MODE_30W_ALL", 3)),
    ("NVPM WARN: fan mode is not set!\r\nNV Power Mode: MODE_40W\r\n13\r\n", ("MODE_40W", 13)),
    (ORIN_NANO_VERBOSE, ("25W", 1)), (XAVIER_VERBOSE, ("MODE_15W_6CORE", 2)),
    ("NV Power Mode: 15W", ("15W", None)),
    ("NV Power Mode: 15W\nNVPM VERB: 7\n", ("15W", None)), ("NV Power Mode:\n0\n", (None, None)),
    ("bash: nvpmodel: command not found", (None, None)), ("", (None, None))])
def test_power_modes(text: str, mode: tuple[str | None, int | None]) -> None:
    assert power_mode(text) == mode


def test_clocks_in_hz_of_what_is_online() -> None:
    found = {clock.name: (clock.min_hz, clock.max_hz, clock.now_hz) for clock in clocks(TX2)}
    assert found == {"cpu0": (345.6e6, 2035.2e6, 2035.2e6), "cpu3": (345.6e6, 2035.2e6, 1881.6e6),
                     "GPU": (114.75e6, 1134.75e6, 114.75e6), "EMC": (40.8e6, 1600e6, 1600e6)}


@pytest.mark.parametrize(("text", "shown"), [
    (NANO, {"power_mode": "5W", "clocks": "cpu locked, GPU not locked, EMC not locked"}),
    (NANO_LOCKED, {"power_mode": "5W", "clocks": "locked"}),
    (TX2, {"power_mode": "MAXP_CORE_ARM", "clocks": "not locked"}),
    (AGX_ORIN_JP7, {"power_mode": "MAXN", "clocks": "locked"}),
    (AGX_ORIN_JP7.replace("Offline CPUs: 11", "").replace("0-10", "0-11"),
     {"power_mode": "MAXN", "clocks": "cpu not locked, GPU locked, EMC locked"}),
    ("\n".join(line for line in AGX_ORIN_JP7.splitlines() if not line.startswith("GPU")),
     {"power_mode": "MAXN", "clocks": "cpu locked, GPU unknown, EMC locked"}),
    ("Error: Run this script(/usr/bin/jetson_clocks) as a root user\n", {}), ("", {}),
    ("cpu0: MinFreq=1 MaxFreq=2\nOnline CPUs: -,\ncpu1: MinFreq=x MaxFreq= CurrentFreq=3", {})])
def test_are_the_clocks_locked(text: str, shown: dict[str, str]) -> None:
    assert conditions("", text).shown() == shown


def test_the_mode_comes_with_its_number_from_nvpmodel() -> None:
    both = conditions("NV Power Mode: MODE_15W\n0\n", NANO_LOCKED)
    assert (both.mode, both.mode_number) == ("MODE_15W", 0)
    assert both.shown() == {"power_mode": "MODE_15W (0)", "clocks": "locked"}
    assert [both.locked(kind) for kind in ("cpu", "GPU", "EMC", "DLA")] == [True, True, True, None]


INA226 = {"hwmon1/name": "ina226\n", "hwmon1/device": "3-0040", "hwmon1/power1_input": "8125000\n"}


def test_an_ina226_in_microwatts() -> None:
    got = hwmon(Reading(t_s=4, files=INA226))
    assert (got.sensor, got.t_s, got.rails) == ("hwmon", 4, {"ina226": 8.125})
    assert total_w(got) == 8.125


def test_without_a_power_it_is_volts_times_amperes() -> None:
    """12.1 V and 620 mA."""
    files = {"hwmon1/name": "ina219\n", "hwmon1/in1_input": "12100\n", "hwmon1/curr1_input": "620\n"}
    assert hwmon(Reading(t_s=0, files=files)).rails == {"ina219": pytest.approx(7.502)}


def test_two_monitors_of_one_name_stay_two() -> None:
    files = {**INA226, "hwmon2/name": "ina226\n", "hwmon2/device": "3-0041", "hwmon2/power1_input": "1000000\n"}
    assert hwmon(Reading(t_s=0, files=files)).rails == {"ina226 (3-0040)": 8.125, "ina226 (3-0041)": 1.0}


def test_a_regulators_input_goes_before_its_outputs() -> None:
    """What comes out has gone in: 3 W in, 1 W and 1.5 W out are 3 W, not 5.5."""
    files = {"hwmon3/name": "irps5401\n", "hwmon3/power1_input": "3000000", "hwmon3/power1_label": "pin\n",
             "hwmon3/power2_input": "1000000", "hwmon3/power2_label": "pout1\n",
             "hwmon3/power3_input": "1500000", "hwmon3/power3_label": "pout2\n"}
    assert hwmon(Reading(t_s=0, files=files)).rails == {"irps5401 pin": 3.0}
    outputs = {k: t for k, t in files.items() if "power1" not in k}
    assert total_w(hwmon(Reading(t_s=0, files=outputs))) == pytest.approx(2.5)


def test_power_monitors_go_before_regulators() -> None:
    """A monitor in the supply of a regulator has measured it already."""
    files = {**INA226, "hwmon3/name": "irps5401\n", "hwmon3/power1_input": "3000000",
             "hwmon3/power1_label": "pin\n"}
    assert hwmon(Reading(t_s=0, files=files)).rails == {"ina226": 8.125}


def test_no_power_is_an_error() -> None:
    with pytest.raises(BoardError, match="no power under hwmon"):
        hwmon(Reading(t_s=0, files={**INA226, "hwmon1/power1_input": "n/a"}))


def rapl_reading(t_s: float, package: int, other: int | None = None) -> Reading:
    files: dict[str, str | None] = {
        "intel-rapl:0/name": "package-0\n", "intel-rapl:0/max_energy_range_uj": "1000000\n",
        "intel-rapl:0/energy_uj": f"{package}\n", "intel-rapl:0:0/name": "core\n",
        "intel-rapl:0:0/max_energy_range_uj": "1000000\n", "intel-rapl:0:0/energy_uj": f"{package // 2}\n"}
    if other is not None:
        files |= {"intel-rapl:1/name": "package-1\n", "intel-rapl:1/max_energy_range_uj": "1000000\n",
                  "intel-rapl:1/energy_uj": f"{other}\n"}
    return Reading(t_s=t_s, files=files)


def test_rapl_counts_packages_only_and_over_the_end_of_its_range() -> None:
    """0.3 J a second; the counter starts again at 1 J, between the third and the fourth reading."""
    got = rapl([rapl_reading(k, (200_000 + 300_000 * k) % 1_000_000) for k in range(6)])
    assert [one.counter_j for one in got] == pytest.approx([0.0, 0.3, 0.6, 0.9, 1.2, 1.5])
    assert got[0].rails == {}
    assert [one.rails["package-0"] for one in got[1:]] == pytest.approx([0.3] * 5)
    both = rapl([rapl_reading(k, 100_000 * k, 200_000 * k) for k in range(3)])
    assert both[2].counter_j == pytest.approx(0.6)
    assert total_w(both[2]) == pytest.approx(0.3)


def test_a_rapl_reading_without_all_packages_is_passed_over() -> None:
    got = rapl([rapl_reading(0, 0, 0), rapl_reading(1, 500_000), rapl_reading(2, 600_000, 600_000)])
    assert [one.t_s for one in got] == [0, 2]
    assert got[1].counter_j == pytest.approx(1.2)
    with pytest.raises(BoardError, match="no energy counter of a package"):
        rapl([Reading(t_s=0, files={"intel-rapl:0/name": "package-0", "intel-rapl:0/energy_uj": None})])


def lines(columns: str, *texts: str, late_s: tuple[float, ...] = ()) -> list[Reading]:
    return [Reading(t_s=100 + k + (late_s[k] if late_s else 0), text=text, files={"columns": columns})
            for k, text in enumerate(texts)]


def test_a_meters_lines_by_its_columns() -> None:
    got = meter(lines("power_w", "time,power", "3.25", "3.5 W", "nan", "4"))
    assert [(one.t_s, one.rails) for one in got] == [(101, {"METER": 3.25}), (104, {"METER": 4.0})]
    assert total_w(got[0]) == 3.25
    assert meter(lines(",voltage_v,current_a", "7, 5.1, 0.5"))[0].rails == {"METER": pytest.approx(2.55)}
    with pytest.raises(BoardError, match=r"no line of the meter holds a power .* the first is 'volts'"):
        meter(lines("power_w", "volts"))


def test_a_meters_own_clock_is_set_by_the_line_that_came_quickest() -> None:
    """Its clock is 98 s behind; the lines were 0.5, 0.1 and 0.9 s on their way."""
    got = meter(lines("time_s,power_w", "2,1", "3,1", "4,1", late_s=(0.5, 0.1, 0.9)))
    assert [one.t_s for one in got] == pytest.approx([100.1, 101.1, 102.1])
    set_back = meter(lines("time_s,power_w", "9,1", "3,1", "4,1"))
    assert [one.t_s for one in set_back] == [100, 101, 102]                # by arrival: its clock jumped
