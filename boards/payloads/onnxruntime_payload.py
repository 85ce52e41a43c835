"""Runs ON the board: executes the stages of an ONNX artifact and writes down what it saw.

    python3 onnxruntime_payload.py JOB.json

Needs numpy and onnxruntime, nothing else. The job is

    passes        of "memory", "outputs", "latency", "operators"; done in this order
    stages        [{"file", "repeat", "times": [t, ...] or null}, ...], run one after the other
    variants      [{"name", "stages"}, ...]: other forms of the network, timed beside it
    providers     [[name, {option: value}], ...] as onnxruntime takes them; the first must be obtained
    inputs        .npy, float32, (n, *input shape of the first stage without batch)
    threads, warmup, iterations, duration_s
    out           folder for outputs.npy, raw_outputs.npy, result.json, variant-<k>.npy and profile-<stage>.json

result.json is rewritten after every pass, so that a crash in a later one loses nothing. onnxruntime falls back
in silence where it cannot have a provider: here that ends the run with exit code 3 and "refused" in result.json.
"""

import gc
import json
import os
import platform
import subprocess
import sys
import time

import numpy as np
import onnxruntime as ort

PASSES = ("memory", "outputs", "latency", "power", "operators")
REFUSED = 3                                 # exit code
ON_GPU = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
GRAPH_OPTIONS = ("enable_cuda_graph", "trt_cuda_graph_enable")
GRAPH_ID = "gpu_graph_id"                   # of a run: which captured graph it replays, since onnxruntime 1.18
SEVERAL_GRAPHS = (1, 18)
MOST_SAMPLES = 2000
BLOCKS = 8                                  # what is timed side by side takes turns, each this often
COMPARED = 8                                # inputs that every variant also computes
IDLE_S = 3.0                                # with nothing running, before the power of the network is taken
PROFILE_WARMUP = 3                          # inferences
PROFILE_RUNS = 10

# Python 3.6 has no perf_counter_ns
now_ns = getattr(time, "perf_counter_ns", None) or (lambda: int(time.perf_counter() * 1e9))


class Refused(Exception):
    """onnxruntime does not do what was asked for.

    kind   "missing": this onnxruntime has no such provider; "provider": it has, but the provider did not load;
           "session": the model cannot be loaded as asked
    """

    def __init__(self, kind, what, text):
        Exception.__init__(self, what + ": " + text)
        self.record = {"kind": kind, "what": what, "text": one_line(text)}


def one_line(text):
    return " ".join(str(text).split())[:400]


def say(text):
    print("progress: " + text, flush=True)


def is_on(value):
    return str(value).lower() in ("1", "true")


class Provider:
    """The providers of the job; the first decides where tensors lie and whether graphs are captured."""

    def __init__(self, listed, graphs=True):
        self.listed = []
        for name, options in listed:
            kept = dict((k, str(v)) for k, v in options.items() if graphs or k not in GRAPH_OPTIONS)
            self.listed.append((name, kept))
        self.name, options = self.listed[0]
        self.device = "cuda" if self.name in ON_GPU else "cpu"
        self.device_id = int(options.get("device_id", 0))
        self.graph_option = next((k for k in GRAPH_OPTIONS if is_on(options.get(k, "0"))), None)

    def check(self):
        """Refused where this onnxruntime was built without one of them."""
        there = ort.get_available_providers()
        for name, _ in self.listed:
            if name not in there:
                raise Refused("missing", name, "it has " + ", ".join(there))

    def session(self, path, threads, profile=None):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        if profile:
            options.enable_profiling = True
            options.profile_file_prefix = profile
        try:
            found = ort.InferenceSession(path, options, providers=self.listed, enable_fallback=0)
        except Exception as e:              # what the binding raises has no common base of its own
            raise Refused("session", os.path.basename(path), str(e)) from None
        got = found.get_providers()
        for name, _ in self.listed:
            if name not in got:
                raise Refused("provider", name, "got " + ", ".join(got))
        if self.graph_option and not is_on(found.get_provider_options()[self.name].get(self.graph_option, "0")):
            raise Refused("session", os.path.basename(path), self.graph_option + " was not taken")
        return found


class Buffer:
    """A float32 tensor that stays where it is: a numpy array, or memory of the GPU."""

    def __init__(self, shape, provider):
        self.array = np.zeros(shape, np.float32)
        self.on_host = provider.device == "cpu"
        self.value = ort.OrtValue.ortvalue_from_numpy(self.array, provider.device, provider.device_id)

    def put(self, array):
        if self.on_host:
            np.copyto(self.array, array)    # onnxruntime reads the array itself
        else:
            self.value.update_inplace(np.ascontiguousarray(array, np.float32))

    def get(self):
        return self.array.copy() if self.on_host else self.value.numpy()


