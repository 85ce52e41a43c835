"""Whether TensorRT's parser takes an ONNX file and its operators have kernels: asked of TensorRT for RTX, here.

The libraries of TensorRT for RTX (extra `tensorrt-rtx`; NVIDIA's own licence) parse and build without a GPU
(docs.nvidia.com/deeplearning/tensorrt-rtx, "CPU-Only AOT"), though not for every board's GPU: what was taken
instead is said. They are not the board's TensorRT: that one has another version of the parser, plugins that
these lack, and its own choice of kernels. So nothing they refuse is more than a note. An int8 file that builds
here need not run in int8 either: the support matrix on the same pages lists int8 for weights alone.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from hwkit.artifact import Finding
from hwkit.describe import Frozen
from hwkit.fork import forked
from hwkit.jobs import Say

BINDINGS, LIBRARIES = "tensorrt_rtx_bindings", "tensorrt_rtx_libs"
INSTALL = 'pip install "hwkit[tensorrt-rtx]"'
NAME = "TensorRT for RTX"
TIMEOUT_S = 120.0                 # a file; those of the zoo take a second or two
MEMORY_BYTES = 16 * 1024 ** 3     # of address space; the builder reserves more than it uses
TURING = 75                       # built only when asked for: it has no float32 matrix product there


class FileCheck(Frozen):
    """What became of one file.

    layers    of the parsed network; None where it was not parsed
    refused   why it was not parsed, a line each, with the node where the parser names one
    built     None where it was not tried, because the file was not parsed
    failed    why it was not built, or how the check itself ended
    """

    file: str
    layers: int | None = None
    refused: tuple[str, ...] = ()
    built: bool | None = None
    failed: str = ""


class Check(Frozen):
    """What `job` returns.

    asked, built_for   compute capabilities, 87 for 8.7: the target's, and the one taken
    unusable           why the installed libraries could not be loaded; `files` is empty then
    """

    asked: int
    version: str = ""
    built_for: int | None = None
    files: tuple[FileCheck, ...] = ()
    unusable: str = ""


def installed() -> bool:
    """Whether the packages are there; imports nothing."""
    return find_spec(BINDINGS) is not None and find_spec(LIBRARIES) is not None


def taken(sm: int, known: Sequence[int]) -> int:
    """Which of the `known` compute capabilities stands for `sm`: itself, else the nearest below, else the lowest.

    Raises ValueError when nothing is known.
    """
    usable = [k for k in known if k != TURING or sm == TURING] or list(known)
    return max((k for k in usable if k <= sm), default=min(usable))


def job(spec: dict[str, Any], say: Say) -> dict[str, Any]:
    """Parse and build each of spec["files"] for the GPU nearest to spec["sm"]; a Check as JSON.

    spec  files (paths of ONNX files), sm (87 for 8.7), timeout_s (of one file; TIMEOUT_S)
    Each file is tried in a process of its own: a crash or an endless build ends that one alone.
    """
    asked = int(spec["sm"])
    try:
        trt = importlib.import_module(BINDINGS)
    except (ImportError, OSError) as e:
        return Check(asked=asked, unusable=" ".join(str(e).split())[:300]).model_dump(mode="json")
    known = [int(name[2:]) for name in dir(trt.ComputeCapability) if re.fullmatch(r"SM\d+", name)]
    chosen = taken(asked, known)
    files: list[str] = spec["files"]
    checks = []
    for number, file in enumerate(files, 1):
        say(f"asking {NAME}: {number} of {len(files)}")
        done = forked(partial(_tried, trt, file, chosen), timeout_s=float(spec.get("timeout_s", TIMEOUT_S)),
                      memory_bytes=MEMORY_BYTES)
        failure = done.get("failure")
        checks.append(FileCheck(file=file, failed=failure["message"]) if failure
                      else FileCheck.model_validate(done["result"]))
    told = Check(asked=asked, version=trt.__version__, built_for=chosen, files=tuple(checks))
    return told.model_dump(mode="json")


def findings(result: Mapping[str, Any] | None) -> list[Finding]:
    """A Check as checks of a report, each saying what it is worth. None: the packages are not installed."""
    if result is None:
        return [_note(f"not asked: {INSTALL} gets NVIDIA's parser and builder, which need no GPU")]
    check = Check.model_validate(result)
    if check.unusable:
        return [_note(f"installed, but it cannot be loaded: {check.unusable}")]
    who = f"{NAME} {check.version} on this machine, without a GPU, built for SM{check.built_for}"
    if check.built_for != check.asked:
        where = "the nearest below" if (check.built_for or 0) < check.asked else "in place of"
        who += f", {where} the target's SM{check.asked}"
    good = [f for f in check.files if f.built]
    told = []
    if good:
        layers = ", ".join(f"{f.file} ({f.layers} layers)" for f in good)
        says = "the file parses and its" if len(good) == 1 else "the files parse and their"
        told.append(Finding(name=NAME, ok=True, text=(
            f"{who}: {layers}. It says that {says} operators have kernels there, not what the board's own "
            "TensorRT does")))
    refused = [(f.file, f.refused[0]) for f in check.files if f.refused]
    failed = [(f.file, f.failed) for f in check.files if not f.refused and not f.built]
    if refused:
        told.append(_note(f"the parser of {check.version} refused {_first(refused)}. The board's own may take it"))
    if failed:
        told.append(_note(f"{who}: no engine of {_first(failed)}. The board's own TensorRT may build it"))
    return told


def _first(unlucky: Sequence[tuple[str, str]]) -> str:
    """The first file and why; the others' names."""
    rest = f"; nor did it take {', '.join(file for file, _ in unlucky[1:])}" if unlucky[1:] else ""
    return f"{unlucky[0][0]}: {unlucky[0][1]}{rest}"


