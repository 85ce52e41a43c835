"""Runs ON the board: prints one line of JSON that says what the board is and what state it is in. Changes nothing.

    python3 probe.py [--root DIR] [--sensors-root DIR] [--scratch DIR] [--bitfile FILE]

Standard library, Python 3.6 or newer. What the board does not tell is null, or an empty list; it judges nothing.
"""

import argparse
import contextlib
import glob
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import time

PROGRAM_S = 5.0                                        # patience with a program of the board
BIT_BYTES = 512                                        # of a .bit file, which begins with its header


def text(*parts):
    """A small file's text; None where it cannot be read. Device-tree strings end in NUL."""
    try:
        with open(os.path.join(*parts), "rb") as f:
            return f.read(1 << 20).decode("utf-8", "replace").rstrip("\0 \n")
    except OSError:
        return None


def number(*parts):
    with contextlib.suppress(TypeError, ValueError):
        return int(text(*parts))
    return None


def said(name, *words):
    """What a program of the board prints; None without it. ssh gives a PATH without the folders for root."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/sbin"]
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run([path, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, timeout=PROGRAM_S)
            return done.stdout.decode("utf-8", "replace")
    return None


def system(root):
    pretty = re.search(r'^PRETTY_NAME="?([^"\n]*)', text(root, "etc/os-release") or "", re.M)
    return {"machine": platform.machine(), "kernel": platform.release(), "os": pretty and pretty.group(1),
            "python": platform.python_version(), "python_bits": 8 * struct.calcsize("P")}


def cpu(root):
    """parts: "implementer:part" of each kind of core, as Linux prints them; features: those of all cores."""
    pairs = (line.partition(":") for line in (text(root, "proc/cpuinfo") or "").splitlines())
    fields = [(key.strip(), value.strip()) for key, _, value in pairs]
    parts, implementer = set(), ""
    for key, value in fields:
        if key == "CPU implementer":
            implementer = value.lower()
        elif key == "CPU part":
            parts.add(f"{implementer}:{value.lower()}")
    features = [set(v.split()) for k, v in fields if k in ("Features", "flags")]
    names = [v for k, v in fields if k in ("model name", "Model")]
    return {"cores": sum(k == "processor" for k, _ in fields), "name": names[0] if names else None,
            "parts": sorted(parts), "features": sorted(set.intersection(*features)) if features else []}


def memory(root):
    found = {}
    for line in (text(root, "proc/meminfo") or "").splitlines():
        match = re.match(r"(MemTotal|MemAvailable|SwapTotal|SwapFree):\s*(\d+) kB", line)
        if match:
            found[match.group(1)] = int(match.group(2)) * 1024
    return {"total_bytes": found.get("MemTotal"), "available_bytes": found.get("MemAvailable"),
            "swap_bytes": found.get("SwapTotal"), "swap_free_bytes": found.get("SwapFree")}


def clocks(root):
    """Each group of cores that share a clock. kHz in the files."""
    cpus = os.path.join(root, "sys/devices/system/cpu")
    found = []
    for folder in (sorted(glob.glob(os.path.join(cpus, "cpufreq/policy[0-9]*")))
                   or sorted(glob.glob(os.path.join(cpus, "cpu[0-9]*/cpufreq")))):
        khz = {key: number(folder, name) for key, name in (
            ("now_hz", "scaling_cur_freq"), ("least_hz", "scaling_min_freq"), ("most_hz", "scaling_max_freq"))}
        found.append(dict({k: None if v is None else v * 1000 for k, v in khz.items()},
                          cores=text(folder, "affected_cpus"), governor=text(folder, "scaling_governor")))
    return found


def temperatures(root):
    """Zone -> degrees Celsius; the files have thousandths."""
    found = {}
    for zone in sorted(glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone[0-9]*"))):
        value = number(zone, "temp")
        if value is not None:
            found["{} ({})".format(text(zone, "type"), os.path.basename(zone))] = value / 1000
    for file in sorted(glob.glob(os.path.join(root, "sys/class/hwmon/hwmon[0-9]*/temp[0-9]*_input"))):
        value = number(file)
        if value is not None:
            chip = os.path.dirname(file)
            found["{} {}".format(text(chip, "name"), os.path.basename(file)[:-6])] = value / 1000
    return found


def throttled(root):
    """The firmware's flags of a Raspberry Pi, see its get_throttled; None elsewhere."""
    told = said("vcgencmd", "get_throttled") if root == "/" else None
    for file in glob.glob(os.path.join(root, "sys/devices/platform/soc*/soc:firmware/get_throttled")) + glob.glob(
            os.path.join(root, "sys/devices/platform/soc:firmware/get_throttled")):
        told = told or text(file)
    match = re.search(r"(?:0x)?([0-9a-fA-F]+)\s*$", told or "")
    return int(match.group(1), 16) if match else None


