"""What a board tells of itself, against independent readings; and how it is judged against target and artifact."""

from __future__ import annotations

import ast
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hwkit.artifact import Artifact, Built, StageFile, pack
from hwkit.board import Board, board
from hwkit.eda import bitstream
from hwkit.errors import BadInput
from hwkit.runners import _doctor
from hwkit.runners._doctor import Facts, Row, Seen
from tests import sshd
from tests.commands import hwkit

PROBE = Path(__file__).resolve().parents[2] / "boards" / "payloads" / "probe.py"

# (implementer, part, features) of each core, as people's own boards print them: github.com/hrw/arm-socs-table,
# issues 29 (Raspberry Pi 3 B+), 96 (5), 31 (4, with a 32-bit system), 91 (Jetson Nano), 26 (Xavier NX), 25 (TX2)
A53 = ("0x41", "0xd03", "fp asimd evtstrm crc32 cpuid")
A76 = ("0x41", "0xd0b", "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc "
                        "dcpop asimddp")
A72_IN_32_BITS = ("0x41", "0xd08", "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae "
                                   "evtstrm crc32")
A57 = ("0x41", "0xd07", "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid")
CARMEL = ("0x4e", "0x004", "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp")
DENVER, TX2_A57 = (("0x4e", "0x003", "fp asimd evtstrm aes pmull sha1 sha2 crc32"),
                   ("0x41", "0xd07", "fp asimd evtstrm aes pmull sha1 sha2 crc32"))
# a 64-bit system on a Raspberry Pi 4 prints the features of the 3's: both are Armv8.0 without the crypto extension
A72 = ("0x41", "0xd08", A53[2])

# the FAQ's own example, fpga-faq.com FAQ_Pages/0026_Tell_me_about_bit_files.htm
VIRTEX = bytes.fromhex(
    "00090ff00ff00ff00ff0000001" "61000a78666f726d2e6e636400" "62000c76313030306566673836300063000b32303031"
    "2f30382f31300064000930363a35353a3034006500" "0c2818ffffffffaa995566")


def bit(part: str, design: str = "design_1_wrapper;UserID=0XFFFFFFFF;Version=2022.1") -> bytes:
    """A .bit file of that part with nothing in it."""
    fields = zip("abcd", (design, part, "2026/01/02", "03:04:05"), strict=True)
    return (bytes.fromhex("00090ff00ff00ff00ff0000001")
            + b"".join(k.encode() + (len(v) + 1).to_bytes(2, "big") + v.encode() + b"\0" for k, v in fields)
            + b"e\0\0\0\4" + bytes(4))


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def a_board(root: Path, cores: list[tuple[str, str, str]], compatible: str, **more: str) -> Facts:
    """What the probe says of a board whose files are these. Its own Python is this machine's."""
    cpuinfo = "\n".join(
        f"processor\t: {k}\nBogoMIPS\t: 38.40\nFeatures\t: {features}\nCPU implementer\t: {implementer}\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 4\n"
        for k, (implementer, part, features) in enumerate(cores))
    tree(root, {"proc/cpuinfo": cpuinfo, "proc/device-tree/compatible": compatible.replace(" ", "\0") + "\0",
                "proc/device-tree/model": "A Board Rev 1.0\0", "proc/loadavg": "0.01 0.02 0.03 1/99 1234\n",
                "proc/meminfo": "MemTotal:  1000000 kB\nMemFree: 1 kB\nMemAvailable: 800000 kB\nSwapTotal: 0 kB\n",
                **more})
    facts = probed("--root", str(root))
    return facts.model_copy(update={"machine": "aarch64"})


def probed(*words: str) -> Facts:
    done = subprocess.run([sys.executable, str(PROBE), *words], capture_output=True, text=True, check=True)
    return Facts.model_validate(json.loads(done.stdout))


def judged(facts: Facts, name: str, artifact: Artifact | None = None, **packages: str | None) -> dict[str, Row]:
    told = Seen(facts=facts, packages=packages, seconds=1.0, skew_s=0.0)
    return {row.what: row for row in _doctor.judged(told, board(name), artifact)}


