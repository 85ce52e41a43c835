"""Runs ON the board: builds a plan's engines with its own TensorRT, runs them and writes down what it saw.

    python3 tensorrt.py JOB.json

Standard library, Python 3.6 or newer, and trtexec. It interprets only what it needs to go on. The job is

    plan          file: what hwkit.gpu.plan.BoardPlan describes
    artifact      folder that holds the plan's ONNX files
    inputs        .npy, float32, (n, *input without batch)
    passes        of "build", "outputs", "latency", "operators"; done in this order, "build" in any case
    samples       how many inputs to compute an output of
    warmup_ms, duration_s, iterations   of the timed and of the profiled run
    idle_s        how long to record the idle board before a network is timed; 0 records no power. Power is
                  recorded of forms that are one engine: of several, each is timed alone
    engines       folder for engines and timing caches, kept from run to run
    prebuilt      {name of an engine: file}: engines brought along; one that is not for this board ends the run
    trtexec       the program, "" to look for it
    out           folder for result.json and every file and log that trtexec writes

result.json is rewritten after every pass, so that a crash in a later one loses nothing. A run that cannot go on
ends with exit code 3 and "refused" in result.json; a form that is only compared is then in "left_out" instead.
"""

import ast
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

try:
    import sense  # lies beside this file where power is to be recorded
except ImportError:
    sense = None

PASSES = ("build", "outputs", "latency", "operators")
REFUSED = 3                                 # exit code
PLACES = ("/usr/src/tensorrt/bin", "/usr/local/tensorrt/bin", "/opt/tensorrt/bin")
SYSTEM = ("/usr/bin", "/usr/sbin")
HEARTBEAT_S = 15.0
NVPMODEL_S = 20.0
MOST_RUNS = 64                              # of trtexec in the pass "outputs": each loads an engine
BLOCK = 2 ** 20
ERRORS = 3                                  # lines of a failed run that are told
STARTED, ENDED = b"Starting inference", b"Timing trace has"


class Refused(Exception):
    """Why the run cannot go on.

    kind   "missing": no trtexec; "version": too old a one; "engine": an engine of another board; "build", "run":
           trtexec failed; "timeout"; "input": the job's own files
    """

    def __init__(self, kind, what, text):
        Exception.__init__(self, what + ": " + text)
        self.record = {"kind": kind, "what": what, "text": one_line(text)}


def one_line(text):
    return " ".join(str(text).split())[:400]


def say(text):
    print("progress: " + text, flush=True)


def read_json(path):
    """The JSON in a file; None where it is none."""
    try:
        with open(path, "rb") as f:
            return json.loads(f.read().decode())
    except (OSError, ValueError):
        return None


def write_file(path, data):
    """Whole or not at all."""
    with open(path + ".new", "wb") as f:
        f.write(data)
    os.replace(path + ".new", path)


def write_json(path, value):
    write_file(path, json.dumps(value, sort_keys=True).encode())


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


# ---- running trtexec

class Watch(threading.Thread):
    """Ends a process and all it started when its time is up, and tells now and then that it still runs."""

    def __init__(self, child, what, timeout_s):
        threading.Thread.__init__(self, daemon=True)
        self.child, self.what, self.timeout_s = child, what, timeout_s
        self.over, self.late = threading.Event(), False

    def run(self):
        started = time.monotonic()
        while True:
            left = self.timeout_s - (time.monotonic() - started)
            if self.over.wait(max(0.0, min(left, HEARTBEAT_S))):
                return
            if left <= HEARTBEAT_S:
                self.late = True
                end_group(self.child)
                return
            say(f"{self.what}, {time.monotonic() - started:.0f} s")


def end_group(child):
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)


