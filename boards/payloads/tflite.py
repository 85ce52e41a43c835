"""Runs ON the board: executes the stages of a TFLite artifact and writes down what it saw.

    python3 tflite.py JOB.json

Needs numpy and ai_edge_litert (or its predecessor tflite_runtime), and sense.py beside it for its sensors. A job:

    passes        of PASSES, done in that order; each has its docstring below
    stages        [{"file", "repeat", "times": [t, ...] or null}, ...], run one after the other
    inputs        .npy, float32, (n, *input shape of the first stage without batch)
    operators     [{"index", "file", "runs": in one inference}, ...]: models of one operator each
    marks         cost operators in instructions, between marks, rather than in ns
    counter       take the kernel's count of this thread's instructions for the time, where it has one; optional
    energy_operators   how many of the heaviest operators "energy_operators" takes
    sense         {"root", "sensors", "interval_s", "meter"}, each optional: see sense.py
    threads, warmup, iterations, duration_s
    operator_iterations, operator_duration_s   the same for a single operator; optional
    out           folder for outputs.npy (float32), raw_outputs.npy, result.json, clocks.jsonl, power.jsonl and
                  operators.jsonl

result.json is rewritten after every pass, so that a crash in a later one loses nothing. A mark is the
system call getpriority(0x4857, label): it fails and changes nothing, unless an emulator counts there.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import struct
import sys
import time

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter
    RUNTIME = "ai-edge-litert"
except ModuleNotFoundError as missing:
    if missing.name != "ai_edge_litert":
        raise
    from tflite_runtime.interpreter import Interpreter
    RUNTIME = "tflite-runtime"

PASSES = ("memory", "outputs", "latency", "clocks", "application", "instructions", "power", "operators",
          "energy_operators")
BESIDE = ("clocks", "application")                  # done while "latency" is
MARK = 0x4857
COUNT_WARMUP = 3
MARK_WARMUP = 20
MOST_SAMPLES = 2000
WINDOWS = 3                                         # the timed pass in so many parts, with others between them
APPLICATION_SHARE, APPLICATION_ITERATIONS = 0.3, 10  # of a part's duration, and at least so many in each
CACHE_BYTES, MOST_EVICTED_BYTES = 16 << 20, 64 << 20   # a last-level cache that is not told; the buffer at most
CLOCKS_S, POWER_S = 0.2, 0.1                        # between readings
STILL_S = 2.2                                       # idle before and after; the host wants 2 s
CONTROLS = 3                                        # short windows of the whole chain between the operators
PAIRS = 4                                           # of windows without and with an operator
READINGS = 30                                       # of the sensor in such a window; the host wants 20
OPERATOR_WARMUP = 3
OPERATOR_ITERATIONS = 30
OPERATOR_DURATION_S = 0.05
COUNTED_OPERATOR_RUNS = 1

HARDWARE, INSTRUCTIONS, WITHOUT_KERNEL = 0, 1, 0b1100000      # of perf_event_attr: type, config, exclude_*
PERF_EVENT_OPEN, PERF_ATTRIBUTES = 241, 128

_libc = ctypes.CDLL(None)
now, idle = time.perf_counter_ns, 0                 # or instruction_counter, and what it counts of itself
_label = 0


def say(text):
    print("progress: " + text, flush=True)


def mark():
    """Take a mark; its label."""
    global _label
    _label += 1
    _libc.getpriority(MARK, _label)
    return _label


def quantise(values, detail):
    """float32 values as the tensor `detail` wants them: round half to even, then clip."""
    dtype = np.dtype(detail["dtype"])
    if dtype.kind == "f":
        return values.astype(dtype)
    scale, zero = detail["quantization"]
    scaled = np.round(values / np.float32(scale)) + zero if scale else np.round(values)
    if dtype.kind == "b":
        return scaled != 0
    limits = np.iinfo(dtype)
    return np.clip(scaled, limits.min, limits.max).astype(dtype)


def dequantise(raw, detail):
    """Raw tensor values as float32."""
    scale, zero = detail["quantization"]
    if np.dtype(detail["dtype"]).kind == "f" or not scale:
        return raw.astype(np.float32)
    return (raw.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def load(path, threads):
    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


class Stage:
    """One model of the chain, invoked `repeat` times on its own output."""

    def __init__(self, spec, threads):
        self.file = os.path.basename(spec["file"])
        self.repeat = spec["repeat"]
        self.times = spec["times"]
        self.interpreter = load(spec["file"], threads)
        inputs = self.interpreter.get_input_details()
        wanted = 2 if self.times else 1
        if len(inputs) != wanted:
            raise SystemExit(f"{self.file} takes {len(inputs)} inputs, not {wanted}")
        if self.times and len(self.times) != self.repeat:
            raise SystemExit(f"{self.file} has {len(self.times)} times for {self.repeat} repeats")
        self.input = inputs[0]
        if self.times:
            self.time = inputs[1]["index"]
            self.raw_times = [quantise(np.full(inputs[1]["shape"], t, np.float32), inputs[1]) for t in self.times]
        self.output = self.interpreter.get_output_details()[0]
        self.again = Link(self, self) if self.repeat > 1 else None
        self.before = None                          # the link from the stage before, set by the chain

    def run(self):
        for step in range(self.repeat):
            if step:
                self.again.pass_on()
            if self.times:
                self.interpreter.set_tensor(self.time, self.raw_times[step])
            self.interpreter.invoke()


class Link:
    """Hands the output of one stage to the input of the next, raw where both mean the same by a value."""

    def __init__(self, source, sink):
        self.source, self.sink = source, sink
        a, b = source.output, sink.input
        self.raw = a["dtype"] == b["dtype"] and tuple(a["quantization"]) == tuple(b["quantization"])
        if tuple(a["shape"]) != tuple(b["shape"]):
            raise SystemExit(f"{source.file} gives {a['shape'].tolist()}, "
                             f"but {sink.file} takes {b['shape'].tolist()}")

    def pass_on(self):
        value = self.source.interpreter.get_tensor(self.source.output["index"])
        if not self.raw:
            value = quantise(dequantise(value, self.source.output), self.sink.input)
        self.sink.interpreter.set_tensor(self.sink.input["index"], value)


class Chain:
    """All stages of the artifact."""

    def __init__(self, stages, threads):
        self.stages = [Stage(spec, threads) for spec in stages]
        for k in range(1, len(self.stages)):
            self.stages[k].before = Link(self.stages[k - 1], self.stages[k])

    def feed(self, sample):
        """One float32 sample without batch into the first stage."""
        first = self.stages[0]
        if tuple(first.input["shape"][1:]) != sample.shape:
            raise SystemExit(f"an input has shape {list(sample.shape)}, "
                             f"but {first.file} takes {first.input['shape'][1:].tolist()}")
        first.interpreter.set_tensor(first.input["index"], quantise(sample[None], first.input))

    def run(self):
        for stage in self.stages:
            if stage.before:
                stage.before.pass_on()
            stage.run()

    def output(self):
        """Raw output and the tensor it is."""
        last = self.stages[-1]
        return last.interpreter.get_tensor(last.output["index"]), last.output


def _ranges(lines):
    for line in lines:
        low, high = line.split(None, 1)[0].split("-")
        yield int(low, 16), int(high, 16)


def resident():
    """Resident bytes of this program's own memory: {"rss", "anonymous"}.

    Only ranges that /proc/self/maps shows are counted. Natively that is all of them; under emulation
    it leaves out the emulator's own memory, which smaps would include.
    """
    gc.collect()
    with open("/proc/self/maps") as f:
        mine = sorted(_ranges(f))
    total = {"rss": 0, "anonymous": 0}
    inside = False
    with open("/proc/self/smaps") as f:
        for line in f:
            key = line.split(None, 1)[0]
            if not key.endswith(":"):
                (low, high), = _ranges([line])
                inside = any(a < high and low < b for a, b in mine)
            elif inside and key in ("Rss:", "Anonymous:"):
                total[key[:-1].lower()] += int(line.split()[1]) * 1024
    return total


def peak_rss():
    """High-water mark of the resident set, bytes; None where the kernel does not say."""
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def memory_pass(job, samples):
    """Resident memory before loading, once loaded, and after the first inference."""
    before = resident()
    chain = Chain(job["stages"], job["threads"])
    loaded = resident()
    chain.feed(samples[0])
    chain.run()
    return chain, {"before": before, "loaded": loaded, "invoked": resident(), "peak_rss": peak_rss()}


def outputs_pass(chain, samples, out):
    """Every golden input through the chain."""
    raw, values = [], []
    for k, sample in enumerate(samples):
        chain.feed(sample)
        chain.run()
        result, detail = chain.output()
        raw.append(result[0])
        values.append(dequantise(result, detail)[0])
        say(f"inference {k + 1} of {len(samples)}")
    np.save(os.path.join(out, "raw_outputs.npy"), np.stack(raw))
    np.save(os.path.join(out, "outputs.npy"), np.stack(values))
    return {"n": len(samples), "dtype": str(raw[0].dtype)}


def spacing(run, duration_ns):
    """Keep a run every so many, so that a network of microseconds does not leave a million samples."""
    a = time.perf_counter_ns()
    run()
    return max(1, int(duration_ns / max(1, time.perf_counter_ns() - a) / MOST_SAMPLES))


def instruction_counter():
    """A clock that moves on by one with each instruction of this thread, the kernel's own left out.

    None where the kernel has no such counter (perf_event_open(2); its number is that of 64-bit ARM).
    """
    about = bytearray(struct.pack("<2I5Q", HARDWARE, PERF_ATTRIBUTES, INSTRUCTIONS, 0, 0, 0, WITHOUT_KERNEL)
                      .ljust(PERF_ATTRIBUTES, b"\0"))
    if platform.machine() != "aarch64":
        return None
    file = _libc.syscall(PERF_EVENT_OPEN, (ctypes.c_char * len(about)).from_buffer(about), 0, -1, -1, 0)
    return None if file < 0 else lambda: int.from_bytes(os.read(file, 8), "little")


def timed(run, iterations, duration_ns, every=None):
    """Nanoseconds of runs one after the other, until both limits are reached: {"ns", "every"}: see spacing."""
    every = every or spacing(run, duration_ns)
    samples = []
    done = 0
    started = time.perf_counter_ns()
    while len(samples) < iterations or time.perf_counter_ns() - started < duration_ns:
        a = now()
        run()
        b = now()
        if done % every == 0:
            samples.append(b - a - idle)
        done += 1
    return {"ns": samples, "every": every}


def counted(run, times):
    """Labels of marks around every run: `times` + 1 of them.

    Runs before the first mark kept let Python specialise this loop; its own cost is constant from then on.
    """
    labels = [0] * (COUNT_WARMUP + times + 1)
    labels[0] = mark()
    for k in range(1, len(labels)):
        run()
        labels[k] = mark()
    return labels[COUNT_WARMUP:]


def recorder(job, name, interval_s, sensors=()):
    """A recorder of sense.py for the file `name`, started; or None and why not."""
    try:
        import sense  # not before: figures of memory are without it
    except ModuleNotFoundError:
        return None, "sense.py, which reads the sensors, does not lie beside the payload"
    about = job.get("sense") or {}
    words = ["--root", about.get("root", "/"), "--interval", str(about.get("interval_s", interval_s))]
    sensors = sensors or about.get("sensors")
    if sensors:
        words += ["--sensors", ",".join(sensors)]
    if about.get("meter"):
        words += ["--meter", json.dumps(about["meter"])]
    found = sense.Recorder(os.path.join(job["out"], name), words)
    return (found, "") if found.start() else (None, found.problem)


def power_recorder(job, name, interval_s):
    """The same with a sensor of power; or None and why not, "" where there is just none."""
    beside, problem = recorder(job, name, interval_s)
    if beside and not set(beside.sensors) - {"cpu"}:
        beside.stop()
        return None, beside.problem
    return beside, problem


def latency_pass(chain, samples, job):
    """The chain alone, its input in place: {"latency": {"ns", "every", "windows"}, ...}, in WINDOWS parts.

    Beside it what is asked for of BESIDE. "application": {"ns", "evicted_bytes"}, see Application. "clocks":
    {"problem"}: why clocks.jsonl, with the parts as windows, is not whole.
    """
    found, beside, every = {"latency": {"ns": [], "windows": []}}, None, None
    if "clocks" in job["passes"]:
        beside, problem = recorder(job, "clocks.jsonl", CLOCKS_S, ["cpu"])
        found["clocks"] = {"problem": problem}
    application = Application(chain, samples) if "application" in job["passes"] else None
    if application:
        found["application"] = {"ns": [], "evicted_bytes": application.evicted_bytes}
    say("timing")
    least, duration_ns = -(-job["iterations"] // WINDOWS), int(job["duration_s"] * 1e9 / WINDOWS)
    for k in range(WINDOWS):
        chain.feed(samples[0])
        for _ in range(job["warmup"]):
            chain.run()
        every = every or spacing(chain.run, WINDOWS * duration_ns)
        start_s = time.monotonic()
        part = timed(chain.run, least, duration_ns, every)
        found["latency"]["every"] = every
        if beside:
            beside.window(f"timed-{k}", start_s, time.monotonic(), len(part["ns"]) * every)
        found["latency"]["ns"] += part["ns"]
        found["latency"]["windows"].append(len(part["ns"]))
        if application:
            found["application"]["ns"] += application.timed(min(least, APPLICATION_ITERATIONS),
                                                            APPLICATION_SHARE * duration_ns)
    if beside:
        beside.stop()
        found["clocks"]["problem"] = beside.problem
    return found


def cache_bytes():
    """The last-level cache by what the kernel tells of the first core; CACHE_BYTES where it does not."""
    folder, found = "/sys/devices/system/cpu/cpu0/cache", []
    try:
        for name in os.listdir(folder):
            if name.startswith("index"):
                with open(os.path.join(folder, name, "size")) as f:
                    text = f.read().strip()
                found.append(int(text[:-1]) << {"K": 10, "M": 20}[text[-1]])
    except (OSError, ValueError, KeyError, IndexError):
        pass
    return max(found) if found else CACHE_BYTES


class Application:
    """An inference as an application has it.

    The input lies in a buffer of its own, and caches hold something else: a buffer of twice the last-level cache
    is written before. Then the input is quantised and copied in, the chain run, the output dequantised and its
    largest value found. evicted_bytes: that buffer; it is smaller where the cache is very large.
    """

    def __init__(self, chain, samples):
        self._chain, self._samples = chain, samples
        self.evicted_bytes = min(2 * cache_bytes(), MOST_EVICTED_BYTES)

    def timed(self, iterations, duration_ns):
        """ns of each of `iterations` or more, until they take the duration or, evicting included, twice that."""
        other = np.zeros(self.evicted_bytes, np.uint8)
        found, started = [], time.perf_counter_ns()
        while len(found) < iterations or (sum(found) < duration_ns
                                          and time.perf_counter_ns() - started < 2 * duration_ns):
            sample = self._samples[len(found) % len(self._samples)].copy()
            other[::64] += 1
            a = time.perf_counter_ns()
            self._chain.feed(sample)
            self._chain.run()
            raw, detail = self._chain.output()
            np.argmax(dequantise(raw, detail))
            found.append(time.perf_counter_ns() - a)
        return found


def again(run, seconds, least):
    """Runs one after the other for so long and at least so many: (start_s, end_s, runs), of time.monotonic()."""
    count, start_s = 0, time.monotonic()
    while count < least or time.monotonic() - start_s < seconds:
        run()
        count += 1
    return start_s, time.monotonic(), count


def still(beside, name):
    """Nothing, for its power."""
    start_s = time.monotonic()
    time.sleep(STILL_S)
    beside.window(name, start_s, time.monotonic())


def power_pass(chain, samples, job):
    """The chain again and again beside the board's sensors, nothing before and after: {"problem", "sensed"}.

    power.jsonl has the readings, and the stretches as the windows "idle", "timed" and "idle-after". sensed: is
    there a sensor of power at all? Without one nothing is run.
    """
    beside, problem = power_recorder(job, "power.jsonl", POWER_S)
    if beside is None:
        return {"problem": problem, "sensed": False}
    say("idle, for its power")
    still(beside, "idle")
    chain.feed(samples[0])
    for _ in range(job["warmup"]):
        chain.run()
    say("running, for its power")
    beside.window("timed", *again(chain.run, max(STILL_S, job["duration_s"]), job["iterations"]))
    still(beside, "idle-after")
    beside.stop()
    return {"problem": beside.problem, "sensed": True}


def energy_operators_pass(chain, samples, job, costed):
    """Energy of single operators from differences: {"problem", "sensed", "operators": [...]}.

    costed   what "operators" found. For each of the heaviest: windows of the chain run `chain_runs` times, and
    windows of the same with the operator's own model run `operator_runs` times after each. They come in PAIRS, one
    of each, the order changing from pair to pair; operators.jsonl has them as "<index> without <pair>" and
    "<index> with <pair>", and "idle" and "idle-after" around all.
    """
    specs = {spec["index"]: spec for spec in job["operators"]}
    one_ns = {entry["index"]: float(np.median(entry["ns"])) for entry in costed if entry.get("ns")}
    heaviest = sorted(one_ns, key=lambda k: one_ns[k] * specs[k].get("runs", 1), reverse=True)
    interval_s = (job.get("sense") or {}).get("interval_s", POWER_S)
    beside, problem = power_recorder(job, "operators.jsonl", interval_s)
    if beside is None:
        return {"problem": problem, "sensed": False, "operators": []}
    say("idle, for its power")
    still(beside, "idle")
    chain.feed(samples[0])
    for _ in range(job["warmup"]):
        chain.run()
    start_s, end_s, count = again(chain.run, 0.2, 3)
    chain_ns = (end_s - start_s) * 1e9 / count
    chain_runs = max(1, round(max(STILL_S, READINGS * interval_s) * 1e9 / chain_ns))
    found = []
    for k, index in enumerate(heaviest[:job["energy_operators"]]):
        say(f"energy of operator {k + 1} of {min(len(heaviest), job['energy_operators'])}")
        interpreter = load(specs[index]["file"], job["threads"])
        fill(interpreter, index)
        runs = max(1, round(chain_ns / one_ns[index]))
        both = (("without", 0), ("with", runs))
        for pair in range(PAIRS):
            for name, times in both if pair % 2 == 0 else both[::-1]:
                start_s = time.monotonic()
                for _ in range(chain_runs):
                    chain.run()
                    for _ in range(times):
                        interpreter.invoke()
                beside.window(f"{index} {name} {pair}", start_s, time.monotonic(), chain_runs)
        found.append({"index": index, "chain_runs": chain_runs, "operator_runs": runs, "ns": one_ns[index]})
    still(beside, "idle-after")
    beside.stop()
    return {"problem": beside.problem, "sensed": True, "operators": found}


def instructions_pass(chain, samples, job):
    chain.feed(samples[0])
    return {"labels": counted(chain.run, job["iterations"])}


def fill(interpreter, seed):
    """Reproducible values into every input; whole numbers without a scale may be indices and stay zero."""
    random = np.random.RandomState(seed)
    for detail in interpreter.get_input_details():
        dtype, shape = np.dtype(detail["dtype"]), detail["shape"]
        if dtype.kind == "f":
            value = random.standard_normal(shape).astype(dtype)
        elif dtype.kind in "iu" and detail["quantization"][0]:
            limits = np.iinfo(dtype)
            value = random.randint(max(limits.min, -100), min(limits.max, 100), size=shape).astype(dtype)
        else:
            value = np.zeros(shape, dtype)
        interpreter.set_tensor(detail["index"], value)


def operators_pass(chain, samples, job):
    """(cost of every operator on its own, windows of the whole chain between them).

    An operator that cannot be run says why. The windows show what changed meanwhile.
    """
    found, controls = [], []
    spread = max(1, len(job["operators"]) // CONTROLS)
    iterations = job.get("operator_iterations", OPERATOR_ITERATIONS)
    duration_ns = int(job.get("operator_duration_s", OPERATOR_DURATION_S) * 1e9)
    for k, operator in enumerate(job["operators"]):
        if chain and k % spread == spread // 2 and len(controls) < CONTROLS:
            chain.feed(samples[0])
            for _ in range(OPERATOR_WARMUP):
                chain.run()
            controls.append(timed(chain.run, OPERATOR_WARMUP, duration_ns))
        say(f"operator {k + 1} of {len(job['operators'])}")
        entry = {"index": operator["index"]}
        try:
            interpreter = load(operator["file"], job["threads"])
            fill(interpreter, operator["index"])
            if job["marks"]:
                entry["labels"] = counted(interpreter.invoke, COUNTED_OPERATOR_RUNS)
            else:
                for _ in range(OPERATOR_WARMUP):
                    interpreter.invoke()
                entry.update(timed(interpreter.invoke, iterations, duration_ns))
        except (RuntimeError, ValueError) as e:     # what the interpreter raises for a model it cannot run
            entry["error"] = " ".join(str(e).split())[:200]
        found.append(entry)
    return found, controls


def runtime_version():
    """As the folder beside the package names it: importlib.metadata would take 4 MB of the board's memory."""
    package = sys.modules[Interpreter.__module__.split(".")[0]].__file__
    start, end = RUNTIME.replace("-", "_") + "-", ".dist-info"
    for name in os.listdir(os.path.dirname(os.path.dirname(os.path.abspath(package)))):
        if name.startswith(start) and name.endswith(end):
            return name[len(start):-len(end)]
    from importlib import metadata
    return metadata.version(RUNTIME)


