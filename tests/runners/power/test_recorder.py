"""The recorder that runs on a board, executed here against made-up boards, and its file read back.

A board is a folder with sys/ and usr/: files as the kernels of JetPack 4 and 5 show them, and stand-ins for the
programs, which print what boards printed.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwkit.data import shipped
from hwkit.errors import BoardError, JobFailed
from hwkit.process import run
from hwkit.runners.power import Recording, energy, idle, read, throttling, total_w
from tests.payloads import loaded

HERE = Path(__file__).resolve().parent
LINES = [line for line in (HERE.parents[1] / "data/jetson/tegrastats.txt").read_text().splitlines()
         if "VDD_IN 4428mW" in line]
PAYLOAD = shipped("boards", "payloads", "sense.py")
JETPACK_5 = {"1-0040/name": "ina3221", "1-0040/hwmon/hwmon3/name": "ina3221",
             "1-0040/hwmon/hwmon3/in1_label": "VDD_IN", "1-0040/hwmon/hwmon3/in1_input": "5000",
             "1-0040/hwmon/hwmon3/curr1_input": "900", "1-0040/hwmon/hwmon3/in2_label": "VDD_SOC",
             "1-0040/hwmon/hwmon3/in2_input": "5000", "1-0040/hwmon/hwmon3/curr2_input": "300",
             "1-0040/hwmon/hwmon3/in7_label": "sum of shunt voltages", "1-0040/hwmon/hwmon3/in7_input": "1200",
             "1-0050/name": "24c02",
             "1-0068/name": "other", "1-0068/hwmon/hwmon1/in1_label": "VDD_IN",
             "1-0068/hwmon/hwmon1/in1_input": "1", "1-0068/hwmon/hwmon1/curr1_input": "1"}
JETPACK_4 = {"6-0040/name": "ina3221x", "6-0040/iio:device0/rail_name_0": "POM_5V_IN",
             "6-0040/iio:device0/in_power0_input": "2104", "6-0040/iio:device0/in_voltage0_input": "5072",
             "6-0040/iio:device0/in_current0_input": "416", "6-0040/iio:device0/rail_name_1": "POM_5V_GPU",
             "6-0040/iio:device0/in_power1_input": "41", "6-0040/iio:device0/in_voltage1_input": "5072",
             "6-0040/iio:device0/in_current1_input": "8"}
SYS = {"class/hwmon/hwmon0/name": "acpitz", "class/hwmon/hwmon0/temp1_input": "40000",
       "class/hwmon/hwmon1/name": "ina226", "class/hwmon/hwmon1/power1_input": "8125000",
       "class/hwmon/hwmon2/name": "ina3221", "class/hwmon/hwmon2/power1_input": "1",
       "class/hwmon/hwmon3/name": "ina219", "class/hwmon/hwmon3/in1_input": "5000",
       "class/hwmon/hwmon3/curr1_input": "300",
       "class/powercap/intel-rapl:0/name": "package-0", "class/powercap/intel-rapl:0/energy_uj": "5000000",
       "class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850",
       "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000",
       "devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1500000",
       "devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "1500000",
       "devices/system/cpu/cpufreq/policy0/scaling_governor": "performance",
       "class/thermal/thermal_zone0/type": "cpu-thermal", "class/thermal/thermal_zone0/temp": "50000",
       "class/thermal/thermal_zone0/trip_point_0_type": "passive",
       "class/thermal/thermal_zone0/trip_point_0_temp": "80000"}
CLOCKS = """SOC family:tegra234  Machine:a stand-in
Online CPUs: 0-1
cpu0:  Online=1 Governor=schedutil MinFreq=1510400 MaxFreq=1510400 CurrentFreq=1510400 IdleStates: WFI=0 c7=0
GPU MinFreq=624750000 MaxFreq=624750000 CurrentFreq=624750000
EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=1
NV Power Mode: 15W"""

Board = Callable[..., Path]


@pytest.fixture(scope="session")
def sense() -> Any:
    return loaded(PAYLOAD)


def make_board(root: Path, devices: dict[str, str], below: str = "bus/i2c/devices", **programs: str) -> Path:
    """A board with these files in a folder of sys/ and shell scripts of these names."""
    for name, text in devices.items():
        path = root / "sys" / below / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    for name, script in programs.items():
        path = root / ("usr/sbin" if name == "nvpmodel" else "usr/bin") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return root


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return lambda devices, **programs: make_board(tmp_path / "board", devices, **programs)


def tegrastats(lines: list[str], before: str = "") -> str:
    """Prints the lines again and again at the interval it is given in ms, as the real one does."""
    said = "\n".join(f"echo '{line}'; sleep $pause" for line in lines)
    return f'{before}\npause=$(printf "%d.%03d" $(($2 / 1000)) $(($2 % 1000)))\nwhile :; do\n{said}\ndone'


def recorded(path: Path, *options: str, seconds: float = 0.25) -> Recording:
    run([sys.executable, str(PAYLOAD), str(path), "--interval", "0.05", "--seconds", str(seconds), *options],
        timeout_s=30, what="recorder")
    return read(path)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory, sense: Any) -> Recording:
    """What a measured program does: idle, then work, each long enough for an energy."""
    folder = tmp_path_factory.mktemp("long")
    root = make_board(folder / "board", JETPACK_5, tegrastats=tegrastats(LINES, f"echo $$ > {folder}/pid"),
                      nvpmodel="echo 'NV Power Mode: 15W'; echo 0", jetson_clocks=f"cat <<EOF\n{CLOCKS}\nEOF")
    out = folder / "power.jsonl"
    recorder = sense.Recorder(out, ["--root", str(root), "--interval", "0.1"])
    assert recorder.start()
    begun = time.monotonic()
    time.sleep(2.5)
    current = root / "sys/bus/i2c/devices/1-0040/hwmon/hwmon3/curr1_input"
    middle = time.monotonic()
    current.write_text("1500\n")                       # 7.5 W instead of 4.5 W
    time.sleep(2.5)
    recorder.window("idle", begun, middle)
    recorder.window("timed", middle, time.monotonic(), 50)
    recorder.stop()
    assert recorder.problem == ""
    with pytest.raises(ProcessLookupError):            # nothing goes on running on the board
        os.kill(int((folder / "pid").read_text()), 0)
    return read(out)


def test_a_run_from_the_sensors_to_the_energy(long_run: Recording) -> None:
    assert sorted(note.split(":")[0] for note in long_run.notes) == ["cpu", "hwmon", "nvml", "rapl"]   # no others
    assert any("cannot open shared object file" in note for note in long_run.notes)
    assert long_run.conditions == {"power_mode": "15W (0)", "clocks": "locked"}
    assert set(long_run.samples) == {"ina3221", "tegrastats"}
    first = long_run.samples["ina3221"][0]
    assert first.rails == pytest.approx({"VDD_IN": 4.5, "VDD_SOC": 1.5})
    assert {total_w(s) for s in long_run.samples["tegrastats"]} == {4.428}
    waiting, timed = long_run.windows["idle"], long_run.windows["timed"]
    assert timed.inferences == 50
    samples = long_run.samples["ina3221"]
    rest = idle(samples, waiting.start_s, waiting.end_s, long_run.conditions)
    work = energy(samples, timed.start_s, timed.end_s, timed.inferences, rest.measurements[0])
    assert (rest.not_measured, work.not_measured) == ({}, {})
    power, joules = work.measurements
    assert rest.measurements[0].value == pytest.approx(4.5, abs=0.15)     # the step lies between two readings
    assert power.value == pytest.approx(7.5, abs=0.15)
    assert joules.value == pytest.approx(3.0 * (timed.end_s - timed.start_s) / 50, rel=0.1)
    assert rest.measurements[0].conditions["power_mode"] == "15W (0)"


def test_both_sensors_keep_their_interval(long_run: Recording) -> None:
    """5 s at 0.1 s are 50 readings; a busy machine may lose some."""
    for name, samples in long_run.samples.items():
        assert 25 <= len(samples) <= 60, name
        times = [s.t_s for s in samples]
        assert times == sorted(times)


def test_jetpack_4(board: Board, tmp_path: Path) -> None:
    found = recorded(tmp_path / "out", "--root", str(board(JETPACK_4)))
    assert found.samples["ina3221"][0].rails == pytest.approx({"POM_5V_IN": 2.104, "POM_5V_GPU": 0.041})
    assert {total_w(s) for s in found.power} == {2.104}
    assert found.conditions == {}
    for name in ("nvpmodel", "jetson_clocks", "tegrastats"):
        assert f"{name}: not installed" in found.notes


def test_a_machine_without_any_sensor_says_so(board: Board, tmp_path: Path) -> None:
    found = recorded(tmp_path / "out", "--root", str(board({})), seconds=0.1)
    assert (found.samples, found.power, found.windows) == ({}, (), {})
    assert any("ina3221: no INA3221 under" in note for note in found.notes)
    assert any("nvml: " in note and "cannot open shared object" in note for note in found.notes)
    assert idle(found.power, 0, 5).not_measured == {"idle_power": "no sensor gave the power of a rail"}


def test_a_sensor_that_dies_is_told_and_the_others_go_on(board: Board, tmp_path: Path) -> None:
    root = board(JETPACK_5, tegrastats=f"echo '{LINES[0]}'; echo 'Segmentation fault'; exit 5")
    found = recorded(tmp_path / "out", "--root", str(root))
    assert len(found.samples["tegrastats"]) == 1
    assert "not a line of tegrastats: 'Segmentation fault'" in found.notes
    assert "tegrastats: ended by itself with exit status 5" in found.notes
    assert len(found.samples["ina3221"]) >= 2


def test_files_that_vanish_and_come_back(board: Board, tmp_path: Path, sense: Any) -> None:
    devices = board(JETPACK_5) / "sys/bus/i2c/devices"
    recorder = sense.Recorder(tmp_path / "out", ["--root", str(tmp_path / "board"), "--interval", "0.02",
                                                 "--sensors", "ina3221"])
    assert recorder.start()
    time.sleep(0.2)
    (devices / "1-0040").rename(devices / "gone")
    time.sleep(0.2)
    (devices / "gone").rename(devices / "1-0040")
    time.sleep(0.2)
    recorder.stop()
    found = read(tmp_path / "out")
    told = [note for note in found.notes if note.startswith("ina3221: ")]
    assert len(told) == 2
    assert "No such file or directory" in told[0]
    assert told[1] == "ina3221: can be read again"
    pauses = [b.t_s - a.t_s for a, b in zip(found.power, found.power[1:], strict=False)]
    assert max(pauses) > 0.1


def test_one_channel_that_cannot_be_read_costs_its_rail_only(board: Board, tmp_path: Path) -> None:
    root = board(JETPACK_5)
    broken = root / "sys/bus/i2c/devices/1-0040/hwmon/hwmon3/in2_input"
    broken.unlink()
    broken.mkdir()                                     # fails to be read, as a channel that is switched off does
    found = recorded(tmp_path / "out", "--root", str(root), "--sensors", "ina3221")
    assert found.samples["ina3221"][0].rails == pytest.approx({"VDD_IN": 4.5})


def test_a_change_of_the_power_mode_is_told(board: Board, tmp_path: Path) -> None:
    root = board({}, nvpmodel=f"[ -e {tmp_path}/seen ] && echo 'NV Power Mode: 7W' || echo 'NV Power Mode: 15W'\n"
                              f"echo 1; touch {tmp_path}/seen", jetson_clocks="echo 'as a root user'; exit 1")
    found = recorded(tmp_path / "out", "--root", str(root), seconds=0.1)
    assert found.conditions == {"power_mode": "15W (1)"}
    assert "the power mode changed from 15W to 7W while it was recorded" in found.notes


def test_ctrl_c_and_kill_end_it_properly(board: Board, tmp_path: Path, sense: Any) -> None:
    root = board({}, tegrastats=tegrastats(LINES, f"echo $$ > {tmp_path}/pid"))
    for number in (signal.SIGINT, signal.SIGTERM):
        recorder = sense.Recorder(tmp_path / "out", ["--root", str(root), "--interval", "0.05"])
        assert recorder.start()
        time.sleep(0.3)
        os.kill(recorder._child.pid, number)
        recorder._child.wait(10)
        recorder.stop()
        assert recorder.problem == ""
        assert "the recorder did not come to its end" not in read(tmp_path / "out").notes
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_measured_program_survives_the_recorders_death(board: Board, tmp_path: Path, sense: Any) -> None:
    root = board({}, tegrastats=tegrastats(LINES, f"echo $$ > {tmp_path}/pid"))
    recorder = sense.Recorder(tmp_path / "out", ["--root", str(root), "--interval", "0.05"])
    assert recorder.start()
    time.sleep(0.3)
    os.kill(recorder._child.pid, signal.SIGKILL)
    recorder._child.wait(10)
    recorder.window("timed", 1.0, 2.0, 3)
    assert "was not recorded" in recorder.problem
    recorder.stop()
    recorder.stop()
    recorder.window("later", 1.0, 2.0)
    found = read(tmp_path / "out")
    assert "the recorder did not come to its end" in found.notes
    assert len(found.samples["tegrastats"]) >= 2
    time.sleep(0.1)                                    # the stand-in was killed with its group; init reaps it
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]


@pytest.mark.parametrize(("out", "options", "words"), [
    ("missing/out", [], "cannot be written: No such file"),
    ("out", ["--sensors", "thermometer"], "sensors are tegrastats, ina3221, nvml"),
    ("out", ["--interval", "0"], "the interval is 0.001 to 60 s")])
def test_a_recorder_that_cannot_start_says_why(tmp_path: Path, sense: Any, out: str, options: list[str],
                                               words: str) -> None:
    recorder = sense.Recorder(tmp_path / out, options)
    assert recorder.start() is False
    assert words in recorder.problem
    recorder.window("timed", 0.0, 1.0)
    recorder.stop()
    with pytest.raises(JobFailed):
        run([sys.executable, str(PAYLOAD), str(tmp_path / out), *options], timeout_s=30, what="recorder")


def test_no_interpreter_is_no_exception(tmp_path: Path, sense: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    recorder = sense.Recorder(tmp_path / "out")
    assert recorder.start() is False
    assert "No such file" in recorder.problem


def test_windows_of_any_kind_raise_nothing(board: Board, tmp_path: Path, sense: Any) -> None:
    recorder = sense.Recorder(tmp_path / "out", ["--root", str(board({}))])
    assert recorder.start()
    recorder.window("fine", 1.5, 2.5, 7)
    recorder.window("no times", None, "soon")
    recorder.window("endless", 0.0, float("inf"))
    recorder.window("odd", object(), 1.0)
    assert "'odd' was not recorded" in recorder.problem
    recorder.stop()
    found = read(tmp_path / "out")
    assert {name: tuple(vars(w).values()) for name, w in found.windows.items()} == {"fine": (1.5, 2.5, 7)}
    assert "the window 'no times' has no times" in found.notes


@pytest.fixture(scope="session")
def standin_nvml(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Root of a machine with the stand-in for NVIDIA's library, compiled with a flag."""
    def build(flag: str) -> Path:
        root = tmp_path_factory.mktemp("card")
        (root / "usr/lib").mkdir(parents=True)
        run(["gcc", "-shared", "-fPIC", "-Wno-return-type", f"-D{flag}", "-o",
             str(root / "usr/lib/libnvidia-ml.so.1"), str(HERE / "standin_nvml.c")], timeout_s=60, what="stand-in")
        return root
    return build


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the stand-in for NVML needs gcc")
@pytest.mark.parametrize("flag", ["NEW", "OLD"])
def test_a_graphics_card(standin_nvml: Callable[[str], Path], tmp_path: Path, flag: str) -> None:
    """The library is called as its header says: 64-bit handle and counter, structure, enumerations, texts."""
    found = recorded(tmp_path / "out", "--root", str(standin_nvml(flag)), "--sensors", "nvml")
    assert found.facts == {"gpu": "Stand-in GPU", "gpu_uuid": "GPU-0", "driver": "550.54.15",
                           "power_limit_mw": "700000", "graphics_max_mhz": "1980", "memory_max_mhz": "2619"}
    assert found.conditions == found.facts
    first, last = found.power[0], found.power[-1]
    assert (first.rails, first.temperatures_c, first.loads) == ({"GPU": 100}, {"GPU": 47}, {"GR3D": 0.88})
    assert first.clocks_hz == {"GR3D": (1.755e9,), "MEM": (2.619e9,)}
    assert first.throttled == ("power cap",)
    assert first.counter_j is not None
    assert last.counter_j is not None
    assert first.counter_j > 9e6
    assert last.counter_j - first.counter_j == pytest.approx(100 * (last.t_s - first.t_s), abs=2)
    slowed = throttling(found.power, first.t_s, last.t_s)
    assert slowed is not None
    assert slowed.ok is False


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the stand-in for NVML needs gcc")
@pytest.mark.parametrize(("flag", "options", "words"), [
    ("NONE", [], "nvml: nvmlDeviceGetHandleByIndex_v2 returned 6"),
    ("NEW", ["--gpu", "3"], "nvml: nvmlDeviceGetHandleByIndex_v2 returned 2"),
    ("POOR", [], "nvml: none of its functions gave a value")])