def execute(words, log, cwd, what, timeout_s):
    """Run it with its output in the file `log`: {"exit", "late", "marks"}.

    marks   moments (time.monotonic()) at which it printed that inference started and ended
    """
    marks = {}
    try:
        child = subprocess.Popen(words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as e:
        raise Refused("missing", words[0], str(e)) from None
    watch = Watch(child, what, timeout_s)
    watch.start()
    try:
        with open(log, "wb") as f:
            for line in iter(child.stdout.readline, b""):
                for mark in (STARTED, ENDED):
                    if mark in line:
                        marks.setdefault(mark, time.monotonic())
                f.write(line)
        child.wait()
    finally:
        watch.over.set()
        if child.poll() is None:            # whatever ends this program ends that one too
            end_group(child)
        child.wait()
        child.stdout.close()
        watch.join()
    return {"exit": child.returncode, "late": watch.late, "marks": marks}


def read_text(path):
    with open(path, "rb") as f:
        return f.read().decode("utf-8", "replace")


def errors(text):
    """The last errors that trtexec printed."""
    found = re.findall(r"\[E\] *(?:\[TRT\] *)?(.+)", text)
    lines = [line for line in text.splitlines() if line.strip()]
    return "; ".join(found[-ERRORS:] if found else lines[-1:]) or "it printed nothing"


class Board:
    """This board's trtexec, and the commands of the plan for it."""

    def __init__(self, plan, job):
        self.plan, self.job, self.out = plan, job, os.path.abspath(job["out"])
        self.commands = []                  # all that was run
        self.trtexec = self._find(job["trtexec"])
        log = self.path("probe.log")
        # a name that is free, in the folder that is ours
        self._execute(plan["probe"], log, {"engine": self.path("no such.engine")}, "asking trtexec")
        text = read_text(log)
        self.version = tensorrt_version(text)
        if not self.version:
            raise Refused("run", self.trtexec, "it does not tell its version: " + errors(text))
        self.gpu = gpu(text)
        if not self.gpu:
            raise Refused("run", self.trtexec, "it does not find a GPU: " + errors(text))
        at = [int(part) for part in self.version.split(".")]
        fitting = [f for f in plan["families"] if list(f["since"]) <= at[:2]]
        if not fitting:
            raise Refused("version", "TensorRT " + self.version, "is older than any the plan is for")
        self.family = fitting[-1]

    def _find(self, given):
        found = given or shutil.which("trtexec", path=os.pathsep.join([os.environ.get("PATH", ""), *PLACES]))
        if not found or not os.access(found, os.X_OK):
            raise Refused("missing", given or "trtexec", f"is not installed; TensorRT has it in {PLACES[0]}")
        return os.path.abspath(found)

    def path(self, name):
        return os.path.join(self.out, name)

    def _execute(self, command, log, words, what):
        known = dict(words, trtexec=self.trtexec, workspace_mib=self.plan["workspace_mib"])
        filled = []
        for word in command["argv"]:
            for name, value in known.items():
                word = word.replace("{" + name + "}", str(value))
            filled.append(word)
        self.commands.append(filled)
        return execute(filled, log, self.out, what, command["timeout_s"])

    def run(self, command, log, words, what, kind="run"):
        """One command of the plan, its output in `log`. Refused where it fails. The moments of its inference."""
        done = self._execute(command, log, words, what)
        if done["late"]:
            raise Refused("timeout", what, f"ended after {command['timeout_s']:g} s; see {os.path.basename(log)}")
        if done["exit"] != 0:
            raise Refused(kind, what, errors(read_text(log)))
        return done["marks"]


def tensorrt_version(text):
    """"10.3.0": see hwkit.gpu.trtexec.version."""
    told = re.search(r"\[TensorRT v(\d{4,6})\]", text)
    if told:
        number, minors = int(told.group(1)), 10 if len(told.group(1)) == 4 else 100
        return f"{number // (100 * minors)}.{number // 100 % minors}.{number % 100}"
    found = re.findall(r"TensorRT v(?:ersion: )?(\d+\.\d+\.\d+)", text)
    return found[-1] if found else ""


def gpu(text):
    """{"name", "sm", "multiprocessors"} of the GPU that trtexec selected; None without one."""
    name = re.findall(r"Selected Device: +(.+)", text)
    sm = re.findall(r"Compute Capability: +(\d+\.\d+)", text)
    cores = re.findall(r"\] SMs: +(\d{1,6})\b", text)
    if not name or not sm:
        return None
    return {"name": name[-1].strip(), "sm": sm[-1], "multiprocessors": int(cores[-1]) if cores else None}


# ---- engines: the same as hwkit/gpu/engine.py

WANTED = ("model_sha256", "flags", "gpu", "sm", "multiprocessors", "tensorrt")


def wanted_engine(board, engine):
    argv = board.family["build"][engine["precision"]]["argv"]
    paths = ("{trtexec}", "{onnx}", "{engine}", "{timing_cache}")
    flags = [word.replace("{workspace_mib}", str(board.plan["workspace_mib"])) for word in argv
             if not any(path in word for path in paths)]
    return {"model_sha256": engine["sha256"], "flags": flags, "gpu": board.gpu["name"], "sm": board.gpu["sm"],
            "multiprocessors": board.gpu["multiprocessors"], "tensorrt": board.version}


def platform_name(wanted):
    name = re.sub(r"[^a-z0-9]+", "-", wanted["gpu"].lower()).strip("-") or "gpu"
    cores = f"x{wanted['multiprocessors']}" if wanted["multiprocessors"] else ""
    return f"{name}-sm{wanted['sm'].replace('.', '')}{cores}.trt{wanted['tensorrt']}"


def engine_name(name, wanted):
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    return f"{name}.{platform_name(wanted)}.{digest[:12]}.engine"


def refusal(sidecar, wanted, engine_sha256=None):
    """Why the engine that `sidecar` describes may not be loaded, in one line; None where it may."""
    kinds = dict.fromkeys((*WANTED, "engine_sha256"), str)
    kinds.update(flags=list, multiprocessors=(int, type(None)))
    if not isinstance(sidecar, dict) or not all(isinstance(sidecar.get(k, ()), kinds[k]) for k in kinds):
        return "there is no readable description beside it"
    if sidecar["gpu"] != wanted["gpu"]:
        return f"it was built on {sidecar['gpu']}, this GPU is {wanted['gpu']}"
    if sidecar["sm"] != wanted["sm"]:
        return f"it was built for SM {sidecar['sm']}, this GPU has SM {wanted['sm']}"
    if sidecar["multiprocessors"] != wanted["multiprocessors"]:
        return (f"it was built on a GPU with {sidecar['multiprocessors']} multiprocessors, "
                f"this one has {wanted['multiprocessors']}")
    if sidecar["tensorrt"] != wanted["tensorrt"]:
        return f"it was built by TensorRT {sidecar['tensorrt']}, this is {wanted['tensorrt']}"
    if sidecar["model_sha256"] != wanted["model_sha256"]:
        return "it was built from another ONNX file"
    if sidecar["flags"] != wanted["flags"]:
        return f"it was built with {' '.join(map(str, sidecar['flags']))}, not {' '.join(wanted['flags'])}"
    if engine_sha256 not in (None, sidecar["engine_sha256"]):
        return "the file is damaged: it is not the one that was built"
    return None


def why_not(path, wanted):
    """Why the engine in a file may not be loaded; None where it may."""
    if not os.path.isfile(path):
        return "there is none"
    told = read_json(path + ".json")
    return refusal(told, wanted) or refusal(told, wanted, sha256(path))


def obtained(board, engine):
    """The engine as a file for this board, built where there is none: what result.json tells of it."""
    name, wanted = engine["name"], wanted_engine(board, engine)
    given = board.job["prebuilt"].get(name)
    if given:
        why = why_not(given, wanted)
        if why:
            raise Refused("engine", given, "is refused: " + why)
        return {"engine": os.path.abspath(given), "reused": True, "bytes": os.path.getsize(given)}
    onnx = os.path.abspath(os.path.join(board.job["artifact"], engine["file"]))
    if not os.path.isfile(onnx) or sha256(onnx) != engine["sha256"]:
        raise Refused("input", engine["file"], "is missing or not the file that the plan is for")
    path = os.path.abspath(os.path.join(board.job["engines"], engine_name(name, wanted)))
    why = why_not(path, wanted)
    if why is None:
        return {"engine": path, "reused": True, "bytes": os.path.getsize(path)}
    say("building " + name)
    log, new, started = board.path(name + ".build.log"), path + ".new", time.monotonic()
    cache = os.path.join(os.path.dirname(path), platform_name(wanted) + ".timing.cache")
    board.run(board.family["build"][engine["precision"]], log,
              {"onnx": onnx, "engine": new, "timing_cache": cache}, "building " + name, "build")
    if not os.path.isfile(new) or not os.path.getsize(new):
        raise Refused("build", "building " + name, "trtexec ended well but wrote no engine")
    size = os.path.getsize(new)
    # an engine without its description is built again, so the description comes last
    told = dict(wanted, schema_version=1, engine_sha256=sha256(new), engine_bytes=size)
    os.replace(new, path)
    write_json(path + ".json", told)
    return {"engine": path, "reused": False, "why": why, "bytes": size, "log": os.path.basename(log),
            "seconds": time.monotonic() - started}


# ---- passes

class Samples:
    """The float32 values of a .npy file, row by row, without numpy."""

    def __init__(self, path):
        try:
            with open(path, "rb") as f:
                self.shape, offset = self._head(f)
                f.seek(offset)
                self.data = f.read()
        except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error, MemoryError,
                RecursionError) as e:
            raise Refused("input", path, "is no float32 .npy file: " + one_line(e)) from None
        self.row = 4
        for n in self.shape[1:]:
            self.row *= n
        if len(self.shape) < 2 or self.shape[0] < 1 or len(self.data) != self.row * self.shape[0]:
            raise Refused("input", path, "does not hold whole samples")

    @staticmethod
    def _head(f):
        magic = f.read(8)
        if magic[:6] != b"\x93NUMPY":
            raise ValueError("it does not begin as one")
        wide = magic[6] > 1
        size, = struct.unpack("<I" if wide else "<H", f.read(4 if wide else 2))
        head = ast.literal_eval(f.read(size).decode())
        if head["descr"] != "<f4" or head["fortran_order"]:
            raise ValueError("its values are " + str(head["descr"]))
        if not all(isinstance(n, int) and n > 0 for n in head["shape"]):
            raise ValueError("its shape is " + str(head["shape"]))
        return tuple(head["shape"]), f.tell()

    def batch(self, start, size):
        """Raw values of `size` samples from `start` on, from the beginning again where they end."""
        picked = [(start + k) % self.shape[0] for k in range(size)]
        return b"".join(self.data[k * self.row:(k + 1) * self.row] for k in picked)


