"""Runs ON a virtual board: imitates the files of its sensors. It measures nothing; the power is that of a model.

    python3 rails.py CONFIG.json ROOT [--seconds S]

    power        idle_w + load x dynamic_w x clock / full clock, load of all cores in [0, 1] from /proc/stat
    temperature  goes to ambient_c + power x kelvin_per_w with time_constant_s; it starts at what idling leads to
    clock        clock_hz, or throttled_hz from throttle_c on until 5 degrees below

About ten times a second the files below ROOT/sys are written, each in one piece: one INA226 or INA3221 under hwmon
with the rail "simulated rail", a thermal zone and cpufreq. ROOT/override may hold JSON that says otherwise:
{"power_w": 9.5, "temperature_c": 85, "clock_hz": 600e6}, each while it stands there. A temperature throttles.
"""

import json
import os
import sys
import time

INTERVAL_S = 0.1
NICE = 5
HYSTERESIS_C = 5.0
LABEL = "simulated rail"
CHIP = "sys/bus/i2c/devices/1-0040"
MONITOR = CHIP + "/hwmon/hwmon0"
ZONE = "sys/class/thermal/thermal_zone0"
POLICY = "sys/devices/system/cpu/cpufreq/policy0"


class Model:
    """Power, temperature and clock of the board from one moment to the next."""

    def __init__(self, config):
        self._config, self._throttled = config, False
        self.clock_hz, self.power_w = config["clock_hz"], config["idle_w"]
        self._own_c = config["ambient_c"] + config["idle_w"] * config["kelvin_per_w"]
        self.temperature_c = self._own_c

    def step(self, load, elapsed_s, override):
        """Go on by elapsed_s seconds in which the cores were busy for the part `load`."""
        config = self._config
        share = self.clock_hz / config["clock_hz"]
        self.power_w = override.get("power_w", config["idle_w"] + load * config["dynamic_w"] * share)
        settled_c = config["ambient_c"] + self.power_w * config["kelvin_per_w"]
        self._own_c += (settled_c - self._own_c) * min(1.0, elapsed_s / config["time_constant_s"])
        self.temperature_c = override.get("temperature_c", self._own_c)
        if self.temperature_c >= config["throttle_c"]:
            self._throttled = True
        elif self.temperature_c < config["throttle_c"] - HYSTERESIS_C:
            self._throttled = False
        self.clock_hz = override.get("clock_hz", config["throttled_hz" if self._throttled else "clock_hz"])


def changing(model, config):
    """Path -> whole number, in the units of the kernel's files: mV, mA, uW, thousandths of a degree, kHz."""
    files = {MONITOR + "/in1_input": 1e3 * config["volts_v"],
             MONITOR + "/curr1_input": 1e3 * model.power_w / config["volts_v"],
             ZONE + "/temp": 1e3 * model.temperature_c,
             POLICY + "/scaling_cur_freq": model.clock_hz / 1e3}
    if config["sensor"] == "ina226":
        files[MONITOR + "/power1_input"] = 1e6 * model.power_w
    return {path: round(value) for path, value in files.items()}


def fixed(config, cores):
    """Path -> text of what never changes."""
    full, least = int(config["clock_hz"] / 1e3), int(config["throttled_hz"] / 1e3)
    label = "power1_label" if config["sensor"] == "ina226" else "in1_label"
    return {CHIP + "/name": config["sensor"], MONITOR + "/name": config["sensor"],
            MONITOR + "/" + label: LABEL,
            ZONE + "/type": "simulated-cpu", ZONE + "/trip_point_0_type": "passive",
            ZONE + "/trip_point_0_temp": round(1e3 * config["throttle_c"]),
            POLICY + "/cpuinfo_max_freq": full, POLICY + "/scaling_max_freq": full,
            POLICY + "/cpuinfo_min_freq": least, POLICY + "/scaling_min_freq": least,
            POLICY + "/scaling_governor": "performance", POLICY + "/scaling_driver": "simulated",
            POLICY + "/affected_cpus": " ".join(map(str, range(cores)))}


class Tree:
    """Files below a folder; each is replaced, so that a reader sees the old text or the new one."""

    def __init__(self, root):
        self._root, self._written = root, {}

    def write(self, files):
        for path, value in files.items():
            if self._written.get(path) == value:
                continue
            full = os.path.join(self._root, path)
            if path not in self._written:
                os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full + ".new", "w") as f:
                f.write(str(value) + "\n")
            os.rename(full + ".new", full)
            self._written[path] = value

    def link(self, path, to):
        full = os.path.join(self._root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if not os.path.lexists(full):
            os.symlink(os.path.relpath(os.path.join(self._root, to), os.path.dirname(full)), full)


def ticks():
    """(busy, all) clock ticks of all cores since the start: proc(5), the first line of /proc/stat."""
    with open("/proc/stat") as f:
        told = [int(word) for word in f.readline().split()[1:9]]
    return sum(told) - told[3] - told[4], sum(told)


def overridden(root):
    """The numbers of the file `override`; none when it is absent, or is half written or wrong."""
    try:
        with open(os.path.join(root, "override")) as f:
            told = json.load(f)
        return {key: float(told[key]) for key in ("power_w", "temperature_c", "clock_hz") if key in told}
    except (OSError, ValueError, TypeError):
        return {}


def main(words):
    with open(words[0]) as f:
        config = json.load(f)
    root = words[1]
    until_s = time.monotonic() + float(words[3]) if words[2:3] == ["--seconds"] else float("inf")
    model, tree, cores = Model(config), Tree(root), os.cpu_count() or 1
    tree.write(fixed(config, cores))
    tree.link("sys/class/hwmon/hwmon0", MONITOR)
    tree.link(MONITOR + "/device", CHIP)
    for core in range(cores):
        tree.link("sys/devices/system/cpu/cpu" + str(core) + "/cpufreq", POLICY)
    last_s, last = time.monotonic(), ticks()
    while True:
        now_s, now = time.monotonic(), ticks()
        load = (now[0] - last[0]) / (now[1] - last[1]) if now[1] > last[1] else 0.0
        model.step(min(1.0, max(0.0, load)), now_s - last_s, overridden(root))
        tree.write(changing(model, config))
        last_s, last = now_s, now
        if now_s >= until_s:
            return
        time.sleep(INTERVAL_S)


if __name__ == "__main__":
    os.nice(NICE)
    main(sys.argv[1:])
