"""Runs ON the board: writes down what its sensors say while something else is measured. It interprets nothing.

    python3 sense.py OUT.jsonl [--interval S] [--seconds S] [--sensors a,b] [--gpu N] [--meter JSON]

It ends in time or on Ctrl-C. A meter is {"path": a serial line, or a file that another program appends to, "baud",
"columns": what the values of its lines are}.

Standard library, Python 3.6 or newer. From a program that lies beside it:

    recorder = sense.Recorder("power.jsonl")
    recorder.start()                                            # returns once readings are being taken
    ...
    recorder.window("timed", start_s, end_s, inferences)        # of time.monotonic()
    recorder.stop()

The readings are taken by a process of its own, so that they wait for nothing the measured program does. No call
raises; what could not be recorded is said in the file, or in `recorder.problem` where that was impossible.

Every line of OUT.jsonl is {"t_s": time.monotonic(), "kind": ..., "sensor", "text", "files", "values"}:
    start      values: how it was recorded
    text       of the program `sensor`: all it printed; values: {"when": "start" or "end", "exit": its exit status}
    fixed      of a sensor: what never changes
    reading    of a sensor: text (tegrastats, meter), files (path -> text) or values (nvml: name_unit -> number)
    note       of a sensor or of the recorder: what is missing, fails, or works again
    window     text: its name; values: start_s, end_s, inferences
    end
"""

import contextlib
import ctypes
import glob
import json
import os
import platform
import select
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

VERSION = 1
SENSORS = ("tegrastats", "ina3221", "nvml", "hwmon", "rapl", "meter", "cpu")
READY = b"ready"                                       # then the sensors that can be read
START_S, STOP_S, PROGRAM_S = 60.0, 60.0, 20.0          # patience with the recorder, and with each of PROGRAMS
OPEN_S, FIRMWARE_S = 5.0, 1.0                          # patience with a sensor; between questions to the firmware
PROGRAMS = (("nvpmodel", ["-q"]), ("jetson_clocks", ["--show"]))


class Unavailable(Exception):
    """Why a sensor cannot be read."""


def reason(error):
    return " ".join(str(error).split())[:300] or type(error).__name__


class Log:
    """The file, shared by all threads. A full disk raises nowhere but where the file is closed."""

    def __init__(self, file):
        self._file, self._lock = file, threading.Lock()

    def write(self, kind, sensor="", t_s=None, **more):
        line = dict(more, t_s=time.monotonic() if t_s is None else t_s, kind=kind)
        if sensor:
            line["sensor"] = sensor
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


def program(name, root):
    """Full path of a program of the board; None without it. ssh gives a PATH without the folders for root."""
    folders = [os.path.join(root, "usr", part) for part in ("bin", "sbin")]
    if root == "/":
        folders = os.environ.get("PATH", "").split(os.pathsep) + folders
    return shutil.which(name, path=os.pathsep.join(folders))