class Stage:
    """One model of the chain, run `repeat` times on its own output, from buffer to buffer without a copy."""

    def __init__(self, spec, provider, threads, profile=None):
        self.file = os.path.basename(spec["file"])
        self.repeat, self.times = spec["repeat"], spec["times"]
        self.provider = provider
        self.session = provider.session(spec["file"], threads, profile)
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        wanted = 2 if self.times else 1
        if len(inputs) != wanted:
            raise SystemExit(f"{self.file} takes {len(inputs)} inputs, not {wanted}")
        if self.times and len(self.times) != self.repeat:
            raise SystemExit(f"{self.file} has {len(self.times)} times for {self.repeat} repeats")
        self.time = next((i for i in inputs if i.name == "t"), inputs[-1]) if self.times else None
        self.input = next(i for i in inputs if i is not self.time)
        self.output = outputs[0]
        for tensor in (self.input, self.output):
            if tensor.type != "tensor(float)" or not all(isinstance(n, int) for n in tensor.shape):
                raise SystemExit(f"{self.file}: {tensor.name} is {tensor.type} {tensor.shape}, "
                                 "not float32 of a fixed shape")
        self.steps = []                     # (binding, options of the run, buffer for t or None, t)
        self.buffers = []                   # a binding does not keep them alive

    def connect(self, source, first):
        """Bind every step; the buffer that holds the result. Steps swap two buffers.

        The first stage leaves its input alone, so that an inference can be repeated without feeding it again.
        """
        if tuple(source.array.shape) != tuple(self.input.shape):
            raise SystemExit(f"{self.file} takes {list(self.input.shape)}, "
                             f"but is given {list(source.array.shape)}")
        if self.repeat > 1 and list(self.input.shape) != list(self.output.shape):
            raise SystemExit(f"{self.file} gives {list(self.output.shape)}, "
                             f"but takes {list(self.input.shape)}: it cannot repeat")
        one = Buffer(self.output.shape, self.provider)
        other = (Buffer(self.output.shape, self.provider) if first else source) if self.repeat > 1 else None
        ring = (one, other)
        self.buffers += [source, one, other]
        graph = self.provider.graph_option
        if graph and self.repeat > 1 and version() < SEVERAL_GRAPHS:
            raise Refused("session", self.file, "CUDA graphs of a repeated step need onnxruntime 1.18 or newer")
        shared_time = Buffer(self.time.shape, self.provider) if self.times and graph else None
        bound = {}
        for step in range(self.repeat):
            a, b = (ring[(step - 1) % 2] if step else source), ring[step % 2]
            key = (id(a), id(b), step if self.times and not graph else 0)
            if key not in bound:
                bound[key] = self._bound(a, b, shared_time, step, len(bound) + 1)
            binding, options = bound[key]
            self.steps.append((binding, options, shared_time, self.times[step] if self.times else None))
        return ring[(self.repeat - 1) % 2]

    def _bound(self, a, b, shared_time, step, number):
        binding = self.session.io_binding()
        binding.bind_ortvalue_input(self.input.name, a.value)
        binding.bind_ortvalue_output(self.output.name, b.value)
        if self.times:
            time_buffer = shared_time
            if time_buffer is None:
                time_buffer = Buffer(self.time.shape, self.provider)
                time_buffer.put(np.full(self.time.shape, self.times[step], np.float32))
            binding.bind_ortvalue_input(self.time.name, time_buffer.value)
            self.buffers.append(time_buffer)
        options = None
        if self.provider.graph_option and version() >= SEVERAL_GRAPHS:
            options = ort.RunOptions()
            options.add_run_config_entry(GRAPH_ID, str(number))
        return binding, options

    def run(self):
        for binding, options, time_buffer, t in self.steps:
            if time_buffer is not None:
                time_buffer.put(np.full(self.time.shape, t, np.float32))
            self.session.run_with_iobinding(binding, options)