def npy(values, shape):
    """A .npy file of float32 values."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + values


# nan and inf, which trtexec prints bare
BARE = re.compile(r"(?<=[\s:,\[])(-?)(nan|inf)(?=[\s,\]}])")


def exported(path):
    """(shape, raw float32 values) of the output that trtexec exported."""
    try:
        listed = json.loads(BARE.sub(lambda m: "NaN" if m.group(2) == "nan" else m.group(1) + "Infinity",
                                     read_text(path)))
        one = next((row for row in listed if row["name"] == "y"), listed[0])
        shape = [int(n) for n in re.findall(r"\d+", one["dimensions"])]
        count = 1
        for n in shape:
            count *= n
        if count != len(one["values"]):
            raise ValueError(f"{len(one['values'])} values for the shape {shape}")
        return shape, struct.pack(f"<{count}f", *one["values"])
    except (OSError, ValueError, LookupError, TypeError, OverflowError, struct.error, RecursionError) as e:
        raise Refused("run", os.path.basename(path), f"is no output as trtexec exports it: {e}") from None


def volume(shape):
    count = 1
    for n in shape:
        count *= n
    return count


def once(board, engine, path, x, t):
    """The output of an engine for the raw input `x`, and for `t` where it takes the time."""
    inputs = [("x", x)] if t is None else [("x", x), ("t", struct.pack("<f", t))]
    files = []                              # no ',' or ':' in these names: trtexec splits at them
    for name, data in inputs:
        shape = engine["inputs"][name]
        if len(data) != 4 * volume(shape):
            raise Refused("input", engine["name"], f"takes {name} of shape {shape}, not {len(data) // 4} values")
        raw = f"{engine['name']}.{name}.raw"
        write_file(board.path(raw), data)
        files.append(f"{name}:{raw}")
    output = engine["name"] + ".output.json"
    board.run(board.family["output"], board.path(engine["name"] + ".output.log"),
              {"engine": path, "output": output, "inputs": ",".join(files)},
              "computing with " + engine["name"])
    return exported(board.path(output))


def outputs_pass(board, chain, paths, samples, name):
    """Outputs of the first samples through the engines of a form, from file to file."""
    batch = chain[0]["inputs"]["x"][0]
    held, taken = list(samples.shape[1:]), list(chain[0]["inputs"]["x"][1:])
    if held != taken:
        raise Refused("input", board.job["inputs"], f"has samples of {held}, but {chain[0]['name']} takes {taken}")
    calls = sum(engine["repeat"] for engine in chain)
    count = max(1, min(board.job["samples"], samples.shape[0], batch * max(1, MOST_RUNS // calls)))
    values, shape = b"", []
    for start in range(0, count, batch):
        x = samples.batch(start, batch)
        for engine in chain:
            for step in range(engine["repeat"]):
                shape, x = once(board, engine, paths[engine["name"]], x,
                                engine["times"][step] if engine["times"] is not None else None)
        values += x
        say(f"inference {min(start + batch, count)} of {count}")
    row = 4 * volume(shape[1:])
    write_file(board.path(name), npy(values[:count * row], [count, *shape[1:]]))
    return {"file": name, "n": count}


def latency_pass(board, engine, path, alone):
    """One engine timed; power recorded beside it where it is the whole network."""
    name, job = engine["name"], board.job
    found = {"times": name + ".times.json", "log": name + ".time.log", "power": None, "power_problem": ""}
    recorder = None
    if not alone:
        found["power_problem"] = "it is one of several engines"
    elif job["idle_s"] > 0 and sense is None:
        found["power_problem"] = "sense.py does not lie beside the program"
    elif job["idle_s"] > 0:
        recorder = sense.Recorder(board.path(name + ".power.jsonl"))
    try:
        if recorder and recorder.start():
            found["power"] = name + ".power.jsonl"
            say("idle, for its power")
            begun = time.monotonic()
            time.sleep(job["idle_s"])
            recorder.window("idle", begun, time.monotonic(), 0)
        say("timing " + name)
        marks = board.run(board.family["time"], board.path(found["log"]),
                          dict(lengths(job), engine=path, times=found["times"]), "timing " + name)
        found["window"] = window(marks, read_text(board.path(found["log"])))
        if recorder and found["window"]:
            recorder.window("timed", *found["window"])
    finally:
        if recorder:
            recorder.stop()
            found["power_problem"] = recorder.problem
    return found


def lengths(job):
    return {"warmup_ms": job["warmup_ms"], "duration_s": job["duration_s"], "iterations": job["iterations"]}


def window(marks, log):
    """[start, end, inferences] of the timed inferences on time.monotonic(); None where they cannot be told.

    The end is when trtexec said that it was done; how long the timed ones took, it says itself.
    """
    told = re.search(r"Timing trace has (\d+) queries over ([\d.e+-]+) s", log)
    if not told or ENDED not in marks or STARTED not in marks:
        return None
    end = marks[ENDED]
    return [max(marks[STARTED], end - float(told.group(2))), end, int(told.group(1))]


def operators_pass(board, engine, path, alone):
    """One engine timed layer by layer."""
    name = engine["name"]
    found = {"profile": name + ".profile.json", "layers": name + ".layers.json", "log": name + ".profile.log"}
    what = f"timing {name} layer by layer"
    say(what)
    board.run(board.family["profile"], board.path(found["log"]),
              dict(lengths(board.job), engine=path, profile=found["profile"], layers=found["layers"]), what)
    return found


def nvpmodel():
    """What nvpmodel prints of the power mode; None where it is not installed."""
    path = shutil.which("nvpmodel", path=os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM]))
    if not path:
        return None
    try:
        done = subprocess.run([path, "-q"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=NVPMODEL_S)
        return done.stdout.decode("utf-8", "replace")
    except (OSError, subprocess.SubprocessError) as e:
        return one_line(e)


def forms_of(plan):
    """[(form, its chain of engines)], what is deployed first."""
    forms = []
    for engine in plan["engines"]:
        if not forms or forms[-1][0] != engine["form"]:
            forms.append((engine["form"], []))
        forms[-1][1].append(engine)
    return forms


def work(job, result):
    """All passes over all forms. A form that is only compared is left out where it fails."""
    plan = read_json(job["plan"])
    if not isinstance(plan, dict) or plan.get("schema_version") != 1:
        raise Refused("input", job["plan"], "is no plan that this program knows")
    board = Board(plan, job)
    result.update(trtexec=board.trtexec, runtime_version=board.version, gpu=board.gpu, family=board.family["name"],
                  commands=board.commands)
    paths, forms, samples = {}, forms_of(plan), None

    def build(number, chain):
        for engine in chain:
            told = obtained(board, engine)
            paths[engine["name"]] = told["engine"]
            result["passes"].setdefault("build", {})[engine["name"]] = told

    def outputs(number, chain):
        name = f"outputs-{number}.npy" if number else "outputs.npy"
        result["passes"].setdefault("outputs", {})[chain[0]["form"]] = outputs_pass(
            board, chain, paths, samples, name)

    def each(one, name):
        def all_of(number, chain):
            for engine in chain:
                told = one(board, engine, paths[engine["name"]], len(chain) == 1)
                result["passes"].setdefault(name, {})[engine["name"]] = told
        return all_of

    steps = {"build": build, "outputs": outputs, "latency": each(latency_pass, "latency"),
             "operators": each(operators_pass, "operators")}
    for name in PASSES:
        if name != "build" and name not in job["passes"]:
            continue
        say(name)
        if name == "outputs":
            samples = Samples(job["inputs"])
        for number, (form, chain) in enumerate(forms):
            if form in result["left_out"]:
                continue
            try:
                steps[name](number, chain)
            except Refused as e:
                if number == 0 or e.record["kind"] in ("engine", "input"):
                    raise
                result["left_out"][form] = e.record
        write_json(os.path.join(job["out"], "result.json"), result)


def main(job_file):
    with open(job_file) as f:
        job = json.load(f)
    job["engines"] = os.path.expanduser(job["engines"])
    unknown = set(job["passes"]) - set(PASSES)
    if unknown:
        raise SystemExit(f"unknown passes: {sorted(unknown)}")
    for folder in (job["out"], job["engines"]):
        os.makedirs(folder, exist_ok=True)
    result = {"runtime": "tensorrt", "python": platform.python_version(), "machine": platform.machine(),
              "nvpmodel": nvpmodel(), "passes": {}, "left_out": {}}
    try:
        work(job, result)
    except Refused as e:
        result["refused"] = e.record
        write_json(os.path.join(job["out"], "result.json"), result)
        print(one_line(e), file=sys.stderr)
        return REFUSED
    return 0


def ended(number, frame):
    """The connection broke or we are told to stop: leave through every finally, so that trtexec ends too."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, ended)
    sys.exit(main(sys.argv[1]))
