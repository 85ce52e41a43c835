"""Budget files: what they accept, and how each line is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwkit.budget import Budget, judge, read, within
from hwkit.errors import BadDescription
from hwkit.measurement import Measurement, sampled, synthesised


def written(folder: Path, text: str) -> Path:
    path = folder / "budget.toml"
    path.write_text(text)
    return path


LATENCY = sampled("latency", "s", "measured", [0.001 * k for k in range(1, 101)])
FLASH = Measurement(quantity="flash", unit="bytes", kind="measured", samples=(1000,))
FLOAT = Measurement(quantity="accuracy_float", unit="1", kind="measured", samples=(0.90,), n=1000)
DEPLOYED = Measurement(quantity="accuracy", unit="1", kind="measured", samples=(0.88,), n=1000)
ESTIMATE = Measurement(quantity="latency", unit="s", kind="estimated", samples=(0.010,), low=0.005, high=0.020)


@pytest.mark.parametrize(("text", "value", "ok", "headroom"), [
    ("[latency]\nmedian_s = 0.1", 0.0505, True, 0.495),
    ("[latency]\nmedian_s = 0.0505", 0.0505, True, 0.0),
    ("[latency]\nmedian_s = 0.05", 0.0505, False, -0.01),
    ("[latency]\np90_s = 0.0901", 0.0901, True, 0.0),
    ("[latency]\np99_s = 0.09", 0.09901, False, -0.1001111),
    ("[memory]\nflash_bytes = 2000", 1000, True, 0.5),
    ("[memory]\nflash_bytes = 999", 1000, False, -1 / 999),
    ("[accuracy]\nfloor = 0.88", 0.88, True, 0.0),
    ("[accuracy]\nfloor = 0.89", 0.88, False, -0.01 / 0.89),
    ("[accuracy]\nlargest_drop = 0.03", 0.02, True, 1 / 3),
    ("[accuracy]\nlargest_drop = 0.01", 0.02, False, -1.0),
])
def test_one_line_by_hand(tmp_path: Path, text: str, value: float, ok: bool, headroom: float) -> None:
    (verdict,) = judge(read(written(tmp_path, text)), "rpi4", [LATENCY, FLASH, FLOAT, DEPLOYED])
    assert verdict.value == pytest.approx(value, rel=1e-9)
    assert verdict.ok is ok
    assert verdict.headroom == pytest.approx(headroom, abs=1e-6)
    assert verdict.kind == "measured"


KERNEL = Measurement(quantity="kernel_latency", unit="s", kind="estimated", samples=(1.5e-4,), low=1e-4, high=2e-4)
RATE = Measurement(quantity="throughput", unit="1/s", kind="estimated", samples=(600,), low=500, high=700)
CYCLES = Measurement(quantity="cycles", unit="cycles", kind="simulated", samples=(31148,))
OUTSIDE = Measurement(quantity="off_chip_bytes", unit="bytes", kind="measured", samples=(0,))
LUT = synthesised("LUT", 20_000, "Yosys 0.70")              # up to 21,000
DSP = synthesised("DSP", 1_312, "Yosys 0.70")               # exactly
TOTALS = {"LUT": 230_400.0, "DSP": 1_728.0}


@pytest.mark.parametrize(("text", "value", "ok", "headroom"), [
    ("[latency]\nkernel_s = 2e-4", 1.5e-4, True, 0.0),
    ("[latency]\nkernel_s = 1.9e-4", 1.5e-4, False, -1 / 19),
    ("[throughput]\nfloor_per_s = 500.0", 600, True, 0.0),          # a floor is judged by the lower end
    ("[throughput]\nfloor_per_s = 501.0", 600, False, -1 / 501),
    ("[cycles]\nper_inference = 31200", 31148, True, 52 / 31200),
    ("[memory]\noff_chip_bytes = 0", 0, True, None),
    ("[resources]\nLUT = 21000", 20_000, True, 0.0),
    ("[resources]\nLUT = 20999", 20_000, False, -1 / 20999),
    ("[resources]\nDSP = 1312", 1_312, True, 0.0),
    ("[utilisation]\nLUT = 0.1", 20_000 / 230_400, True, 1 - 21_000 / 23_040),
    ("[utilisation]\nLUT = 0.09", 20_000 / 230_400, False, 1 - 21_000 / 20_736),
    ("[utilisation]\nDSP = 0.76", 1_312 / 1_728, True, 1 - 1_312 / (0.76 * 1_728)),
])
def test_one_line_of_programmable_logic_by_hand(tmp_path: Path, text: str, value: float, ok: bool,
                                                headroom: float | None) -> None:
    known = [KERNEL, RATE, CYCLES, OUTSIDE, LUT, DSP]
    (verdict,) = judge(read(written(tmp_path, text)), "zcu104", known, totals=TOTALS)
    assert verdict.value == pytest.approx(value)
    assert verdict.ok is ok
    assert verdict.headroom == (None if headroom is None else pytest.approx(headroom, abs=1e-9))


def test_a_share_without_a_total_is_not_measured_and_says_why() -> None:
    budget = Budget.model_validate({"utilisation": {"LUT": 0.7}})
    for known in ([LUT], []):
        (verdict,) = judge(budget, "rpi4", known)
        assert verdict.ok is None
        assert verdict.note.startswith("rpi4 has no programmable logic")
    (verdict,) = judge(budget, "zcu104", [], totals=TOTALS)
    assert verdict.note == "nothing measures it here"


def test_the_worse_end_of_a_share_is_told_as_a_share() -> None:
    budget = Budget.model_validate({"utilisation": {"LUT": 0.7}})
    (verdict,) = judge(budget, "zcu104", [LUT], totals=TOTALS)
    assert verdict.note == "judged by the worse end of its interval, 9.11 %"


def test_the_examples_are_budgets() -> None:
    examples = sorted((Path(__file__).parent.parent / "examples").glob("budget*.toml"))
    assert [e.name for e in examples] == ["budget-fpga.toml", "budget.toml"]
    assert all(read(e).lines("zcu104") for e in examples)


@pytest.mark.parametrize(("limit", "ok"), [(0.020, True), (0.015, False), (0.004, False)])
def test_an_estimate_passes_only_with_its_whole_interval(limit: float, ok: bool) -> None:
    budget = Budget.model_validate({"latency": {"median_s": limit}})
    (verdict,) = judge(budget, "rpi4", [ESTIMATE])
    assert verdict.ok is ok
    assert verdict.kind == "estimated"


def test_what_nothing_measured_fails_unless_the_file_says_ignore() -> None:
    for unmeasured, passes in (("fail", False), ("ignore", True)):
        budget = Budget.model_validate({"unmeasured": unmeasured, "energy": {"per_inference_j": 1.0}})
        verdicts = judge(budget, "rpi4", [FLASH], not_measured={"energy": "no sensor"})
        assert verdicts[0].ok is None
        assert verdicts[0].note == "no sensor"
        assert within(budget, verdicts) is passes


def test_a_tail_needs_samples_and_is_not_read_from_one_number() -> None:
    budget = Budget.model_validate({"latency": {"p99_s": 1.0}})
    (verdict,) = judge(budget, "rpi4", [ESTIMATE])
    assert verdict.ok is None


def test_a_target_overrides_single_lines() -> None:
    budget = Budget.model_validate({"memory": {"flash_bytes": 500, "arena_bytes": 7},
                                    "target": {"rpi4": {"memory": {"flash_bytes": 2000}}}})
    assert budget.lines("rpi4") == {"memory.flash_bytes": 2000, "memory.arena_bytes": 7}
    assert budget.lines("rpi3") == {"memory.flash_bytes": 500, "memory.arena_bytes": 7}


def test_the_heaviest_operator_is_named() -> None:
    budget = Budget.model_validate({"memory": {"flash_bytes": 10}})
    (verdict,) = judge(budget, "rpi4", [FLASH], heaviest={"flash": "stem/0 CONV_2D"})
    assert verdict.heaviest == "stem/0 CONV_2D"


@pytest.mark.parametrize(("text", "expected"), [
    ("[latency]\nmedian_ms = 3", "latency.median_ms: unknown key; did you mean 'median_s'?"),
    ("[memory]\nflash_kb = 3", "memory.flash_kb: unknown key; did you mean 'flash_bytes'?"),
    ("[latancy]\nmedian_s = 3", "latancy: unknown key; did you mean 'latency'?"),
    ("[latency]\nmedian_s = 'fast'", "latency.median_s: input should be a valid number"),
    ("[latency]\nmedian_s = -1", "latency.median_s: input should be greater than 0"),
    ("[latency]\nmedian_s = nan", "latency.median_s: input should be"),
    ("[accuracy]\nfloor = 88", "accuracy.floor: input should be less than or equal to 1"),
    ("[resources]\nLUTS = 5", "resources.LUTS: unknown key; did you mean 'LUT'?"),
    ("[resources]\nDSP = -1", "resources.DSP: input should be greater than or equal to 0"),
    ("[utilisation]\nLUT = 70.0", "utilisation.LUT: input should be less than or equal to 1"),
    ("[throughput]\nfloor_per_s = 0.0", "throughput.floor_per_s: input should be greater than 0"),
    ("[latency\n", "not valid TOML"),
    ("", "sets no limit at all"),
    ("[latency]\nmedian_s = true", "latency.median_s: input should be a valid number"),
    ("[target.rpi9.latency]\nmedian_s = 1.0", "target.rpi9: no target has that name"),
    ("unmeasured = 'ignore'", "sets no limit at all"),
])
def test_a_wrong_file_is_one_line_with_the_key(tmp_path: Path, text: str, expected: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadDescription) as caught:
        read(path)
    line = caught.value.line()
    assert expected in line
    assert str(path) in line
    assert "\n" not in line
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match="no such file"):
        read(tmp_path / "nothing.toml")
