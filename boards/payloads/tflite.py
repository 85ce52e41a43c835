"""Runs ON the board: executes the stages of a TFLite artifact and writes down what it saw.

    python3 tflite.py JOB.json

Needs numpy and ai_edge_litert (or its predecessor tflite_runtime), nothing else. The job is

    passes        of "memory", "outputs", "latency", "instructions", "operators"; done in this order
    stages        [{"file", "repeat", "times": [t, ...] or null}, ...], run one after the other
    inputs        .npy, float32, (n, *input shape of the first stage without batch)
    operators     [{"index", "file"}, ...]: models of one operator each
    marks         cost operators in instructions, between marks, rather than in ns
    threads, warmup, iterations, duration_s
    out           folder for outputs.npy (float32), raw_outputs.npy and result.json

result.json is rewritten after every pass, so that a crash in a later one loses nothing. A mark is the
system call getpriority(0x4857, label): it fails and changes nothing, unless an emulator counts there.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
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

PASSES = ("memory", "outputs", "latency", "instructions", "operators")
MARK = 0x4857
COUNT_WARMUP = 3
MARK_WARMUP = 20
MOST_SAMPLES = 2000
OPERATOR_WARMUP = 3
OPERATOR_ITERATIONS = 30
OPERATOR_DURATION_NS = 50_000_000
COUNTED_OPERATOR_RUNS = 1

_libc = ctypes.CDLL(None)
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


def timed(run, iterations, duration_ns):
    """Nanoseconds of runs one after the other, until both limits are reached: {"ns", "every"}.

    A run is kept `every` so many, so that a network of microseconds does not leave a million samples.
    """
    a = time.perf_counter_ns()
    run()
    expected = duration_ns / max(1, time.perf_counter_ns() - a)
    every = max(1, int(expected / MOST_SAMPLES))
    samples = []
    done = 0
    started = time.perf_counter_ns()
    while len(samples) < iterations or time.perf_counter_ns() - started < duration_ns:
        a = time.perf_counter_ns()
        run()
        b = time.perf_counter_ns()
        if done % every == 0:
            samples.append(b - a)
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


def latency_pass(chain, samples, job):
    chain.feed(samples[0])
    for _ in range(job["warmup"]):
        chain.run()
    say("timing")
    return timed(chain.run, job["iterations"], int(job["duration_s"] * 1e9))


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


def operators_pass(job):
    """Cost of every operator on its own; one that cannot be run says why."""
    found = []
    for k, operator in enumerate(job["operators"]):
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
                entry.update(timed(interpreter.invoke, OPERATOR_ITERATIONS, OPERATOR_DURATION_NS))
        except (RuntimeError, ValueError) as e:     # what the interpreter raises for a model it cannot run
            entry["error"] = " ".join(str(e).split())[:200]
        found.append(entry)
    return found


def runtime_version():
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
    samples = np.load(job["inputs"], allow_pickle=False)
    result = {"runtime": RUNTIME, "runtime_version": runtime_version(), "numpy": np.__version__,
              "python": platform.python_version(), "machine": platform.machine(), "passes": {}}
    done = result["passes"]
    gc.disable()                                    # no collection inside a timed or counted region
    if job["marks"]:
        nothing = Chain([], job["threads"]).run     # what a mark and a call cost, without any model
        counted(nothing, MARK_WARMUP)
        result["nothing"] = counted(nothing, 3)
    chain = None
    for name in [p for p in PASSES if p in job["passes"]]:
        say(name)
        if chain is None and name not in ("memory", "operators"):
            chain = Chain(job["stages"], job["threads"])
        if name == "memory":
            chain, done[name] = memory_pass(job, samples)
        elif name == "outputs":
            done[name] = outputs_pass(chain, samples, job["out"])
        elif name == "latency":
            done[name] = latency_pass(chain, samples, job)
        elif name == "instructions":
            done[name] = instructions_pass(chain, samples, job)
        else:
            done[name] = operators_pass(job)
        write_result(job, result)


if __name__ == "__main__":
    main(sys.argv[1])