def test_a_card_that_tells_nothing(standin_nvml: Callable[[str], Path], tmp_path: Path, flag: str,
                                   options: list[str], words: str) -> None:
    found = recorded(tmp_path / "out", "--root", str(standin_nvml(flag)), "--sensors", "nvml", *options)
    assert found.power == ()
    assert found.notes.count(words) == 1


def test_it_is_written_for_python_3_6() -> None:
    """JetPack 4 has no newer one."""
    tree = ast.parse(PAYLOAD.read_text(), feature_version=(3, 6))
    later = {"dataclasses", "__future__", "importlib"}
    for node in ast.walk(tree):
        assert not isinstance(node, ast.NamedExpr | ast.Match)
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert not later & {alias.name for alias in node.names}
        if isinstance(node, ast.Call):                 # subprocess, since 3.7
            assert not {"capture_output", "text"} & {k.arg for k in node.keywords} or ast.unparse(
                node.func).endswith("write")


LONE = [{"t_s": 1.0, "kind": "start"}, {"t_s": 1.1, "kind": "reading", "sensor": "tegrastats", "text": LINES[0]},
        {"t_s": 1.2, "kind": "end"}]


@pytest.mark.parametrize(("added", "note"), [
    ('{"t_s": 1.1, "kind": "rea', "line 4 of the recording is damaged"),
    ("\x00\x00", "line 4 of the recording is damaged"),
    ("[" * 5000, "line 4 of the recording is damaged"),
    ('{"t_s": NaN, "kind": "note"}', "line 4 of the recording is damaged"),
    ('{"t_s": ' + "9" * 5000 + ', "kind": "note"}', "line 4 of the recording is damaged"),
    ('{"t_s": 1, "kind": "news"}', "line 4 of the recording is damaged"),
    ('{"t_s": 1, "kind": "note", "more": 1}', "line 4 of the recording is damaged"),
    ('{"t_s": 1, "kind": "reading", "sensor": "sonar"}', "no sensor named 'sonar'"),
    ('{"t_s": 1, "kind": "reading", "sensor": "nvml"}', "NVML gave no value of the GPU"),
    ('{"t_s": 1, "kind": "reading", "sensor": "ina3221", "files": {}}', "no rail of the INA3221 could be read"),
    ('{"t_s": 1, "kind": "reading", "sensor": "tegrastats"}', "not a line of tegrastats"),
    ('{"t_s": 1, "kind": "window", "text": "w"}', "the window 'w' has no times")])