def states(rows: dict[str, Row], state: str) -> set[str]:
    return {row.what for row in rows.values() if row.state == state}


# --- the probe ---


def test_the_probe_agrees_with_other_readings(tmp_path: Path) -> None:
    facts = probed("--scratch", str(tmp_path))
    machine = os.uname()
    assert (facts.machine, facts.kernel) == (machine.machine, machine.release)
    assert facts.python == platform.python_version()
    assert facts.python_bits == (64 if sys.maxsize > 2**32 else 32)
    assert facts.cpu.cores == os.sysconf("SC_NPROCESSORS_ONLN")
    assert facts.free_bytes == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert facts.memory.total_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert facts.load[2] == pytest.approx(os.getloadavg()[2], abs=0.5)
    assert facts.time_s == pytest.approx(time.time(), abs=5)


def test_the_probe_is_python_3_6(tmp_path: Path) -> None:
    ast.parse(PROBE.read_text(), feature_version=(3, 6))
    assert "dataclass" not in PROBE.read_text()


def test_the_files_of_a_jetson(tmp_path: Path) -> None:
    facts = a_board(tmp_path, [CARMEL] * 6, "nvidia,p3509-0000+p3668-0000 nvidia,tegra194", **{
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
                                "DATE: Wed Jan  8 01:49:37 UTC 2025\n",
        "usr/include/aarch64-linux-gnu/NvInferVersion.h":
            "#define NV_TENSORRT_MAJOR 10 //!< major\n#define NV_TENSORRT_MINOR 3\n#define NV_TENSORRT_PATCH 0\n",
        "sys/bus/i2c/devices/1-0040/iio:device0/name": "ina3221x\n",
        "sys/bus/i2c/devices/1-0040/iio:device0/in_power0_input": "2500\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1420800\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n",
        "sys/class/thermal/thermal_zone0/type": "CPU-therm\n", "sys/class/thermal/thermal_zone0/temp": "41500\n"})
    assert facts.jetson.l4t == "36.4.3"
    assert facts.tensorrt == "10.3.0"
    assert facts.sensors == {"ina3221x (iio:device0)": ""}
    assert facts.clocks[0].most_hz == 1.4208e9
    assert facts.temperatures_c == {"CPU-therm (thermal_zone0)": 41.5}


def test_enterprise_headers_name_the_version_at_another_place(tmp_path: Path) -> None:
    header = "".join(f"#define TRT_{k}_ENTERPRISE {v}\n#define NV_TENSORRT_{k} TRT_{k}_ENTERPRISE\n"
                     for k, v in (("MAJOR", 10), ("MINOR", 8), ("PATCH", 1)))
    assert probed("--root", str(tree(tmp_path, {"usr/include/NvInferVersion.h": header}))).tensorrt == "10.8.1"


def test_sensors_that_cannot_be_read_are_told_apart(tmp_path: Path) -> None:
    chip = "sys/class/hwmon/hwmon0"
    tree(tmp_path, {f"{chip}/name": "ina226\n", f"{chip}/power1_input": "12000000\n",
                    "sys/class/hwmon/hwmon1/name": "fan\n", "sys/class/hwmon/hwmon1/fan1_input": "1200\n",
                    "sys/class/powercap/intel-rapl:0/name": "package-0\n"})
    sensors = probed("--sensors-root", str(tmp_path)).sensors
    assert sensors["ina226 (hwmon0)"] == ""
    assert "No such file" in sensors["rapl package-0"]
    assert not [name for name in sensors if "fan" in name]


# --- judging ---