def texts(log, root, when):
    """What nvpmodel and jetson_clocks print now."""
    for name, words in PROGRAMS:
        path = program(name, root)
        if not path:
            log.write("note", name, text="not installed")
            continue
        try:
            done = subprocess.run([path, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=PROGRAM_S)
            log.write("text", name, text=done.stdout.decode("utf-8", "replace"),
                      values={"when": when, "exit": done.returncode})
        except (OSError, subprocess.SubprocessError) as e:
            log.write("note", name, text=reason(e))


class Sensor:
    """`opened` is set once it can be read, or never will be; `works` then says which."""

    name = ""

    def __init__(self):
        self.opened, self.works = threading.Event(), False

    def ready(self):
        self.works = True
        self.opened.set()


class Tegrastats(Sensor):
    """The program of that name, which prints a line every interval."""

    name = "tegrastats"

    def __init__(self, root, interval_s):
        super().__init__()
        self._path, self._interval_s = program(self.name, root), interval_s

    def run(self, log, stop):
        if not self._path:
            raise Unavailable("not installed")
        words = [self._path, "--interval", str(max(1, round(self._interval_s * 1000)))]
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.ready()
        reader = threading.Thread(target=self._read, args=(child.stdout, log), daemon=True)
        reader.start()
        while reader.is_alive() and not stop.is_set():
            reader.join(0.2)
        ended = not stop.is_set()
        if not ended:
            child.terminate()
        try:
            child.wait(2)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        reader.join(2)
        if ended:
            raise Unavailable(f"ended by itself with exit status {child.returncode}")

    def _read(self, lines, log):
        for line in iter(lines.readline, b""):
            log.write("reading", self.name, text=line.decode("utf-8", "replace").rstrip("\r\n"))


class Polled(Sensor):
    """A sensor that must be asked: `open` gives what never changes, `read` a reading, both as fields of a line."""

    def __init__(self, interval_s):
        super().__init__()
        self._interval_s = interval_s

    def run(self, log, stop):
        log.write("fixed", self.name, **self.open())
        self.ready()
        trouble, due = "", time.monotonic()
        while not stop.is_set():
            before = time.monotonic()
            try:
                fields, now = self.read(), ""
                log.write("reading", self.name, t_s=(before + time.monotonic()) / 2, **fields)
            except (OSError, Unavailable) as e:
                now = reason(e)
            if now != trouble:                         # said once, not at every reading
                log.write("note", self.name, text=now or "can be read again")
                trouble = now
            # a reading that was late is not made up for by two in a row
            due = max(due + self._interval_s, time.monotonic())
            stop.wait(due - time.monotonic())


class Files(Polled):
    """Small files below one folder; `_paths` are those that are read again and again."""

    def __init__(self, root, folder, interval_s):
        super().__init__(interval_s)
        self._folder = os.path.join(root, folder)
        self._paths = []

    def _text(self, path):
        with open(os.path.join(self._folder, path)) as f:
            return f.read(4096)

    def _has(self, path):
        return os.path.exists(os.path.join(self._folder, path))

    def _found(self, pattern):
        """Paths below the folder that match, sorted."""
        found = sorted(glob.glob(os.path.join(self._folder, pattern)))
        return [os.path.relpath(path, self._folder) for path in found]

    def _fixed(self, paths):
        """path -> text of those that are there and can be read."""
        files = {}
        for path in paths:
            with contextlib.suppress(OSError):
                files[path] = self._text(path)
        return files

    def read(self):
        files, error = {}, None
        for path in self._paths:
            try:
                files[path] = self._text(path)
            except OSError as e:                       # a channel that is switched off
                files[path], error = None, e
        if error and not any(files.values()):
            raise error
        return {"files": files}


class Ina3221(Files):
    """The files of the power monitors: JetPack 5 and later under hwmon, JetPack 4 under iio."""

    name = "ina3221"

    def __init__(self, root, interval_s):
        super().__init__(root, "sys/bus/i2c/devices", interval_s)

    def open(self):
        labels = {}
        for pattern, label, readings in (
                ("*/hwmon/hwmon*", "in{}_label", ("in{}_input", "curr{}_input")),
                ("*/iio:device*", "rail_name_{}",
                 ("in_power{}_input", "in_voltage{}_input", "in_current{}_input"))):
            for folder in self._found(pattern):
                device = folder.split(os.sep)[0]
                try:
                    if "ina3221" not in self._text(os.path.join(device, "name")):
                        continue
                except OSError:
                    continue
                for k in range(10):
                    path = os.path.join(folder, label.format(k))
                    if not self._has(path):
                        continue
                    try:
                        labels[path] = self._text(path)
                    except OSError as e:
                        raise Unavailable(f"{path}: {e.strerror}") from None
                    beside = [os.path.join(folder, name.format(k)) for name in readings]
                    self._paths += [p for p in beside if self._has(p)]
        if not labels:
            raise Unavailable(f"no INA3221 under {self._folder}")
        return {"files": labels}


class Hwmon(Files):
    """Whatever else shows a power under hwmon: power monitors (INA226), regulators, a meter of the mainboard."""

    name = "hwmon"

    def __init__(self, root, interval_s):
        super().__init__(root, "sys/class/hwmon", interval_s)

    def open(self):
        files = {}
        for folder in self._found("hwmon*"):
            name = self._fixed([os.path.join(folder, "name")])
            if any("ina3221" in text for text in name.values()):       # a sensor of its own
                continue
            powers = self._found(os.path.join(folder, "power[0-9]*_input")) or self._found(
                os.path.join(folder, "power[0-9]*_average"))
            beside = [os.path.join(folder, f) for f in ("in1_input", "curr1_input")]
            if not powers and all(self._has(path) for path in beside):
                powers = beside
            self._paths += powers
            if powers:
                files.update(name)
                files.update(self._fixed(path.rsplit("_", 1)[0] + "_label" for path in powers))
                place = os.path.realpath(os.path.join(self._folder, folder, "device"))
                files[os.path.join(folder, "device")] = os.path.basename(place)
        if not self._paths:
            raise Unavailable(f"no power under {self._folder}")
        self.read()                                    # says now that it is for root alone
        return {"files": files}


class Rapl(Files):
    """Energy counters of the processor."""

    name = "rapl"

    def __init__(self, root, interval_s):
        super().__init__(root, "sys/class/powercap", interval_s)

    def open(self):
        zones = self._found("intel-rapl:*")
        self._paths = [os.path.join(z, "energy_uj") for z in zones if self._has(os.path.join(z, "energy_uj"))]
        if not self._paths:
            raise Unavailable(f"no energy counter under {self._folder}")
        self.read()
        return {"files": self._fixed(os.path.join(z, f) for z in zones for f in ("name", "max_energy_range_uj"))}


class Cpu(Files):
    """Clocks and temperatures of the processor, and what a Raspberry Pi's firmware says of its throttling."""

    name = "cpu"
    FIRMWARE = ("devices/platform/soc/soc:firmware/get_throttled", "devices/platform/soc:firmware/get_throttled")

    def __init__(self, root, interval_s):
        super().__init__(root, "sys", interval_s)
        self._program, self._asked_s, self._answer = program("vcgencmd", root), 0.0, None

    def open(self):
        policies = (self._found("devices/system/cpu/cpufreq/policy[0-9]*")
                    or self._found("devices/system/cpu/cpu[0-9]*/cpufreq"))
        zones = self._found("class/thermal/thermal_zone[0-9]*")
        firmware = [path for path in self.FIRMWARE if self._has(path)][:1]
        if firmware:
            self._program = None
        wanted = [os.path.join(p, "scaling_" + f) for p in policies for f in ("cur_freq", "max_freq", "governor")]
        wanted += [os.path.join(z, "temp") for z in zones] + firmware
        self._paths = list(self._fixed(wanted))        # a zone without a sensor fails to be read
        if not self._paths and not self._program:
            raise Unavailable(f"neither clocks nor temperatures under {self._folder}")
        fixed = [os.path.join(p, f) for p in policies for f in ("cpuinfo_max_freq", "scaling_driver",
                                                                 "base_frequency")]
        fixed += [os.path.join(z, "type") for z in zones]
        for zone in zones:
            fixed += self._found(os.path.join(zone, "trip_point_*_t[ey][mp][pe]*"))
        return {"files": self._fixed(fixed)}

    def read(self):
        found = super().read()
        if self._program:
            if time.monotonic() - self._asked_s >= FIRMWARE_S:
                self._asked_s = time.monotonic()
                done = subprocess.run([self._program, "get_throttled"], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PROGRAM_S)
                self._answer = done.stdout.decode("utf-8", "replace")
            found["files"]["vcgencmd get_throttled"] = self._answer
        return found


class Meter(Sensor):
    """A power meter of its own beside the board: lines that arrive on a serial line or are appended to a file."""

    name = "meter"

    def __init__(self, given):
        super().__init__()
        self._given = given

    def run(self, log, stop):
        if not self._given:
            raise Unavailable("none is named")
        path, columns = self._given["path"], self._given.get("columns", ["power_w"])
        handle = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            serial = stat.S_ISCHR(os.fstat(handle).st_mode)
            if serial:
                self._set_up(handle)
            else:
                os.lseek(handle, 0, os.SEEK_END)
            log.write("fixed", self.name, files={"columns": ",".join(columns)})
            self.ready()
            self._follow(handle, serial, log, stop)
        finally:
            os.close(handle)

    def _set_up(self, handle):
        import termios
        import tty
        try:
            speed = getattr(termios, "B{}".format(int(self._given.get("baud", 9600))))
        except AttributeError:
            raise Unavailable("no serial line has {} baud".format(self._given["baud"])) from None
        tty.setraw(handle)
        modes = termios.tcgetattr(handle)
        modes[4] = modes[5] = speed
        termios.tcsetattr(handle, termios.TCSANOW, modes)
        termios.tcflush(handle, termios.TCIFLUSH)

    def _follow(self, handle, serial, log, stop):
        rest = b""
        while not stop.is_set():
            if serial:
                if not select.select([handle], [], [], 0.2)[0]:
                    continue
            else:
                stop.wait(0.01)                        # a file is always ready to be read
            more = os.read(handle, 65536)
            now = time.monotonic()
            if serial and not more:
                raise Unavailable("the serial line was closed")
            lines = (rest + more).split(b"\n")
            rest = lines.pop()[-65536:]
            for line in lines:
                log.write("reading", self.name, t_s=now, text=line.decode("utf-8", "replace").strip())


class Utilization(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class Nvml(Polled):
    """One GPU through NVML; names of values end in NVML's unit. A function the GPU does not support gives null."""

    name = "nvml"
    GRAPHICS, MEMORY, ON_THE_DIE = 0, 2, 0             # nvmlClockType_t, nvmlTemperatureSensors_t

    def __init__(self, root, interval_s, gpu):
        super().__init__(interval_s)
        library = "libnvidia-ml.so.1"
        self._file = library if root == "/" else os.path.join(root, "usr", "lib", library)
        self._gpu = gpu
        self._library, self._handle = None, ctypes.c_void_p()

    def _call(self, function, *words):
        try:
            code = getattr(self._library, function)(*words)
        except AttributeError:
            raise Unavailable(f"has no {function}") from None
        if code:
            raise Unavailable(f"{function} returned {code}")

    def _value(self, function, kind, *words):
        value = kind()
        try:
            self._call(function, self._handle, *words, ctypes.byref(value))
        except Unavailable:
            return None
        return value.value if hasattr(value, "value") else value

    def _name(self, function, *words):
        buffer = ctypes.create_string_buffer(96)
        try:
            self._call(function, *words, buffer, ctypes.c_uint(len(buffer)))
        except Unavailable:
            return None
        return buffer.value.decode("utf-8", "replace")

    def open(self):
        try:
            self._library = ctypes.CDLL(self._file)
        except OSError as e:
            raise Unavailable(reason(e)) from None
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(self._gpu), ctypes.byref(self._handle))
        uint = ctypes.c_uint
        return {"values": {
            "gpu": self._name("nvmlDeviceGetName", self._handle),
            "gpu_uuid": self._name("nvmlDeviceGetUUID", self._handle),
            "driver": self._name("nvmlSystemGetDriverVersion"),
            "power_limit_mw": self._value("nvmlDeviceGetEnforcedPowerLimit", uint),
            "graphics_max_mhz": self._value("nvmlDeviceGetMaxClockInfo", uint, self.GRAPHICS),
            "memory_max_mhz": self._value("nvmlDeviceGetMaxClockInfo", uint, self.MEMORY)}}

    def read(self):
        uint, ulong = ctypes.c_uint, ctypes.c_ulonglong
        busy = self._value("nvmlDeviceGetUtilizationRates", Utilization)
        reasons = self._value("nvmlDeviceGetCurrentClocksEventReasons", ulong)
        if reasons is None:                            # its name before driver 535
            reasons = self._value("nvmlDeviceGetCurrentClocksThrottleReasons", ulong)
        values = {
            "power_mw": self._value("nvmlDeviceGetPowerUsage", uint),
            "energy_mj": self._value("nvmlDeviceGetTotalEnergyConsumption", ulong),
            "graphics_mhz": self._value("nvmlDeviceGetClockInfo", uint, self.GRAPHICS),
            "memory_mhz": self._value("nvmlDeviceGetClockInfo", uint, self.MEMORY),
            "temperature_c": self._value("nvmlDeviceGetTemperature", uint, self.ON_THE_DIE),
            "gpu_percent": None if busy is None else busy.gpu,
            "reasons": reasons}
        if all(value is None for value in values.values()):
            raise Unavailable("none of its functions gave a value")
        return {"values": values}


def guarded(sensor, log, stop):
    """A sensor's life; however it ends, the file says why and nothing else is disturbed."""
    try:
        sensor.run(log, stop)
    except Unavailable as e:
        log.write("note", sensor.name, text=reason(e))
    except Exception as e:
        log.write("note", sensor.name, text=f"{type(e).__name__}: {reason(e)}")
    finally:
        sensor.opened.set()


def until_eof(log):
    """Windows as they come, until whoever writes them closes the pipe or dies."""
    for line in iter(sys.stdin.readline, ""):
        try:
            name, start_s, end_s, inferences = json.loads(line)
            log.write("window", text=str(name),
                      values={"start_s": start_s, "end_s": end_s, "inferences": inferences})
        except (ValueError, TypeError) as e:
            log.write("note", text=f"a window could not be written: {reason(e)}")


def interrupt(number, frame):
    raise KeyboardInterrupt


def main(words):
    import argparse  # here: the measured program, which imports this file too, need not hold it

    parser = argparse.ArgumentParser(description="Write down what the sensors of this board say.")
    parser.add_argument("out")
    parser.add_argument("--interval", type=float, default=0.1, metavar="S", help="between readings (0.1)")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after so long")
    parser.add_argument("--sensors", metavar="a,b", help="of {} (all)".format(", ".join(SENSORS)))
    parser.add_argument("--gpu", type=int, default=0, metavar="N", help="which one, as NVML counts (0)")
    parser.add_argument("--meter", type=json.loads, metavar="JSON", help="path, baud and columns of a power meter")
    parser.add_argument("--root", default="/", help="folder in which sys/ and usr/ are looked for (/)")
    parser.add_argument("--until-eof", action="store_true", help="take windows from stdin and end with it")
    given = parser.parse_args(words)
    chosen = given.sensors.split(",") if given.sensors else [s for s in SENSORS if s != "meter" or given.meter]
    if set(chosen) - set(SENSORS) or not 0.001 <= given.interval <= 60:
        parser.error("sensors are {}; the interval is 0.001 to 60 s".format(", ".join(SENSORS)))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    try:
        with open(given.out, "w") as file:
            record(Log(file), given, chosen)
    except OSError as e:
        raise SystemExit(f"{given.out} cannot be written: {e.strerror}") from None


def record(log, given, chosen):
    """From the first line to the last."""
    stop = threading.Event()
    log.write("start", values={"version": VERSION, "interval_s": given.interval, "root": os.geteuid() == 0,
                               "python": platform.python_version(), "machine": platform.machine()})
    made = {"nvml": lambda: Nvml(given.root, given.interval, given.gpu), "meter": lambda: Meter(given.meter)}
    kinds = (Tegrastats, Ina3221, Hwmon, Rapl, Cpu)
    made.update((kind.name, lambda kind=kind: kind(given.root, given.interval)) for kind in kinds)
    sensors = [made[name]() for name in chosen]
    threads = [threading.Thread(target=guarded, args=(one, log, stop), daemon=True) for one in sensors]
    try:
        if set(chosen) != {"cpu"}:                     # a Jetson's modes; first, since asking takes power
            texts(log, given.root, "start")
        for thread in threads:
            thread.start()
        patience = time.monotonic() + OPEN_S
        for one in sensors:
            one.opened.wait(max(0.0, patience - time.monotonic()))
        sys.stdout.buffer.write(b" ".join([READY] + [one.name.encode() for one in sensors if one.works]) + b"\n")
        sys.stdout.flush()
        if given.until_eof:
            until_eof(log)
        else:
            stop.wait(given.seconds)
    except (KeyboardInterrupt, OSError):               # OSError: nobody waits for "ready" any more
        pass
    try:
        stop.set()
        for thread in threads:
            thread.join(10)
        if set(chosen) != {"cpu"}:
            texts(log, given.root, "end")
        log.write("end")
    except KeyboardInterrupt:                          # a second one: leave at once, the file has no end
        pass


class Recorder:
    """The recorder beside a measured program. options: of the command line, e.g. ["--interval", "0.05"].

    sensors   names of those that can be read, once it has started
    Whatever goes wrong here must not end the measured program: every call catches every exception.
    """

    def __init__(self, path, options=()):
        self._words = [str(sys.executable), os.path.abspath(__file__), str(path), "--until-eof", *options]
        self._child = None
        self.problem, self.sensors = "", ()

    def start(self):
        """True once readings are being taken; False when there will be none, and `problem` says why."""
        try:
            child = subprocess.Popen(self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, start_new_session=True)
            patience = threading.Timer(START_S, self._end_group, [child])
            patience.start()
            ready = child.stdout.readline().split()
            patience.cancel()
            if ready[:1] == [READY]:
                self._child = child
                self.sensors = tuple(name.decode() for name in ready[1:])
                return True
            said = child.communicate()[1].decode("utf-8", "replace").strip().splitlines()
            self._end_group(child)
            self.problem = said[-1] if said else "the recorder did not start"
        except Exception as e:
            self.problem = reason(e)
        return False

    def window(self, name, start_s, end_s, inferences=0):
        """Name a stretch of time.monotonic() seconds."""
        if not self._child:
            return
        try:
            self._child.stdin.write(json.dumps([name, start_s, end_s, inferences]).encode() + b"\n")
            self._child.stdin.flush()
        except Exception as e:
            self.problem = f"the window {name!r} was not recorded: {reason(e)}"

    def stop(self):
        """End it and wait for its last line. Harmless when it never started or is gone."""
        child, self._child = self._child, None
        if not child:
            return
        try:
            child.communicate(timeout=STOP_S)          # closes its stdin: it ends
        except Exception as e:
            self.problem = reason(e)
        if child.poll() != 0:
            self._end_group(child)
            self.problem = self.problem or f"the recorder died with exit status {child.poll()}"

    @staticmethod
    def _end_group(child):
        """The recorder and the tegrastats that it started: they are one group."""
        with contextlib.suppress(Exception):
            os.killpg(child.pid, signal.SIGKILL)
        with contextlib.suppress(Exception):
            child.communicate(timeout=5)


if __name__ == "__main__":
    main(sys.argv[1:])