def write_result(job, result):
    path = os.path.join(job["out"], "result.json")
    with open(path + ".new", "w") as f:
        json.dump(result, f)
    os.replace(path + ".new", path)


def main(job_file):
    with open(job_file) as f:
        job = json.load(f)
    unknown = set(job["passes"]) - set(PASSES)
    if unknown:
        raise SystemExit(f"unknown passes: {sorted(unknown)}")
    for name, first in [(b, "latency") for b in BESIDE] + [("energy_operators", "operators")]:
        if name in job["passes"] and first not in job["passes"]:
            raise SystemExit(f"the pass {name!r} needs the pass {first!r}")
    samples = np.load(job["inputs"], allow_pickle=False)
    result = {"runtime": RUNTIME, "runtime_version": runtime_version(), "numpy": np.__version__,
              "python": platform.python_version(), "machine": platform.machine(), "passes": {}}
    done = result["passes"]
    counter = instruction_counter() if job.get("counter") else None
    if counter:
        global now, idle
        now, idle = counter, 0
        idle = min(timed(lambda: None, MARK_WARMUP, 0, 1)["ns"])
    result["counter"] = counter is not None
    gc.disable()                                    # no collection inside a timed or counted region
    if job["marks"]:
        nothing = Chain([], job["threads"]).run     # what a mark and a call cost, without any model
        counted(nothing, MARK_WARMUP)
        result["nothing"] = counted(nothing, 3)
    chain = None
    for name in [p for p in PASSES if p in job["passes"] and p not in BESIDE]:
        say(name)
        if chain is None and name not in ("memory", "operators"):
            chain = Chain(job["stages"], job["threads"])
        if name == "memory":
            chain, done[name] = memory_pass(job, samples)
        elif name == "outputs":
            done[name] = outputs_pass(chain, samples, job["out"])
        elif name == "latency":
            done.update(latency_pass(chain, samples, job))
        elif name == "instructions":
            done[name] = instructions_pass(chain, samples, job)
        elif name == "power":
            done[name] = power_pass(chain, samples, job)
        elif name == "operators":
            done[name], done["controls"] = operators_pass(None if job["marks"] else chain, samples, job)
        else:
            done[name] = energy_operators_pass(chain, samples, job, done["operators"])
        write_result(job, result)


if __name__ == "__main__":
    main(sys.argv[1])