def test_a_damaged_line_is_noted_and_the_rest_read(tmp_path: Path, added: str, note: str) -> None:
    path = tmp_path / "out"
    path.write_text("".join(json.dumps(line) + "\n" for line in LONE) + added)
    found = read(path)
    assert len(found.notes) == 1
    assert note in found.notes[0]
    assert [s.t_s for s in found.power] == [1.1]


def test_files_of_hwmon_powercap_and_the_processor(board: Board, tmp_path: Path, sense: Any) -> None:
    root = board(SYS, below="", vcgencmd="echo throttled=0x4")
    recorder = sense.Recorder(tmp_path / "out", ["--root", str(root), "--interval", "0.02"])
    assert recorder.start()
    assert recorder.sensors == ("hwmon", "rapl", "cpu")
    time.sleep(0.15)
    (root / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("5500000\n")
    time.sleep(0.15)
    recorder.stop()
    found = read(tmp_path / "out")
    assert found.samples["hwmon"][0].rails == pytest.approx({"ina226": 8.125, "ina219": 1.5})
    counted = [one.counter_j for one in found.samples["rapl"]]
    assert (counted[0], counted[-1]) == (0, pytest.approx(0.5))
    processor = found.samples["cpu"][-1]
    assert (processor.clocks_hz, processor.most_hz) == ({"policy0": (1.5e9,)}, {"policy0": 1.5e9})
    assert (processor.temperatures_c, processor.trips_c) == ({"cpu-thermal": 50}, {"cpu-thermal": 80})
    assert processor.throttled == ("throttled",)
    assert {s.sensor for s in found.power} <= {"hwmon", "rapl"}


def test_the_firmwares_file_goes_before_its_program(board: Board, tmp_path: Path) -> None:
    """Asking a program takes time from what is measured; newer kernels have a file."""
    file = {"devices/platform/soc/soc:firmware/get_throttled": "80008"}
    root = board({**SYS, **file}, below="", vcgencmd=f"touch {tmp_path}/asked")
    found = recorded(tmp_path / "out", "--root", str(root), "--sensors", "cpu", seconds=0.1)
    assert found.samples["cpu"][0].throttled == ("soft temperature limit",)
    assert not (tmp_path / "asked").exists()


def test_a_counter_for_root_alone_is_no_sensor(board: Board, tmp_path: Path, sense: Any) -> None:
    root = board(SYS, below="")
    counter = root / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.unlink()
    counter.mkdir()                                    # fails to be read, for root too
    recorder = sense.Recorder(tmp_path / "out", ["--root", str(root), "--sensors", "rapl,hwmon"])
    assert recorder.start()
    assert recorder.sensors == ("hwmon",)
    recorder.stop()


def meter(path: str, **more: Any) -> list[str]:
    return ["--sensors", "meter", "--meter", json.dumps({"path": path, "columns": ["time_s", "power_w"], **more})]


def test_a_meters_file_is_followed_from_its_end(tmp_path: Path, sense: Any) -> None:
    log = tmp_path / "meter.csv"
    log.write_text("time_s,power_w\n1.0,999\n")
    recorder = sense.Recorder(tmp_path / "out", meter(str(log)))
    assert recorder.start()
    assert recorder.sensors == ("meter",)
    with log.open("a") as f:
        for k in range(5):
            f.write(f"{2 + k / 20},")
            f.flush()
            time.sleep(0.03)
            f.write(f"{3 + k}\n")                      # a line may arrive in pieces
            f.flush()
    time.sleep(0.1)
    recorder.stop()
    samples = read(tmp_path / "out").power
    assert [total_w(s) for s in samples] == [3, 4, 5, 6, 7]
    assert samples[-1].t_s - samples[0].t_s == pytest.approx(0.2)          # by its own clock


def test_a_meter_on_a_serial_line(tmp_path: Path, sense: Any) -> None:
    """A pseudo-terminal is one: what is written at its other end arrives as it is, without an echo."""
    ours, theirs = os.openpty()
    recorder = sense.Recorder(tmp_path / "out", meter(os.ttyname(theirs), baud=115200, columns=["power_w"]))
    assert recorder.start()
    for w in ("4.5", "4.75"):
        os.write(ours, f"{w}\r\n".encode())
        time.sleep(0.05)
    time.sleep(0.1)
    recorder.stop()
    os.close(ours)
    os.close(theirs)
    assert [total_w(s) for s in read(tmp_path / "out").power] == [4.5, 4.75]


@pytest.mark.parametrize(("more", "words"), [({"path": "/nowhere"}, "No such file"),
                                             ({"baud": 12345}, "12345 baud")])
def test_a_meter_that_is_not_there_says_so(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    ours, theirs = os.openpty()
    found = recorded(tmp_path / "out", *meter(**{"path": os.ttyname(theirs), **more}), seconds=0.05)
    os.close(ours)
    os.close(theirs)
    assert any(words in note for note in found.notes), found.notes


def test_many_notes_are_few(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text(json.dumps(LONE[0]) + "\n" + "".join(f"?{k}\n" for k in range(500)) + json.dumps(LONE[2]))
    notes = read(path).notes
    assert len(notes) == 21
    assert notes[-1] == "and 480 more"


@pytest.mark.parametrize("text", ["", "{}\n", "hello\n", '{"t_s": 1, "kind": "end"}\n'])
def test_another_file_is_no_recording(tmp_path: Path, text: str) -> None:
    (tmp_path / "out").write_text(text)
    with pytest.raises(BoardError, match="is no recording"):
        read(tmp_path / "out")
    with pytest.raises(BoardError, match="cannot be read"):
        read(tmp_path / "missing")


def test_the_sensor_that_sees_most_of_the_board_goes_first(tmp_path: Path) -> None:
    """A GPU's own library sees the GPU alone, however often it is asked."""
    card = [{"t_s": 1 + k / 100, "kind": "reading", "sensor": "nvml", "values": {"power_mw": 9000}}
            for k in range(9)]
    path = tmp_path / "out"
    path.write_text("\n".join(json.dumps(line) for line in [*LONE, *card]))
    found = read(path)
    assert len(found.samples["nvml"]) == 9
    assert [s.sensor for s in found.power] == ["tegrastats"]