class Chain:
    """All stages of one form of the network."""

    def __init__(self, stages, provider, threads, profiles=None):
        self.stages = [Stage(spec, provider, threads, profiles[k] if profiles else None)
                       for k, spec in enumerate(stages)]
        self.source = Buffer(self.stages[0].input.shape, provider)
        self.batch = self.source.array.shape[0] if self.source.array.ndim else 1
        buffer = self.source
        for k, stage in enumerate(self.stages):
            buffer = stage.connect(buffer, k == 0)
        self.result = buffer
        self.copied_ns = 0                  # by the last inference, to and from the GPU
        self.fed = None

    def feed(self, samples, start=0):
        """The batch that begins at sample `start`, from the beginning again where the samples end."""
        picked = samples[[(start + k) % len(samples) for k in range(self.batch)]]
        if picked.shape != self.source.array.shape:
            raise SystemExit(f"inputs have shape {list(picked.shape[1:])}, but {self.stages[0].file} takes "
                             f"{list(self.source.array.shape[1:])}")
        self.fed = np.ascontiguousarray(picked, np.float32)
        self.source.put(self.fed)

    def run(self):
        for stage in self.stages:
            stage.run()

    def infer(self):
        """One inference as an application has it: on a GPU the input is copied there and the output back."""
        if self.source.on_host:
            self.run()
            return
        a = now_ns()
        self.source.put(self.fed)
        b = now_ns()
        self.run()
        c = now_ns()
        self.result.get()
        self.copied_ns = b - a + now_ns() - c

    def outputs(self, samples, count, told=None):
        """(count, *output) of the first samples."""
        found = []
        for start in range(0, count, self.batch):
            self.feed(samples, start)
            self.run()
            found.extend(self.result.get())
            if told:
                told(min(len(found), count), count)
        return np.stack(found[:count])


def version():
    parts = ort.__version__.split(".")
    return int(parts[0]), int(parts[1])


def _ranges(lines):
    for line in lines:
        low, high = line.split(None, 1)[0].split("-")
        yield int(low, 16), int(high, 16)


def resident():
    """Resident bytes of this program's own memory, {"rss", "anonymous"}: see tflite.py, which counts the same."""
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


def memory_pass(job, provider, samples):
    """Resident memory before loading, once loaded, and after the first inference."""
    before = resident()
    chain = Chain(job["stages"], provider, job["threads"])
    loaded = resident()
    chain.feed(samples)
    chain.run()
    return chain, {"before": before, "loaded": loaded, "invoked": resident(), "peak_rss": peak_rss()}


def outputs_pass(chain, samples, out):
    """Every golden input through the chain."""
    values = chain.outputs(samples, len(samples), lambda k, n: say(f"inference {k} of {n}"))
    np.save(os.path.join(out, "raw_outputs.npy"), values)
    np.save(os.path.join(out, "outputs.npy"), values)
    return {"n": len(samples), "dtype": str(values.dtype)}


class Clock:
    """Times of one chain's inferences, every `every`-th kept, so that fast networks do not leave a million."""

    def __init__(self, chain, duration_ns):
        a = now_ns()
        chain.infer()
        self.expected_ns = max(1, now_ns() - a)
        self.every = max(1, int(duration_ns / self.expected_ns / MOST_SAMPLES))
        self.chain = chain
        self.samples, self.copies = [], []
        self.done = self.spent = 0

    def block(self, duration_ns, again):
        """Inferences for a while; `again`: one more before, untimed, since another chain used the caches."""
        if again and 4 * self.expected_ns < duration_ns:
            self.chain.infer()
        started = now_ns()
        spent = 0
        while spent < duration_ns:
            a = now_ns()
            self.chain.infer()
            b = now_ns()
            if self.done % self.every == 0:
                self.samples.append(b - a)
                self.copies.append(self.chain.copied_ns)
            self.done += 1
            spent = b - started
        self.spent += spent

    def finished(self, iterations, duration_ns):
        return len(self.samples) >= iterations and self.spent >= duration_ns

    def told(self):
        found = {"ns": self.samples, "every": self.every}
        if any(self.copies):
            found["copied_ns"] = self.copies
        return found