@pytest.mark.parametrize(("cores", "compatible", "name"), [
    ([A53] * 4, "raspberrypi,3-model-b-plus brcm,bcm2837", "rpi3"),
    ([A72] * 4, "raspberrypi,4-model-b brcm,bcm2711", "rpi4"),
    ([A76] * 4, "raspberrypi,5-model-b brcm,bcm2712", "rpi5"),
    ([A57] * 4, "nvidia,p3450-0000 nvidia,tegra210", "jetson-nano"),
    ([CARMEL] * 6, "nvidia,p3509-0000+p3668-0000 nvidia,tegra194", "jetson-xavier-nx"),
    ([TX2_A57, DENVER, DENVER, *[TX2_A57] * 3], "nvidia,p2771-0000 nvidia,tegra186", "jetson-tx2"),
    ([A53] * 4, "xlnx,zynqmp-zcu104-revC xlnx,zynqmp-zcu104 xlnx,zynqmp", "zcu104-ps"),
    ([A72] * 4, "linux,dummy-virt", "rpi4")])                        # a virtual board
def test_each_board_is_what_it_is_described_as(tmp_path: Path, cores: list[tuple[str, str, str]], compatible: str,
                                               name: str) -> None:
    rows = judged(a_board(tmp_path, cores, compatible), name)
    assert states(rows, "wrong") == set()
    assert rows["cores"].state == "ok"
    assert rows["architecture"].state == "ok"


@pytest.mark.parametrize(("cores", "compatible", "name", "wrong"), [
    ([A53] * 4, "raspberrypi,3-model-b-plus brcm,bcm2837", "rpi4", {"model", "cores"}),
    ([A72] * 4, "raspberrypi,4-model-b brcm,bcm2711", "rpi5", {"model", "cores", "CPU features"}),
    ([A53] * 4, "raspberrypi,3-model-b brcm,bcm2837", "zcu104-ps", {"model"}),     # the same core in another chip
    ([A57] * 4, "nvidia,p3450-0000 nvidia,tegra210", "jetson-orin-nano", {"cores"})])
def test_another_board_is_wrong(tmp_path: Path, cores: list[tuple[str, str, str]], compatible: str, name: str,
                                wrong: set[str]) -> None:
    rows = judged(a_board(tmp_path, cores, compatible), name)
    assert states(rows, "wrong") == wrong
    assert _doctor.exit_code(list(rows.values())) == 4


def test_a_32_bit_system_on_the_right_board_is_wrong(tmp_path: Path) -> None:
    facts = a_board(tmp_path, [A72_IN_32_BITS] * 4, "raspberrypi,4-model-b brcm,bcm2711")
    rows = judged(facts.model_copy(update={"machine": "armv7l"}), "rpi4")
    assert states(rows, "wrong") == {"architecture", "CPU features"}
    # a 64-bit kernel below 32-bit programs, which some images had
    mixed = a_board(tmp_path / "mixed", [A72] * 4, "brcm,bcm2711").model_copy(update={"python_bits": 32})
    assert "64-bit system" in judged(mixed, "rpi4")["architecture"].detail


