"""trtexec, TensorRT's command-line program: what it takes in each version, and what it writes.

What it takes was read in samples/common/sampleOptions.cpp of NVIDIA/TensorRT at the releases 8.2, 8.4, 8.6, a late
10, 11.0 and 11.1; what it writes in sampleReporting.cpp beside it, in samples/trtexec/trtexec.cpp and in the files
of tools/experimental/trt-engine-explorer. An option of another version ends it at once.

Every export is JSON that is printed, not encoded: six significant digits, `nan` and `inf` bare. Keys come and go
between versions, so unknown ones are passed over. Whatever is no such file is a BoardError of one line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from hwkit.describe import Frozen
from hwkit.errors import BadInput, BoardError

Precision = Literal["f32", "f16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
MS, MIB = 1e-3, 2 ** 20
LARGEST = 1e15          # more is no figure of a run
AGAIN = "run it again; the file may have been cut off"


# ---- what it takes ----------------------------------------------------------------------------------------------

class Family(Frozen):
    """Versions of trtexec that take the same options.

    since        the first of them; a family ends where the next begins
    build        how to stop after the build, and how much memory its tactics may take
    precision    options of the build: float32 as it stands, which Ampere and later GPUs multiply in TF32; a file
                 whose tensors are float16; a file with QuantizeLinear and DequantizeLinear, the rest of which may
                 run in half precision. With strong typing the types of the file decide and no option is needed
    run          of every run: copies to and from the GPU included, the host not spinning while it waits
    timed        of the timed run: one launch an inference, of a captured CUDA graph
    profiled     of the profiled run: layers launched one by one
    """

    name: str
    since: tuple[int, int]
    build: tuple[str, ...]
    precision: dict[Precision, tuple[str, ...]]
    run: tuple[str, ...] = ()
    timed: tuple[str, ...] = ("--useCudaGraph",)
    profiled: tuple[str, ...] = ()


_POOL = "--memPoolSize=workspace:{workspace_mib}"
_WEAK: dict[Precision, tuple[str, ...]] = {"f32": (), "f16": ("--fp16",), "int8": ("--int8", "--fp16")}

FAMILIES = (
    Family(name="8.2", since=(8, 2), build=("--buildOnly", "--workspace={workspace_mib}"), precision=_WEAK),
    Family(name="8.4", since=(8, 4), build=("--buildOnly", _POOL), precision=_WEAK),
    Family(name="8.6", since=(8, 6), build=("--skipInference", _POOL), precision=_WEAK),
    Family(name="10", since=(10, 0), build=("--skipInference", _POOL),
           precision={**_WEAK, "f16": ("--stronglyTyped",)}),
    # copies are left out, the host spins and CUDA graphs are captured unless told otherwise
    Family(name="11", since=(11, 0), build=("--skipInference", _POOL),
           precision={"f32": (), "f16": (), "int8": ()},
           run=("--includeDataTransfers", "--noSpinWait"), timed=(), profiled=("--noCudaGraph",)),
)


def numbers(version: str) -> tuple[int, ...]:
    """"10.3.0" -> (10, 3, 0). Raises BadInput."""
    if not re.fullmatch(r"\d{1,4}(\.\d{1,6}){1,3}", version):
        raise BadInput(f"{version!r} is no version of TensorRT")
    return tuple(int(part) for part in version.split("."))


def family(version: str) -> Family:
    """The family of a version. Raises BadInput for one that is too old."""
    at = numbers(version)
    fitting = [f for f in FAMILIES if f.since <= at[:2]]
    if not fitting:
        raise BadInput(f"TensorRT {version} is older than {FAMILIES[0].name}, whose trtexec cannot export layers",
                       "update the board's JetPack to 4.6.1 or later")
    return fitting[-1]


# Words in braces are filled in on the board: see hwkit.gpu.plan.BoardPlan.

def probe_words() -> tuple[str, ...]:
    """Names the version and the GPU, then fails: {engine} is a file that does not exist."""
    return "{trtexec}", "--loadEngine={engine}"


def build_words(family: Family, precision: Precision) -> tuple[str, ...]:
    """Builds {engine} from {onnx}; what is learnt of tactics is kept in {timing_cache}."""
    return ("{trtexec}", "--onnx={onnx}", "--saveEngine={engine}", "--timingCacheFile={timing_cache}",
            "--profilingVerbosity=detailed", *family.build, *family.precision[precision])


def time_words(family: Family) -> tuple[str, ...]:
    """Times {engine} and writes a row an inference into {times}."""
    return ("{trtexec}", "--loadEngine={engine}", *family.run, *family.timed, *_LENGTH, "--avgRuns=100",
            "--exportTimes={times}")


def profile_words(family: Family) -> tuple[str, ...]:
    """Times every layer of {engine} into {profile}, which slows it down, and describes them in {layers}."""
    return ("{trtexec}", "--loadEngine={engine}", *family.run, *family.profiled, *_LENGTH,
            "--exportProfile={profile}", "--exportLayerInfo={layers}")


def output_words(family: Family) -> tuple[str, ...]:
    """Runs {engine} once on the raw values of {inputs} ("x:FILE,t:FILE") and writes {output}."""
    return ("{trtexec}", "--loadEngine={engine}", *family.run, "--warmUp=0", "--duration=0", "--iterations=1",
            "--avgRuns=1", "--loadInputs={inputs}", "--exportOutput={output}")


_LENGTH = ("--warmUp={warmup_ms}", "--duration={duration_s}", "--iterations={iterations}")


# ---- what it writes ---------------------------------------------------------------------------------------------

class Device(Frozen):
    """A GPU, as far as an engine depends on it.

    sm               compute capability, "8.7"
    multiprocessors  boards of one name and SM may differ in them; None where that was not said
    """

    name: str
    sm: str
    multiprocessors: int | None = None
    memory_bytes: int | None = None


class Log(Frozen):
    """What trtexec printed. None or "" for what it did not say.

    context_bytes   GPU memory of activations; only newer versions tell
    managed_bytes   GPU memory that TensorRT took once all was loaded, weights included; whole MiB
    queries         timed inferences
    errors          lines of severity E, without what precedes the text
    """

    version: str = ""
    device: Device | None = None
    passed: bool = False
    engine_bytes: int | None = None
    context_bytes: int | None = None
    managed_bytes: int | None = None
    build_s: float | None = None
    queries: int | None = None
    errors: tuple[str, ...] = ()


def log(text: str) -> Log:
    """What can be read in the output of a run, whole or not. Raises nothing."""
    name, sm = _last(r"Selected Device: +(.+)", text), _last(r"Compute Capability: +(\d+\.\d+)", text)
    memory = _mib(_last(r"Device Global Memory: +([\d.]+) MiB", text))
    cores, queries = _last(r"\] SMs: +(\d{1,6})\b", text), _last(r"Timing trace has (\d{1,12}) queries", text)
    device = Device(name=name, sm=sm, multiprocessors=int(cores) if cores else None, memory_bytes=memory)
    return Log(
        version=version(text), device=device if name and sm else None,
        passed=bool(re.search(r"^&&&& PASSED TensorRT\.trtexec", text, re.MULTILINE)),
        engine_bytes=_mib(_last(r"Created engine with size: +([\d.]+) MiB", text)
                          or _last(r"Loaded engine size: +([\d.]+) MiB", text)),
        context_bytes=_mib(_last(r"execution context with device memory size: +([\d.]+) MiB", text)),
        managed_bytes=_mib(_last(r"IExecutionContext creation: .*now: CPU \d+, GPU (\d+) \(MiB\)", text)),
        build_s=_float(_last(r"Engine built in +([\d.]+) sec", text)),
        queries=int(queries) if queries else None,
        errors=tuple(" ".join(m.split())[:300] for m in re.findall(r"\[E\] *(?:\[TRT\] *)?(.+)", text)))


def version(text: str) -> str:
    """"10.3.0" out of "[TensorRT v100300]" on the first line, or of "TensorRT version: 10.3.0"; "" without either.

    The banner is major, minor, patch in 1, 1 and 2 digits up to TensorRT 9, and in 2 digits each since.
    """
    told = re.search(r"\[TensorRT v(\d{4,6})\]", text)
    if told:
        number, minors = int(told[1]), 10 if len(told[1]) == len("8601") else 100
        return f"{number // (100 * minors)}.{number // 100 % minors}.{number % 100}"
    return _last(r"TensorRT v(?:ersion: )?(\d+\.\d+\.\d+)", text)


def _last(pattern: str, text: str) -> str:
    found = re.findall(pattern, text)
    return str(found[-1]).strip() if found else ""


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _mib(text: str) -> int | None:
    value = _float(text)
    return None if value is None else round(value * MIB)


class Times(Frozen):
    """Timed inferences in order, a value each, seconds.

    enqueue_s   on the host, to launch it; the difference of two moments of six digits: coarse late in a long run
    h2d_s, compute_s, d2h_s   on the GPU: input copied to it, kernels, output copied back
    latency_s   the sum of those three
    span_s      from the first to the last; inferences overlap in it
    """

    enqueue_s: tuple[float, ...]
    h2d_s: tuple[float, ...]
    compute_s: tuple[float, ...]
    d2h_s: tuple[float, ...]
    latency_s: tuple[float, ...]
    span_s: float


def times(text: str | bytes, what: str, warmup_ms: float = 0.0) -> Times:
    """The rows of --exportTimes that began to compute after the warm-up, which older versions export too.

    Raises BoardError.
    """
    keys = ("startEnqMs", "endEnqMs", "startH2dMs", "endD2hMs", "startComputeMs", "h2dMs", "computeMs", "d2hMs",
            "latencyMs")
    rows = [_numbers(row, keys, what) for row in _list(_json(text, what), what)]
    kept = [row for row in rows if row["startComputeMs"] >= warmup_ms]
    if not kept:
        raise BoardError(f"{what}: no inference was timed", "run it for longer")
    if any(row[key] < 0 for row in kept for key in keys[5:]):
        raise BoardError(f"{what}: a time is negative", AGAIN)

    def column(key: str) -> tuple[float, ...]:
        return tuple(row[key] * MS for row in kept)

    return Times(enqueue_s=tuple(max(0.0, row["endEnqMs"] - row["startEnqMs"]) * MS for row in kept),
                 h2d_s=column("h2dMs"), compute_s=column("computeMs"), d2h_s=column("d2hMs"),
                 latency_s=column("latencyMs"),
                 span_s=max(0.0, kept[-1]["endD2hMs"] - kept[0]["startH2dMs"]) * MS)


class LayerTime(Frozen):
    """What one layer costs in one inference: the median where the version tells it, else the mean."""

    name: str
    seconds: float


class Profile(Frozen):
    """--exportProfile: layers in order of execution, over `runs` inferences."""

    runs: int
    layers: tuple[LayerTime, ...]

    @property
    def seconds(self) -> float:
        return sum(layer.seconds for layer in self.layers)


def profile(text: str | bytes, what: str) -> Profile:
    """The layer times of --exportProfile. Raises BoardError."""
    runs, layers = None, []
    for row in _list(_json(text, what), what):
        name = row.get("name")
        if isinstance(name, str):
            cost = _numbers(row, ("medianMs",) if "medianMs" in row else ("averageMs",), what)
            layers.append(LayerTime(name=name, seconds=max(0.0, *cost.values()) * MS))
        elif "count" in row:
            runs = int(_numbers(row, ("count",), what)["count"])
    if not runs or not layers:
        raise BoardError(f"{what}: no layer was profiled", AGAIN)
    return Profile(runs=runs, layers=tuple(layers))


class LayerInfo(Frozen):
    """A layer of an engine. "" or () for what its version or verbosity does not tell.

    type        TensorRT's own: "CaskConvolution", "Reformat" ...
    origin      of a Reformat: "REFORMAT", "QDQ", "CAST" ...
    precision   what it computes in: that of its weights, else of its output
    output      precision of its first output
    nodes       of the ONNX file that went into it
    """

    name: str
    type: str = ""
    origin: str = ""
    precision: Literal["", "f32", "f16", "int8"] = ""
    output: Literal["", "f32", "f16", "int8"] = ""
    nodes: tuple[str, ...] = ()


def layers(text: str | bytes, what: str) -> tuple[LayerInfo, ...]:
    """The layers of --exportLayerInfo, detailed ones or names alone. Raises BoardError."""
    whole = _json(text, what)
    listed = whole.get("Layers") if isinstance(whole, dict) else None
    if not isinstance(listed, list) or not listed:
        raise BoardError(f"{what}: no layers are described", AGAIN)
    return tuple(_layer(one, what) for one in listed)


def _layer(told: Any, what: str) -> LayerInfo:
    if isinstance(told, str):
        return LayerInfo(name=told)
    name = told.get("Name") if isinstance(told, dict) else None
    if not isinstance(name, str):
        raise BoardError(f"{what}: a layer has no name", AGAIN)
    outputs, weights = told.get("Outputs"), told.get("Weights")
    first = outputs[0] if isinstance(outputs, list) and outputs else None
    output = _datatype(first.get("Format/Datatype") if isinstance(first, dict) else None)
    computed = _datatype(weights.get("Type") if isinstance(weights, dict) else None)
    nodes = re.findall(r"\[ONNX Layer: ([^\]]*)\]", _word(told, "Metadata"))
    return LayerInfo(name=name, type=_word(told, "LayerType"), origin=_word(told, "Origin"),
                     precision=computed or output, output=output, nodes=tuple(nodes))


def _word(told: Mapping[str, Any], key: str) -> str:
    value = told.get(key)
    return value if isinstance(value, str) else ""


def _datatype(told: object) -> Literal["", "f32", "f16", "int8"]:
    """"Row major linear FP32", "Thirty-two wide channel vectorized row major Int8 format", "Half(64,1:8,...)"."""
    text = told.lower() if isinstance(told, str) else ""
    if "int8" in text:
        return "int8"
    if "fp16" in text or "half" in text:
        return "f16"
    return "f32" if "fp32" in text or "float" in text else ""


class Tensor(NamedTuple):
    """Values in row-major order; they may be nan or infinite."""

    shape: tuple[int, ...]
    values: tuple[float, ...]


def outputs(text: str | bytes, what: str) -> dict[str, Tensor]:
    """--exportOutput: the outputs by name, as far as six digits go. Raises BoardError."""
    found: dict[str, Tensor] = {}
    for row in _list(_json(text, what), what):
        name, dims, values = row.get("name"), row.get("dimensions"), row.get("values")
        # "1x10"; some versions print (1,10)
        shape = tuple(int(n) for n in re.findall(r"\d{1,9}", dims)) if isinstance(dims, str) else ()
        good = isinstance(values, list) and all(isinstance(v, float) or (type(v) is int and abs(v) < LARGEST)
                                                for v in values)
        if not isinstance(name, str) or not good or math.prod(shape) != len(values or ()):
            raise BoardError(f"{what}: an output has no whole name, shape and values", AGAIN)
        found[name] = Tensor(shape, tuple(float(v) for v in values or ()))
    if not found:
        raise BoardError(f"{what}: there is no output", AGAIN)
    return found


# nan and inf as C++ prints them and JSON does not know them
_BARE = re.compile(r"(?<=[\s:,\[])(-?)(nan|inf)(?=[\s,\]}])")


def _json(text: str | bytes, what: str) -> Any:
    try:
        plain = text.decode() if isinstance(text, bytes) else text
        return json.loads(_BARE.sub(lambda m: "NaN" if m[2] == "nan" else f"{m[1]}Infinity", plain))
    except (ValueError, RecursionError):
        raise BoardError(f"{what}: trtexec's export is not whole JSON", AGAIN) from None


def _list(value: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise BoardError(f"{what}: not a list as trtexec exports it", AGAIN)
    return value


def _numbers(row: Mapping[str, Any], keys: tuple[str, ...], what: str) -> dict[str, float]:
    """The finite numbers under `keys`."""
    found = {}
    for key in keys:
        value = row.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < LARGEST:
            raise BoardError(f"{what}: {key} is missing or no number", AGAIN)
        found[key] = float(value)
    return found
