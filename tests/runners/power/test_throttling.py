"""Clocks, temperatures and the firmware's word, as a finding."""

from __future__ import annotations

from typing import Any

import pytest

from hwkit.errors import BoardError
from hwkit.runners.power import Reading, Sample, cpu_throttling
from hwkit.runners.power.cpu import sample as cpu

POLICY, ZONE = "devices/system/cpu/cpufreq/policy0", "class/thermal/thermal_zone0"
FILES: dict[str, str | None] = {
    f"{POLICY}/scaling_cur_freq": "1500000\n", f"{POLICY}/scaling_max_freq": "1500000\n",
    f"{POLICY}/scaling_governor": "performance\n", f"{POLICY}/cpuinfo_max_freq": "1500000\n",
    f"{ZONE}/temp": "61842\n", f"{ZONE}/type": "cpu-thermal\n", f"{ZONE}/trip_point_0_type": "critical\n",
    f"{ZONE}/trip_point_0_temp": "110000\n", f"{ZONE}/trip_point_1_type": "passive\n",
    f"{ZONE}/trip_point_1_temp": "80000\n", "devices/platform/soc/soc:firmware/get_throttled": "0\n"}


def test_a_raspberry_pis_files_in_si() -> None:
    got = cpu(Reading(t_s=2, files=FILES))
    assert got.clocks_hz == {"policy0": (1.5e9,)}
    assert (got.limits_hz, got.most_hz) == ({"policy0": 1.5e9}, {"policy0": 1.5e9})
    assert got.temperatures_c == {"cpu-thermal": pytest.approx(61.842)}
    assert got.trips_c == {"cpu-thermal": 80}
    assert (got.governor, got.throttled, got.rails) == ("performance", (), {})


@pytest.mark.parametrize(("text", "told"), [
    ("throttled=0x50005\n", ("under-voltage", "throttled")), ("50000\n", ()), ("8", ("soft temperature limit",)),
    ("throttled=0xe000e", ("clock capped", "throttled", "soft temperature limit")),
    ("VCHI initialization failed", ()), ("", ()), (None, ())])
def test_the_firmwares_bits(text: str | None, told: tuple[str, ...]) -> None:
    """Bits of the documentation; what was once since the start, 16 higher, says nothing of now."""
    assert cpu(Reading(t_s=0, files={**FILES, "vcgencmd get_throttled": text})).throttled == told


def test_a_boosting_clock_is_no_promise() -> None:
    """Of a processor that chooses its own clock, only the one it keeps without end is known, if at all."""
    boosting = {**FILES, f"{POLICY}/scaling_driver": "intel_pstate\n"}
    assert cpu(Reading(t_s=0, files=boosting)).most_hz == {}
    based = {**boosting, f"{POLICY}/base_frequency": "1200000\n"}
    assert cpu(Reading(t_s=0, files=based)).most_hz == {"policy0": 1.2e9}


def test_files_without_numbers_are_absent() -> None:
    got = cpu(Reading(t_s=0, files={**FILES, f"{POLICY}/scaling_cur_freq": "<unknown>\n", f"{ZONE}/temp": None}))
    assert (got.clocks_hz, got.temperatures_c) == ({}, {})
    with pytest.raises(BoardError, match="neither a clock nor a temperature"):
        cpu(Reading(t_s=0, files={}))


def readings(**changes: dict[int, str]) -> list[Sample]:
    """Ten readings a second apart; changes: name of a file -> number of the reading -> its text from then on."""
    named = {"clock": f"{POLICY}/scaling_cur_freq", "limit": f"{POLICY}/scaling_max_freq", "temp": f"{ZONE}/temp",
             "governor": f"{POLICY}/scaling_governor", "firmware": "vcgencmd get_throttled"}
    files, found = dict(FILES), []
    for k in range(10):
        files |= {named[name]: at[k] for name, at in changes.items() if k in at}
        found.append(cpu(Reading(t_s=k, files=files)))
    return found


ALL = [(0.0, 4.0), (5.0, 9.0)]


@pytest.mark.parametrize(("changes", "ok", "words"), [
    ({}, True, ["no lowered clock in 10 readings: policy0 at 1500 of 1500 MHz", "cpu-thermal reached 61.84 °C"]),
    ({"clock": {6: "600000"}, "temp": {5: "81500"}}, False,
     ["the clock was lowered in 4 of 10 readings, first 6.0 s into the timing", "policy0 at 600 of 1500 MHz",
      "governor performance", "cpu-thermal reached 81.5 °C, clocks are lowered from 80 °C on"]),
    ({"clock": {6: "600000"}}, False, ["lowered in 4 of 10"]),                       # whatever the temperature
    ({"firmware": {3: "throttled=0x80008", 5: "throttled=0x80000"}}, False,
     ["the firmware says soft temperature limit in 2 of 10 readings, first 3.0 s"]),
    ({"temp": {8: "78500"}}, None, ["no lowered clock was seen", "reached 78.5 °C"]),
    ({"clock": {0: "1200000"}, "limit": {0: "1200000"}}, None, ["settings of the board hold the clock down"]),
    ({"clock": {5: "1200000"}, "limit": {5: "1200000"}}, False, ["the clock was lowered in 5 of 10"]),
    ({"governor": {0: "schedutil"}, "clock": {0: "600000", 1: "1500000"}}, True, ["no lowered clock"]),
    ({"governor": {0: "schedutil"}, "clock": {0: "600000"}}, False, ["lowered in 10 of 10", "governor schedutil"]),
])
def test_what_is_said_of_it(changes: dict[str, Any], ok: bool | None, words: list[str]) -> None:
    found = cpu_throttling(readings(**changes), ALL)
    assert found is not None
    assert (found.name, found.ok) == ("throttling", ok), found.text
    for part in words:
        assert part in found.text


def test_only_what_was_while_timing_counts() -> None:
    slow = readings(clock={7: "600000"})
    timed = cpu_throttling(slow, [(0.0, 3.0), (4.0, 6.5)])
    assert timed is not None
    assert timed.ok is True
    assert cpu_throttling(slow, [(20.0, 30.0)]) is None
    assert cpu_throttling([Sample(sensor="cpu", t_s=1)], ALL) is None


def test_one_core_at_its_height_is_enough_unless_the_governor_holds_all() -> None:
    idle = {f.replace("policy0", "policy4"): t for f, t in FILES.items() if "policy0" in f} | {
        "devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "300000"}
    for governor, ok in (("schedutil", True), ("performance", False)):
        both = {**FILES, **idle, f"{POLICY}/scaling_governor": governor,
                "devices/system/cpu/cpufreq/policy4/scaling_governor": governor}
        found = cpu_throttling([cpu(Reading(t_s=k, files=both)) for k in range(5)], [(0.0, 9.0)])
        assert found is not None
        assert found.ok is ok, found.text