def sensors(root):
    """What could tell the power: its name -> "" where it can be read, else why not."""
    found = {}
    for chip in (sorted(glob.glob(os.path.join(root, "sys/class/hwmon/hwmon[0-9]*")))
                 + sorted(glob.glob(os.path.join(root, "sys/bus/i2c/devices/*/iio:device*")))):
        files = [file for name in ("power", "energy", "curr", "in_power")
                 for file in sorted(glob.glob(os.path.join(chip, name + "[0-9]*_[ia][nv]*")))]   # _input, _average
        if files:
            found["{} ({})".format(text(chip, "name"), os.path.basename(chip))] = readable(files[0])
    for zone in sorted(glob.glob(os.path.join(root, "sys/class/powercap/*-rapl:[0-9]*"))):
        if zone.count(":") == 1:
            found["rapl {}".format(text(zone, "name"))] = readable(os.path.join(zone, "energy_uj"))
    if root == "/" and (shutil.which("tegrastats") or os.path.exists("/usr/bin/tegrastats")):
        found["tegrastats"] = ""
    return found


def readable(path):
    try:
        with open(path) as f:
            f.read(64)
        return ""
    except OSError as e:
        return e.strerror or str(e)


def jetson(root):
    """l4t: as "36.4.3"; power_mode: nvpmodel's name of it."""
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text(root, "etc/nv_tegra_release") or "")
    mode = re.search(r"NV Power Mode: *(\S+)", (said("nvpmodel", "-q") if root == "/" else None) or "")
    return {"l4t": release and ".".join(release.groups()), "power_mode": mode and mode.group(1)}


def tensorrt(root):
    """Its version from its header, else from its package; None without."""
    for file in sorted(glob.glob(os.path.join(root, "usr/include/NvInferVersion.h"))
                       + glob.glob(os.path.join(root, "usr/include/*/NvInferVersion.h"))):
        parts = dict(re.findall(r"#define\s+(?:NV_TENSORRT|TRT)_(MAJOR|MINOR|PATCH)(?:_ENTERPRISE)?\s+(\d+)",
                                text(file) or ""))
        if len(parts) == 3:
            return "{MAJOR}.{MINOR}.{PATCH}".format(**parts)
    if root == "/":
        told = said("dpkg-query", "-W", "-f", "${Package} ${Version}\n", "libnvinfer[0-9]*")
        match = re.search(r"^libnvinfer\d+ (\d+\.\d+\.\d+)", told or "", re.M)
        if match:
            return match.group(1)
    return None


def trtexec(root):
    here = os.path.join(root, "usr/src/tensorrt/bin/trtexec")
    return (shutil.which("trtexec") if root == "/" else None) or (here if os.access(here, os.X_OK) else None)


def logic(root, bitfile):
    """The programmable logic: state of its manager; bit: the first bytes of the design's file, as hex digits."""
    managers = sorted(glob.glob(os.path.join(root, "sys/class/fpga_manager/fpga[0-9]*")))
    found = {"managers": {text(m, "name") or os.path.basename(m): text(m, "state") for m in managers},
             "bit": None, "bit_problem": None}
    if bitfile:
        try:
            with open(os.path.expanduser(bitfile), "rb") as f:
                found["bit"] = f.read(BIT_BYTES).hex()
        except OSError as e:
            found["bit_problem"] = e.strerror
    return found


def users():
    """Who is logged in at a terminal, by the board's own `who`."""
    return sorted({line.split()[0] for line in (said("who") or "").splitlines() if line.strip()})


def main(words=None):
    parser = argparse.ArgumentParser(description="Say what this board is and what state it is in.")
    parser.add_argument("--root", default="/", help="where proc/, sys/, etc/ and usr/ are looked for (/)")
    parser.add_argument("--sensors-root", help="the same for sensors, clocks and temperatures (--root)")
    parser.add_argument("--scratch", default=".", help="the folder whose free space counts (.)")
    parser.add_argument("--bitfile", help="a design for the programmable logic")
    given = parser.parse_args(words)
    root, sensed = given.root, given.sensors_root or given.root
    room = os.statvfs(given.scratch)
    tree = os.path.join(root, "proc/device-tree")
    found = dict(system(root), cpu=cpu(root), memory=memory(root), clocks=clocks(sensed) or clocks(root),
                 temperatures_c=dict(temperatures(root), **temperatures(sensed)),
                 throttled=throttled(root) if throttled(sensed) is None else throttled(sensed),
                 sensors=dict(sensors(root), **sensors(sensed)), jetson=jetson(root), tensorrt=tensorrt(root),
                 trtexec=trtexec(root), logic=logic(root, given.bitfile), users=users(),
                 model=text(tree, "model"), compatible=(text(tree, "compatible") or "").split("\0"),
                 load=[float(v) for v in (text(root, "proc/loadavg") or "").split()[:3]],
                 free_bytes=room.f_bavail * room.f_frsize, time_s=time.time())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