def timed(chains, iterations, duration_ns):
    """Every chain's times: they take turns, so that a clock that changes changes for all."""
    clocks = [Clock(chain, duration_ns) for chain in chains]
    while not all(c.finished(iterations, duration_ns) for c in clocks):
        for clock in clocks:
            clock.block(max(1, duration_ns // BLOCKS), len(clocks) > 1)
    return [clock.told() for clock in clocks]


def variant_chains(job, provider, samples):
    """[(what a variant is, its chain or None)]; one that cannot be loaded or run says why."""
    found = []
    for k, variant in enumerate(job["variants"]):
        entry = {"name": variant["name"]}
        chain = None
        try:
            chain = Chain(variant["stages"], provider, job["threads"])
            values = chain.outputs(samples, min(COMPARED, len(samples)))
            np.save(os.path.join(job["out"], f"variant-{k}.npy"), values)
        except (Exception, SystemExit) as e:
            chain, entry["error"] = None, one_line(e)
        found.append((entry, chain))
    return found


def latency_pass(chain, samples, job, provider):
    variants = variant_chains(job, provider, samples)
    chains = [chain] + [c for _, c in variants if c]
    for one in chains:
        one.feed(samples)
        for _ in range(job["warmup"]):
            one.infer()
    say("timing")
    found = timed(chains, job["iterations"], int(job["duration_s"] * 1e9))
    times = iter(found[1:])
    for entry, one in variants:
        if one:
            entry.update(next(times))
    return dict(found[0], batch=chain.batch, variants=[entry for entry, _ in variants])


def power_pass(chain, samples, job):
    """The network again and again beside the board's sensors, after a while of nothing; or why not.

    power.jsonl has the readings, and the two stretches as the windows "idle" and "timed".
    """
    try:
        import sense
    except ModuleNotFoundError:
        return {"problem": "sense.py, which reads the sensors, does not lie beside the payload"}
    recorder = sense.Recorder(os.path.join(job["out"], "power.jsonl"))
    if not recorder.start():
        return {"problem": recorder.problem}
    start = time.monotonic()
    time.sleep(IDLE_S)
    recorder.window("idle", start, time.monotonic())
    chain.feed(samples)
    for _ in range(job["warmup"]):
        chain.infer()
    count, start = 0, time.monotonic()
    while time.monotonic() - start < max(IDLE_S, job["duration_s"]) or count < job["iterations"]:
        chain.infer()
        count += 1
    recorder.window("timed", start, time.monotonic(), count * chain.batch)
    recorder.stop()
    return {"problem": recorder.problem}


def profile(job, samples):
    """In a process of its own: a profile of every stage, over some inferences, in profile-<stage>.json.

    CUDA graphs are off, since a replayed one has no nodes, and every launch is waited for (CUDA_LAUNCH_BLOCKING),
    since a node's time would otherwise be that of its launch alone.
    """
    provider = Provider(job["providers"], graphs=False)
    prefixes = [os.path.join(job["out"], f"raw-profile-{k}") for k in range(len(job["stages"]))]
    chain = Chain(job["stages"], provider, job["threads"], prefixes)
    chain.feed(samples)
    for _ in range(PROFILE_WARMUP + PROFILE_RUNS):
        chain.infer()
    stages = []
    for k, stage in enumerate(chain.stages):
        started = getattr(stage.session, "get_profiling_start_time_ns", lambda: None)()
        name = f"profile-{k}.json"
        os.replace(stage.session.end_profiling(), os.path.join(job["out"], name))
        stages.append({"profile": name, "started_ns": started})
    return {"stages": stages, "warmup": PROFILE_WARMUP, "runs": PROFILE_RUNS}


def operators_pass(job_file, job):
    environment = dict(os.environ, CUDA_LAUNCH_BLOCKING="1")
    code = subprocess.call([sys.executable, os.path.abspath(__file__), job_file, "operators"], env=environment)
    if code:
        raise SystemExit(f"the profiled run ended with code {code}")
    with open(os.path.join(job["out"], "operators.json")) as f:
        return json.load(f)


def write_json(job, name, value):
    path = os.path.join(job["out"], name)
    with open(path + ".new", "w") as f:
        json.dump(value, f)
    os.replace(path + ".new", path)


def run(job_file, job, result):
    samples = np.load(job["inputs"], allow_pickle=False)
    provider = Provider(job["providers"])
    provider.check()
    done = result["passes"]
    gc.disable()                            # no collection inside a timed region
    chain = None
    for name in [p for p in PASSES if p in job["passes"]]:
        say(name)
        if chain is None and name in ("outputs", "latency", "power"):
            chain = Chain(job["stages"], provider, job["threads"])
        if name == "memory":
            chain, done[name] = memory_pass(job, provider, samples)
        elif name == "outputs":
            done[name] = outputs_pass(chain, samples, job["out"])
        elif name == "latency":
            done[name] = latency_pass(chain, samples, job, provider)
        elif name == "power":
            done[name] = power_pass(chain, samples, job)
        else:
            chain = None                    # a small board has no memory for two
            done[name] = operators_pass(job_file, job)
        write_json(job, "result.json", result)


def main(job_file, only=None):
    with open(job_file) as f:
        job = json.load(f)
    unknown = set(job["passes"]) - set(PASSES)
    if unknown:
        raise SystemExit(f"unknown passes: {sorted(unknown)}")
    if only == "operators":
        write_json(job, "operators.json", profile(job, np.load(job["inputs"], allow_pickle=False)))
        return 0
    result = {"runtime": "onnxruntime", "runtime_version": ort.__version__, "numpy": np.__version__,
              "python": platform.python_version(), "machine": platform.machine(), "passes": {}}
    try:
        run(job_file, job, result)
    except Refused as e:
        result["refused"] = e.record
        write_json(job, "result.json", result)
        print(one_line(e), flush=True)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