def test_what_makes_measurements_worse_is_a_warning(tmp_path: Path) -> None:
    policy = "sys/devices/system/cpu/cpufreq/policy0"
    facts = a_board(tmp_path, [A72] * 3, "brcm,bcm2711", **{
        "proc/loadavg": "2.50 1 1 1/9 9\n", f"{policy}/scaling_governor": "ondemand\n",
        f"{policy}/scaling_max_freq": "1000000\n", f"{policy}/scaling_cur_freq": "600000\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n", "sys/class/thermal/thermal_zone0/temp": "81234\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        "proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 90000 kB\nSwapTotal: 0 kB\n"})
    told = Seen(facts=facts.model_copy(update={"users": ("ada",)}), packages={}, seconds=1.0, skew_s=3600.0)
    rows = {row.what: row for row in _doctor.judged(told, board("rpi4"))}
    assert states(rows, "warn") == {"cores", "clocks", "temperature", "throttling", "memory", "power sensors",
                                    "load", "users", "time of day"}
    assert "600 MHz of 1.00 GHz, governor ondemand; rpi4 has 1.50 GHz" in rows["clocks"].detail
    assert rows["throttling"].detail == ("since it started: too low a voltage, throttled; "
                                         "now: too low a voltage, throttled")
    assert "3600 s away" in rows["time of day"].detail
    assert _doctor.exit_code(list(rows.values())) == 0


def test_a_full_disk_is_missing_room(tmp_path: Path, small_artifact: Artifact) -> None:
    facts = a_board(tmp_path, [A72] * 4, "brcm,bcm2711").model_copy(update={"free_bytes": 5_000_000})
    assert states(judged(facts, "rpi4", small_artifact), "missing") == {"free disk"}


def test_tensorrt_and_power_mode_of_a_jetson(tmp_path: Path) -> None:
    release = "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n"
    orin = ("0x41", "0xd42", A76[2])
    facts = a_board(tmp_path, [orin] * 6, "nvidia,p3768-0000+p3767-0003 nvidia,p3767-0003 nvidia,tegra234",
                    **{"etc/nv_tegra_release": release})
    rows = judged(facts, "jetson-orin-nano")
    assert states(rows, "missing") == {"TensorRT"}
    assert "nvpmodel -m 1" in rows["power mode"].detail
    ready = facts.model_copy(update={"tensorrt": "10.3.0", "trtexec": "/usr/src/tensorrt/bin/trtexec",
                                     "jetson": facts.jetson.model_copy(update={"power_mode": "25W"})})
    rows = judged(ready, "jetson-orin-nano")
    assert {rows[what].state for what in ("TensorRT", "L4T", "power mode")} == {"ok"}
    old = judged(ready.model_copy(update={"tensorrt": "8.5.2"}), "jetson-orin-nano")
    assert (old["TensorRT"].state, old["TensorRT"].detail) == (
        "warn", "8.5.2; estimates for jetson-orin-nano assume 10.3.0")


# --- bitstreams ---


def test_the_header_of_a_published_bit_file() -> None:
    assert bitstream.header(VIRTEX) == bitstream.Header(
        design="xform.ncd", part="v1000efg860", date="2001/08/10", time="06:55:04")


@pytest.mark.parametrize("data", [b"", b"PK\3\4", VIRTEX[:20], VIRTEX[:13] + b"z" + VIRTEX[14:]])
def test_what_is_no_bit_file(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"not a \.bit file"):
        bitstream.header(data)


@pytest.mark.parametrize(("one", "other", "same"), [
    ("xczu7ev-ffvc1156-2-e", "xczu7ev-ffvc1156-2-e", True), ("xczu7ev-ffvc1156-1-i", "xczu7ev-ffvc1156-2-e", True),
    ("xczu9eg-ffvb1156-2-e", "xczu7ev-ffvc1156-2-e", False), ("7z020clg400", "xc7z020clg400-1", True),
    ("xczu7ev-fbvb900-2-e", "xczu7ev-ffvc1156-2-e", False), ("7z010clg400", "xc7z020clg400-1", False),
    ("", "xc7z020clg400-1", False)])
def test_devices_are_compared_by_device_and_package(one: str, other: str, same: bool) -> None:
    assert bitstream.same_device(one, other) is same


@pytest.mark.parametrize(("content", "state", "text"), [
    (bit("xczu7ev-ffvc1156-2-e"), "ok", "design_1_wrapper for xczu7ev-ffvc1156-2-e"),
    (bit("xczu9eg-ffvb1156-2-e"), "wrong", "zcu104 is xczu7ev"), (b"\0" * 600, "wrong", "not a .bit file")])
def test_a_design_must_be_for_the_part(tmp_path: Path, content: bytes, state: str, text: str) -> None:
    root, file = tmp_path / "root", tmp_path / "design.bit"
    file.write_bytes(content)
    a_board(root, [A53] * 4, "xlnx,zynqmp-zcu104-revC", **{
        "sys/class/fpga_manager/fpga0/name": "Xilinx ZynqMP FPGA Manager\n",
        "sys/class/fpga_manager/fpga0/state": "operating\n"})
    facts = probed("--root", str(root), "--bitfile", str(file)).model_copy(update={"machine": "aarch64"})
    rows = judged(facts, "zcu104", pynq="3.0.1")
    assert rows["bitstream"].state == state
    assert text in rows["bitstream"].detail
    assert "operating" in rows["programmable logic"].detail
    assert states(rows, "missing") == set()


def test_a_design_in_the_artifact_is_looked_at_too(tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    (build / "net.bit").write_bytes(bit("xczu3eg-sbva484-1-e"))
    built = Built(files=("net.bit",), stages=(StageFile(name="net", file="net.bit"),))
    artifact = pack(build, tmp_path / "artifact", built, name="net", target="zcu104", backend="dsode",
                    precision="w4a4", dataset=None, input_shape=(1, 8, 8), history=("trained",))
    rows = judged(a_board(tmp_path / "root", [A53] * 4, "xlnx,zynqmp"), "zcu104", artifact)
    assert (rows["bitstream"].state, "xczu3eg" in rows["bitstream"].detail) == ("wrong", True)
    assert states(rows, "missing") == {"PYNQ", "programmable logic"}


# --- through ssh, as a user calls it; the stand-in is this machine, so no board of the lab ---


def lab(folder: Path, server: sshd.Sshd, **changes: Any) -> dict[str, str]:
    """A lab file with `desk`, which is described as an rpi4, and the environment that names it."""
    place = server.place(**changes)
    values = {"board": "rpi4", **{k: v for k, v in place.model_dump(mode="json").items() if k in (
        "host", "port", "user", "key", "known_hosts", "scratch", "lock", "python", "connect_s")}}
    file = folder / "lab.toml"
    file.write_text("[boards.desk]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()))
    file.chmod(0o600)
    return {"HWKIT_LAB": str(file)}


@pytest.mark.skipif(platform.machine() == "aarch64", reason="this machine could be an rpi4")
def test_the_wrong_machine_is_found_in_seconds(tmp_path: Path) -> None:
    with sshd.running(tmp_path) as server:
        started = time.monotonic()
        done = hwkit("doctor", "--board", "desk", "--json", cwd=tmp_path, env=lab(tmp_path, server))
        assert time.monotonic() - started < 15
        rows = {row["what"]: row for row in json.loads(done.stdout)}
        assert done.returncode == 4, done.stderr
        assert rows["connection"]["state"] == "ok"
        assert rows["architecture"]["state"] == "wrong"
        assert platform.machine() in rows["architecture"]["detail"]
        assert os.listdir(server.folder / "scratch") == []
        gone = hwkit("doctor", "--board", "desk", cwd=tmp_path,
                     env=lab(tmp_path, server, python="/nonexistent/python3"))
        assert (gone.returncode, "has no /nonexistent/python3" in gone.stdout) == (3, True), gone.stdout
        dead = hwkit("doctor", "--board", "desk", cwd=tmp_path, env=lab(tmp_path, server, port=1, connect_s=3))
        assert (dead.returncode, dead.stderr.count("\nhwkit: ") + dead.stderr.startswith("hwkit: ")) == (4, 1)


def test_boards_that_are_not_over_ssh_say_what_they_miss(tmp_path: Path, small_artifact: Artifact) -> None:
    assert hwkit("doctor", "--board", "host", cwd=tmp_path).returncode == 0
    empty = {"HWKIT_CACHE": str(tmp_path / "cache"), "HWKIT_LAB": str(tmp_path / "none")}
    done = hwkit("doctor", "--board", "virtual-rpi4", cwd=tmp_path, env=empty)
    assert (done.returncode, "hwkit board make virtual-rpi4" in done.stdout) == (3, True)
    done = hwkit("doctor", "--board", "rpi5", "--artifact", str(small_artifact.folder), cwd=tmp_path, env=empty)
    assert (done.returncode, "is for rpi4" in done.stderr) == (2, True)
    assert hwkit("doctor", "--artifact", ".", cwd=tmp_path).returncode == 2


def test_a_virtual_board_has_its_logic_beside_it(tmp_path: Path) -> None:
    facts = a_board(tmp_path, [A53] * 4, "linux,dummy-virt")
    about: Board = board("zcu104").model_copy(update={"kind": "simulated"})
    rows = {r.what: r for r in _doctor.judged(Seen(facts=facts, packages={}, seconds=1.0, skew_s=0.0), about)}
    assert rows["programmable logic"].state == "ok"
    assert "bitstream" not in rows