def _note(text: str) -> Finding:
    return Finding(name=NAME, ok=None, text=text)


def _tried(trt: Any, file: str, sm: int) -> dict[str, Any]:
    return _checked(trt, file, sm).model_dump(mode="json")


def _checked(trt: Any, file: str, sm: int) -> FileCheck:
    """Parse and build one file, in this process."""
    logger, errors = _listener(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(0)                     # strongly typed: the file's types are the engine's
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(file):                    # not parse(): weights may lie beside the file
        said = [_refusal(parser.get_error(i)) for i in range(parser.num_errors)] or errors[-1:]
        return FileCheck(file=file, refused=tuple(said) or ("no reason given",))
    if network.num_layers == 0:
        return FileCheck(file=file, refused=("there is no network in it",))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), 0)
    built = builder.build_serialized_network(network, config) is not None
    return FileCheck(file=file, layers=network.num_layers, built=built,
                     failed="" if built else (errors[-1] if errors else "no reason given"))


def _listener(trt: Any) -> tuple[Any, list[str]]:
    """A logger that keeps what TensorRT calls an error, and the list it keeps them in."""
    errors: list[str] = []

    class Listener(trt.ILogger):     # type: ignore[misc]     # known only once TensorRT is imported
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                errors.append(plain(message))

    return Listener(), errors


def _refusal(error: Any) -> str:
    """One of the parser's errors: the node, its operator and why."""
    node, operator, why = error.node_name(), error.node_operator(), plain(error.desc())
    if why in ("", "false"):         # the condition that failed, not a sentence
        why = error.code().name.lower().replace("_", " ")
    why = why.removeprefix(f"{node}: ")
    return f"{node or 'a node without name'} ({operator}): {why}" if operator else why


def plain(text: str) -> str:
    """The sentence in what TensorRT says went wrong: without its source lines, the conditions it tested, and the
    missing GPU, of which it complains beside every real error."""
    lines = [line for line in text.splitlines() if line and not line.startswith("Invalid Node")
             and "Cuda Runtime" not in line]
    said = lines[0] if lines else ""
    for noise in (r".*?Error Code \d+: [^(]*\((.*?)(?: In \w+ at /.*)?\)?", r"\[\S+ \w+\] (.*)",
                  r"Assertion failed: .*?: ([A-Z].*)", r'.*&& "(.*)"'):
        found = re.fullmatch(noise, said)
        said = found[1] if found else said
    return said.rstrip(".")[:300]
