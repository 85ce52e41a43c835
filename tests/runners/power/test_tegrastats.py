"""Lines that boards printed, read by hand here; and thousands of damaged ones."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit.errors import BoardError
from hwkit.runners.power import Sample, total, total_w
from hwkit.runners.power.tegrastats import parse

TEXT = (Path(__file__).resolve().parents[2] / "data/jetson/tegrastats.txt").read_text()
LINES: dict[str, str] = dict(re.findall(r"^# ([\w-]+): .*\n(?!#)(.+)$", TEXT, re.MULTILINE))
MIB = 1048576
MUTATED = 10_000

# rails in W, temperatures in °C, RAM in MB as printed: all read off the lines by eye
EXPECTED: dict[str, dict[str, Any]] = {
    "nano-jp4": dict(
        rails={"POM_5V_IN": 0.933, "POM_5V_GPU": 0, "POM_5V_CPU": 0.084}, total=0.933, ram=(331, 3964), swap=0,
        temperatures={"PLL": 20.5, "CPU": 23.5, "PMIC": 100, "GPU": 22.5, "AO": 27.5, "thermal": 23},
        loads={"EMC": 0.03, "GR3D": 0}, clocks={"EMC": (204,), "GR3D": (76,), "APE": (25,)}, cores=[102] * 4),
    "tx2-jp4": dict(
        rails={"VDD_IN": 1.383, "VDD_CPU": 0.153, "VDD_GPU": 0.076, "VDD_SOC": 0.384, "VDD_WIFI": 0.364,
               "VDD_DDR": 0.192}, total=1.383, ram=(696, 7854), swap=None,
        temperatures={"BCPU": 30, "MCPU": 30, "GPU": 28, "PLL": 30, "Tboard": 26, "Tdiode": 27, "PMIC": 100,
                      "thermal": 29.2},
        loads={"EMC": 0.01, "GR3D": 0}, clocks={"EMC": (665,), "GR3D": (140,), "APE": (150,)}, cores=[345] * 6),
    "agx-xavier-jp4": dict(
        rails={"GPU": 1.155, "CPU": 0.385, "SOC": 2.502, "CV": 0, "VDDRQ": 0.192, "SYS5V": 2.692}, total=6.926,
        ram=(408, 15823), swap=0,
        temperatures={"AO": 26.5, "GPU": 28, "iwlwifi": 30, "Tdiode": 31.25, "PMIC": 100, "AUX": 27, "CPU": 28,
                      "thermal": 27.45, "Tboard": 27},
        loads={"EMC": 0, "GR3D": 0}, clocks={"EMC": (2133,), "GR3D": (1377,), "APE": (150,)}, cores=[2265] * 8),
    "xavier-nx-jp5": dict(
        rails={"VDD_IN": 2.763, "VDD_CPU_GPU_CV": 0.650, "VDD_SOC": 0.650}, total=2.763,
        ram=(3168, 6851), swap=161,
        temperatures={"AUX": 45, "CPU": 46.5, "thermal": 45.6, "AO": 45, "GPU": 45.5, "PMIC": 50},
        loads={"EMC": 0.02, "GR3D": 0}, clocks={"EMC": (204,), "GR3D": (114,), "VIC": (115,), "APE": (150,)},
        cores=[1397, 1192, 1190, 1190, 1190, 1190], cpu=[0.23, 0.17, 0.16, 0.13, 0.23, 0.10]),
    "agx-orin-jp5": dict(
        rails={"VDD_GPU_SOC": 2.390, "VDD_CPU_CV": 0.796, "VIN_SYS_5V0": 3.522, "VDDQ_VDD2_1V8AO": 0.301},
        total=6.708, ram=(2257, 30536), swap=0,      # the DDR rail lies behind VIN_SYS_5V0
        temperatures={"CPU": 41.437, "Tboard": 29, "SOC2": 39.062, "Tdiode": 30.75, "SOC0": 39.031, "tj": 41.656,
                      "SOC1": 38.937},
        loads={"EMC": 0, "GR3D": 0, "GR3D2": 0},
        clocks={"EMC": (204,), "GR3D": (0,), "GR3D2": (0,), "NVJPG1": (729,), "VIC": (115,), "APE": (233,)},
        cores=[729] * 12),
    "orin-nano-jp6-user": dict(
        rails={"VDD_IN": 4.824, "VDD_CPU_GPU_CV": 0.518, "VDD_SOC": 1.475}, total=4.824,
        ram=(3452, 7620), swap=1518,
        temperatures={"cpu": 50.031, "soc2": 49.031, "soc0": 50, "gpu": 49.031, "tj": 50.25, "soc1": 50.25},
        loads={"GR3D": 0}, clocks={}, cores=[1420, 1420, 1420, 1420, 729, 729],
        cpu=[0.01, 0.02, 0, 0.02, 0.02, 0.01]),
    "orin-nano-4gb": dict(
        rails={"VDD_IN": 4.428, "VDD_CPU_GPU_CV": 0.562}, total=4.428, ram=(1484, 3602), swap=436,
        temperatures={"cpu": 56.281, "soc2": 55.843, "soc0": 54.093, "gpu": 55.843, "tj": 56.281, "soc1": 56.187},
        loads={"EMC": 0, "GR3D": 0}, clocks={"EMC": (2133,), "GR3D": (305,), "APE": (200,)},
        off=("NVDEC", "NVJPG", "NVJPG1", "VIC", "OFA"), cores=[729] * 6),
    "orin-nano-three": dict(
        rails={"VDD_IN": 3.848, "VDD_CPU_GPU_CV": 0.606, "VDD_SOC": 1.174}, total=3.848,
        ram=(2390, 7486), swap=None,
        temperatures={"cpu": 45.687, "soc2": 45.156, "soc0": 45.468, "gpu": 46.843, "tj": 46.843, "soc1": 46.156},
        loads={"GR3D": 0}, clocks={}, cores=[729, 729, 729, 883, 729, 729]),
    "agx-orin-jp7": dict(
        rails={"VDD_GPU_SOC": 5.139, "VDD_CPU_CV": 3.268, "VIN_SYS_5V0": 5.5}, total=13.907, ram=(20642, 62817),
        swap=None, temperatures={"cpu": 52.968, "soc2": 48.406, "soc0": 49.531, "gpu": 47.625},
        loads={"EMC": 0.03, "GR3D": 0.12}, clocks={"EMC": (3199,), "GR3D": (1300, 1300), "APE": (174,)},
        off=("NVENC0", "NVDEC0", "NVJPG0", "NVJPG1", "VIC", "OFA", "NVDLA0", "NVDLA1", "PVA0"), cores=[2201] * 12),
    "nano-jp46": dict(
        rails={"POM_5V_IN": 1.75, "POM_5V_GPU": 0, "POM_5V_CPU": 0.366}, total=1.75, ram=(1923, 3964), swap=191,
        temperatures={"PLL": 37, "CPU": 40, "PMIC": 50, "GPU": 40, "AO": 45, "thermal": 40},
        loads={"EMC": 0, "GR3D": 0}, clocks={"EMC": (1600,), "GR3D": (76,), "APE": (25,)}, cores=[1224] * 4,
        cpu=[0.05, 0.04, 0.03, 0.06]),
    "agx-xavier-user": dict(
        rails={}, total=None, ram=(3149, 31920), swap=0,
        temperatures={"AO": 35, "GPU": 35, "Tdiode": 37.75, "PMIC": 50, "AUX": 34.5, "CPU": 37.5, "thermal": 35.55,
                      "Tboard": 35},
        loads={"EMC": 0, "GR3D": 0.39}, clocks={}, cores=[2188] * 4 + [None] * 4,
        cpu=[0.57, 0.56, 0.57, 0.63, None, None, None, None]),
    "agx-orin-dla": dict(
        rails={"VDD_GPU_SOC": 3.150, "VDD_CPU_CV": 14.312, "VIN_SYS_5V0": 4.968, "VDDQ_VDD2_1V8AO": 1.091},
        total=22.43, ram=(13983, 62780), swap=126,
        temperatures={"CV0": 73.625, "CPU": 77.281, "Tboard": 62, "SOC2": 70, "Tdiode": 62.25, "SOC0": 69.531,
                      "CV1": 72.5, "GPU": 69.125, "tj": 77.281, "SOC1": 68.968, "CV2": 67.25},
        loads={"EMC": 0.01, "GR3D": 0.14},
        clocks={"EMC": (2133,), "GR3D": (407, 407), "VIC": (115,), "NVDLA0": (1600,), "APE": (174,)},
        cores=[2201] * 12),
    "thor-jp7": dict(
        rails={"VDD_GPU": 6.330, "VIN": 28.906}, total=28.906, ram=(3429, 125749), swap=None,
        temperatures={"cpu": 49.75, "tj": 51.218, "gpu": 51.218}, loads={},
        clocks={"EMC": (4266,), "GR3D": (1574, 1574, 1574)}, cores=[2601, 2601, None], cpu=[0, 0.05, None]),
    "tx1-jp3": dict(
        rails={}, total=None, ram=(3607, 3983), swap=873, temperatures={}, loads={"EMC": 0.01, "GR3D": 0.39},
        clocks={"EMC": (1600,), "GR3D": (76,), "APE": (25,)}, cores=[1734] * 4, cpu=[0.17, 0.11, 0.65, 0]),
}


def test_every_line_is_expected() -> None:
    assert set(LINES) == set(EXPECTED)
    assert len(LINES) == sum(1 for line in TEXT.splitlines() if line and not line.startswith("#"))


@pytest.mark.parametrize("name", list(EXPECTED))
def test_a_boards_line(name: str) -> None:
    want = EXPECTED[name]
    got = parse(LINES[name], 7.5)
    assert (got.sensor, got.t_s) == ("tegrastats", 7.5)
    assert got.rails == pytest.approx(want["rails"])
    assert got.temperatures_c == pytest.approx(want["temperatures"])
    assert got.loads == pytest.approx(want["loads"])
    assert got.gpu_load == want["loads"].get("GR3D")
    assert got.clocks_hz == {engine: tuple(mhz * 1e6 for mhz in each) for engine, each in want["clocks"].items()}
    assert got.off == want.get("off", ())
    assert got.cpu_clock_hz == tuple(mhz and mhz * 1e6 for mhz in want["cores"])
    if "cpu" in want:
        assert got.cpu_load == tuple(want["cpu"])
    assert (got.ram_used_bytes, got.ram_total_bytes) == tuple(mb * MIB for mb in want["ram"])
    assert got.swap_used_bytes == (None if want["swap"] is None else want["swap"] * MIB)
    assert total_w(got) == (None if want["total"] is None else pytest.approx(want["total"]))


def test_the_total_says_which_rails_it_took() -> None:
    said = {name: total(parse(line).rails) for name, line in LINES.items()}
    told = {name: chosen.text for name, chosen in said.items() if chosen}
    assert told["nano-jp4"] == "rail POM_5V_IN, the input that feeds all others"
    assert told["orin-nano-4gb"] == "rail VDD_IN, the input that feeds all others"
    assert told["agx-xavier-jp4"] == ("sum of the rails CPU, CV, GPU, SOC, SYS5V, VDDRQ; "
                                      "none of them is the input of the board")
    assert told["agx-orin-jp5"] == ("sum of the rails VDD_CPU_CV, VDD_GPU_SOC, VIN_SYS_5V0, VDDQ_VDD2_1V8AO left "
                                    "out as it is behind VIN_SYS_5V0; none of them is the input of the board")
    assert said["tx1-jp3"] is None


def test_a_part_is_never_shown_as_the_whole() -> None:
    whole = total(parse(LINES["agx-xavier-jp4"]).rails)
    assert whole is not None
    assert whole.w({"GPU": 1.0, "CPU": 2.0}) is None
    assert whole.w({"GPU": 1, "CPU": 2, "SOC": 3, "CV": 4, "VDDRQ": 5, "SYS5V": 6, "NEW": 100}) == 21


@pytest.mark.parametrize(("damage", "by", "gone"), [
    ("VDD_IN 2763mW/2846mW", "VDD_IN 2763W/2846W", "VDD_IN"),             # a unit that is not known
    ("VDD_IN 2763mW/2846mW", "VDD_IN 2763uW/2846uW", "VDD_IN"),
    ("VDD_IN 2763mW/2846mW", "VDD_IN 2763mA/2846mA", "VDD_IN"),
    ("VDD_IN 2763mW/2846mW", "VDD_IN 2763/2846", "VDD_IN"),               # no unit where the others have one
    ("VDD_IN 2763mW/2846mW", "VDD_IN 2763mW/2846", "VDD_IN"),
    ("VDD_IN 2763mW/2846mW", "VDD_IN 2.763W", "VDD_IN"),
    ("VDD_IN 2763mW/2846mW", "VDD_IN", "VDD_IN"),
    ("VDD_IN 2763mW/2846mW", "VDD_IN -1mW/5mW", "VDD_IN"),
    ("VDD_IN 2763mW/2846mW", "VDD_IN 2763mW/1mW VDD_IN 1mW/1mW", "VDD_IN"),   # twice: which one?
    ("VDD_SOC 650mW/711mW", "vdd:soc 650mW/711mW", "VDD_SOC"),
])
def test_a_malformed_power_is_absent(damage: str, by: str, gone: str) -> None:
    line = LINES["xavier-nx-jp5"]
    assert damage in line
    whole, damaged = parse(line), parse(line.replace(damage, by))
    assert gone not in damaged.rails
    assert damaged.rails == {name: w for name, w in whole.rails.items() if name != gone}


@pytest.mark.parametrize(("damage", "by", "field"), [
    ("RAM 3168/6851MB", "RAM 3168/6851", "ram_used_bytes"),
    ("RAM 3168/6851MB", "RAM 3168/6851TB", "ram_used_bytes"),
    ("SWAP 161/3426MB", "SWAP 161MB", "swap_used_bytes"),
    ("GR3D_FREQ 0%@[114]", "GR3D_FREQ 140%@[114]", "gpu_load"),
    ("GR3D_FREQ 0%@[114]", "GR3D_FREQ 0", "gpu_load"),
    ("GR3D_FREQ 0%@[114]", "GR3D_FREQ ?", "gpu_load"),
])
def test_a_malformed_field_is_none(damage: str, by: str, field: str) -> None:
    line = LINES["xavier-nx-jp5"]
    assert damage in line
    assert getattr(parse(line), field) is not None
    assert getattr(parse(line.replace(damage, by)), field) is None


def test_other_damage() -> None:
    line = LINES["xavier-nx-jp5"]
    assert "CPU" not in parse(line.replace("CPU@46.5C", "CPU@46.5F")).temperatures_c
    assert "GR3D" not in parse(line.replace("0%@[114]", "0%@[114,x]")).clocks_hz
    assert parse(line.replace("17%@1192", "?")).cpu_load == (0.23, None, 0.16, 0.13, 0.23, 0.10)
    assert parse(line.replace("CPU [", "CPU (")).cpu_load == ()
    assert parse(line.replace("RAM 3168/6851MB", "RAM 2/4GB")).ram_used_bytes == 2 * 1024 * MIB
    assert parse(line + " BRAND_NEW 5 FUTURE@x THING 3/4/5/6").rails == parse(line).rails


@pytest.mark.parametrize("line", [
    "", "\n", "bash: tegrastats: command not found", "VDD_IN 2763mW/2846mW", "STEP 3/4", "\x00\xff", "RAM",
    "CPU [", "RAM " + "9" * 5000 + "/1MB", "Usage: tegrastats [-interval <millisec>]"])
def test_what_is_no_line_of_it_is_one_clear_error(line: str) -> None:
    with pytest.raises(BoardError, match="not a line of tegrastats") as caught:
        parse(line)
    assert "\n" not in caught.value.line()
    assert len(caught.value.line()) < 400


UNITS = ["mW", "W", "kW", "uW", "mA", "mV", "V", "MB", "kB", "GB", "TB", "B", "C", "F", "K", "%", "MHz", ""]


def mutate(line: str, rng: random.Random) -> str:
    """One to four of: a character or word deleted, inserted, swapped or repeated; a unit replaced."""
    for _ in range(rng.randint(1, 4)):
        words = line.split(" ")
        i, j = rng.randrange(len(line) or 1), rng.randrange(len(words))
        kind = rng.randrange(8)
        if kind == 0:
            line = line[:i] + line[i + 1:]
        elif kind == 1:
            line = line[:i] + rng.choice("0123456789/@%[]() ,.-mWMBCoff_AÄ٣²\t") + line[i:]
        elif kind == 2 and i + 1 < len(line):
            line = line[:i] + line[i + 1] + line[i] + line[i + 2:]
        elif kind == 3:
            del words[j]
            line = " ".join(words)
        elif kind == 4:
            k = rng.randrange(len(words))
            words[j], words[k] = words[k], words[j]
            line = " ".join(words)
        elif kind == 5:
            words.insert(j, rng.choice(words))
            line = " ".join(words)
        elif kind == 6:
            found = list(re.finditer(r"(?<=\d)(mW|MB|kB|C|%)", line))
            if found:
                at = rng.choice(found)
                line = line[:at.start()] + rng.choice(UNITS) + line[at.end():]
        else:
            line = line.replace(rng.choice(["mW", "MB", "C ", "%"]), rng.choice(UNITS))
    return line


def agrees(line: str, got: Sample) -> None:
    """Every number in `got` stands in the line beside its name and unit, looked up in another way."""
    for rail, w in got.rails.items():
        assert 0 <= w <= 999_999.999
        mw = round(w * 1000)
        assert abs(mw - w * 1000) < 1e-6
        spelt = [f"{rail} {zeros}{mw}{unit}/" for zeros in ("", "0", "00", "000") for unit in ("mW", "")]
        joined = " ".join(line.split())
        assert any(text in joined for text in spelt), (rail, w)
        if not any(f"{text}" in joined for text in spelt[::2]):
            # without a unit: then no power of this line may have one
            assert not re.search(r"[A-Z0-9] \d+mW/\d+(mW)?", joined), (rail, w)
    if got.ram_used_bytes is not None:
        used = re.findall(r"\bRAM (\d+)/\d+([kMG])B", " ".join(line.split()))
        assert got.ram_used_bytes in [int(n) * {"k": 1024, "M": MIB, "G": 1024 * MIB}[unit] for n, unit in used]
    for zone, c in got.temperatures_c.items():
        assert c in [float(n) for n in re.findall(re.escape(zone) + r"@(-?[\d.]+)C", line)]
    for engine, share in got.loads.items():
        assert 0 <= share <= 1
        assert round(share * 100) in [int(n) for n in re.findall(engine + r"(?:_FREQ)?\s+(\d+)%", line)]
    assert all(hz >= 0 and hz % 1e6 == 0 for each in got.clocks_hz.values() for hz in each)
    assert all(share is None or 0 <= share <= 1 for share in got.cpu_load)
    assert len(got.cpu_load) == len(got.cpu_clock_hz)


def test_ten_thousand_damaged_lines() -> None:
    """No crash, and no number with a unit it does not have."""
    rng = random.Random(20260401)
    lines = list(LINES.values())
    refused, rails = 0, 0
    for _ in range(MUTATED):
        line = mutate(rng.choice(lines), rng)
        try:
            got = parse(line)
        except BoardError:
            refused += 1
            continue
        agrees(line, got)
        rails += len(got.rails)
    assert refused < MUTATED // 100          # a damaged field does not cost the line
    assert rails > 2 * MUTATED


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text(text: str) -> None:
    for line in (text, "RAM 1/2MB " + text, LINES["xavier-nx-jp5"] + " " + text):
        try:
            parse(line)
        except BoardError:
            assert not line.startswith("RAM 1/2MB ")


numbers = st.integers(0, 999_999)
rail_names = st.from_regex(r"[A-Z][A-Z0-9_]{0,12}", fullmatch=True).filter(
    lambda name: name not in ("RAM", "SWAP", "IRAM", "NC"))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(rail_names, st.tuples(numbers, numbers, numbers), min_size=1, max_size=6),
       st.sampled_from([("", 2), ("mW", 2), ("mW", 3)]))
def test_whatever_the_rails_are_called(rails: dict[str, tuple[int, int, int]], form: tuple[str, int]) -> None:
    unit, fields = form
    said = " ".join(name + " " + "/".join(f"{mw}{unit}" for mw in mws[:fields]) for name, mws in rails.items())
    assert parse("RAM 1/2MB " + said).rails == {name: mws[0] / 1000 for name, mws in rails.items()}
