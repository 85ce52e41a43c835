"""What `hwkit doctor --board` finds out over ssh and how it judges it, before any work starts.

One connection, one run of boards/payloads/probe.py. Facts come from the board, wishes from its target and, where
one is given, from the artifact; `judged` sets one against the other.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Literal

from hwkit import target as targets
from hwkit.artifact import Artifact
from hwkit.board import Board
from hwkit.data import shipped
from hwkit.describe import Frozen
from hwkit.eda import bitstream
from hwkit.errors import BadInput, BoardFault
from hwkit.faults import Fault
from hwkit.gpu import plan as plans
from hwkit.jobs import Say
from hwkit.lab import Place
from hwkit.runners._link import connect
from hwkit.target import Target
from hwkit.units import shown

State = Literal["ok", "warn", "missing", "wrong"]
PROBE = "probe.py"
PROBE_S = 60.0
# implementer and part as /proc/cpuinfo has them: arch/arm64/include/asm/cputype.h of Linux
CORES = {
    "0x41:0xc07": "cortex-a7", "0x41:0xc09": "cortex-a9", "0x41:0xd03": "cortex-a53", "0x41:0xd04": "cortex-a35",
    "0x41:0xd05": "cortex-a55", "0x41:0xd07": "cortex-a57", "0x41:0xd08": "cortex-a72", "0x41:0xd09": "cortex-a73",
    "0x41:0xd0a": "cortex-a75", "0x41:0xd0b": "cortex-a76", "0x41:0xd0d": "cortex-a77", "0x41:0xd41": "cortex-a78",
    "0x41:0xd42": "cortex-a78ae", "0x4e:0x003": "denver-2", "0x4e:0x004": "carmel"}
# bits of get_throttled: raspberrypi.com/documentation/computers/os.html; 16 bits above: since the board started
THROTTLED = ("too low a voltage", "clock capped", "throttled", "soft temperature limit")
HOT_C = 75.0                   # boards throttle from 80 degrees on
LEAST_DISK_BYTES, LEAST_MEMORY_BYTES = 100e6, 150e6
CLOCK_SHARE = 0.99             # of the target's clock that the board must reach
BUSY_LOAD, SKEW_S = 0.5, 5.0
HEADER_BYTES = 512
RUNTIMES = {"tflite": ("numpy", "ai_edge_litert", "tflite_runtime"), "onnxruntime": ("numpy", "onnxruntime")}


class Cpu(Frozen):
    cores: int
    name: str | None
    parts: tuple[str, ...]
    features: tuple[str, ...]


class Memory(Frozen):
    total_bytes: int | None
    available_bytes: int | None
    swap_bytes: int | None
    swap_free_bytes: int | None


class Clock(Frozen):
    """Of a group of cores; most_hz: what the governor may go up to."""

    cores: str | None
    governor: str | None
    now_hz: float | None
    least_hz: float | None
    most_hz: float | None


class Jetson(Frozen):
    l4t: str | None
    power_mode: str | None


class Logic(Frozen):
    managers: dict[str, str | None]
    bit: str | None
    bit_problem: str | None


class Facts(Frozen):
    """What boards/payloads/probe.py prints."""

    machine: str
    kernel: str
    os: str | None
    python: str
    python_bits: int
    cpu: Cpu
    memory: Memory
    clocks: tuple[Clock, ...]
    temperatures_c: dict[str, float]
    throttled: int | None
    sensors: dict[str, str]
    jetson: Jetson
    tensorrt: str | None
    trtexec: str | None
    logic: Logic
    users: tuple[str, ...]
    model: str | None
    compatible: tuple[str, ...]
    load: tuple[float, ...]
    free_bytes: int
    time_s: float


class Seen(Frozen):
    """What a board told. seconds: to connect and to ask; skew_s: how far its clock is ahead of ours, at least."""

    facts: Facts
    packages: dict[str, str | None]
    seconds: float
    skew_s: float


class Row(Frozen):
    """state: "warn" makes worse measurements, "missing" must be installed, "wrong" is not the board described."""

    what: str
    state: State
    detail: str


def seen(place: Place, say: Say, bitfile: str = "") -> Seen:
    """Ask the board. Raises BoardFault."""
    started = time.monotonic()
    with connect(place, say) as link:
        link.put(shipped("boards", "payloads", PROBE), PROBE)
        before_s = time.time()
        done = link.run(["python", PROBE, "--sensors-root", place.sensors_root,
                         *(["--bitfile", bitfile] if bitfile else [])], timeout_s=PROBE_S, what="asking the board")
        after_s = time.time()
        packages = link.hello.packages
    seconds = time.monotonic() - started
    try:
        facts = Facts.model_validate(json.loads(done.output.splitlines()[-1]))
    except (ValueError, IndexError):
        raise BoardFault(Fault.PROCESS_FAILED, f"{place.text} gave no answer that can be read",
                         log=done.output) from None
    skew_s = max(before_s - facts.time_s, 0.0) or max(facts.time_s - after_s, 0.0)
    return Seen(facts=facts, packages=packages, seconds=seconds, skew_s=skew_s)


def judged(told: Seen, board: Board, artifact: Artifact | None = None) -> list[Row]:
    """A row for each thing. Raises BadInput, BadDescription."""
    wanted, facts = targets.target(board.target), told.facts
    return [*_machine(facts, wanted), *_software(told, wanted, artifact), *_logic(told, wanted, board, artifact),
            *_room(facts, artifact), *_state(told, wanted, board)]


def exit_code(rows: list[Row]) -> int:
    """4 for another board than described, 3 where something is missing, else 0."""
    states = {row.state for row in rows}
    return 4 if "wrong" in states else 3 if "missing" in states else 0


def _row(what: str, good: bool, fact: str, complaint: str, bad: State) -> Row:
    """A fact, and where it is not good, what is wrong with it."""
    return Row(what=what, state="ok" if good else bad, detail=fact if good else f"{fact}; {complaint}")


def _machine(facts: Facts, wanted: Target) -> Iterator[Row]:
    cpu, described = wanted.cpu, f"{wanted.name} is described"
    if cpu is None:
        return
    machine = cpu.machine or facts.machine
    yield _row("architecture", facts.machine == machine, facts.machine, f"{described} as {machine}", "wrong")
    if facts.machine == "aarch64" and facts.python_bits == 32:
        yield Row(what="architecture", state="wrong", detail="its Python has 32 bits: install a 64-bit system")
    others = [t for t in map(targets.target, targets.names()) if _names_part(facts, t)]
    another = bool(others) and wanted.part not in [t.part for t in others]
    if name := facts.model or ", ".join(filter(None, facts.compatible)):
        yield _row("model", not another, name, f"that is {others[0].name if others else ''}, not {wanted.name}",
                   "wrong")
    cores = sorted({CORES.get(part, part) for part in facts.cpu.parts})
    text = f"{facts.cpu.cores} x {' and '.join(cores) or facts.cpu.name or facts.machine}"
    if not cores or cpu.core in cores:
        yield _row("cores", facts.cpu.cores >= cpu.cores, text, f"{cpu.cores - facts.cpu.cores} are switched off",
                   "warn")
    else:
        yield _row("cores", False, text, f"{described} with {cpu.core}", "wrong")
    lacking = [f for f in cpu.features if f not in facts.cpu.features]
    has = [name for name, feature in (("LSE", "atomics"), ("fp16", "asimdhp"), ("int8 dot product", "asimddp"))
           if feature in facts.cpu.features]
    yield _row("CPU features", not lacking, ", ".join(has) or "neither LSE nor int8 dot product",
               f"{described} with {', '.join(lacking)}", "wrong")


def _names_part(facts: Facts, of: Target) -> bool:
    """Whether the device tree names a target's part: a word of it that has a digit, as "bcm2711"."""
    words = [w for w in re.findall(r"[a-z0-9-]{5,}", of.part.lower()) if any(c.isdigit() for c in w)]
    return any(word in name.lower() for word in words for name in facts.compatible)


def _software(told: Seen, wanted: Target, artifact: Artifact | None) -> Iterator[Row]:
    facts = told.facts
    yield Row(what="system", state="ok", detail=f"{facts.os or 'Linux'}, kernel {facts.kernel}")
    yield Row(what="Python", state="ok", detail=facts.python)
    backends = (artifact.manifest.backend,) if artifact else wanted.backends
    has = {name: f"{name} {version}".strip() for name, version in told.packages.items() if version is not None}
    for backend, names in RUNTIMES.items():
        if backend in backends:
            there = [has[n] for n in names if n in has] or ["none"]
            lacks = "numpy" not in has or not any(n in has for n in names[1:])
            yield Row(what=f"runtime of {backend}", state="ok", detail=(
                ", ".join(there) + ("; hwkit brings what is missing along" if lacks else "")))
    gpu = wanted.gpu
    if gpu and "tensorrt" in backends:
        yield _tensorrt(facts, wanted, artifact)
    if gpu and gpu.jetpack:
        yield _row("L4T", facts.jetson.l4t == gpu.jetpack.l4t, facts.jetson.l4t or "none",
                   f"{wanted.name} is described with {gpu.jetpack.l4t} (JetPack {gpu.jetpack.version})", "warn")
    if gpu and gpu.power_mode:
        number = next(m.number for m in gpu.power_modes if m.name == gpu.power_mode)
        yield _row("power mode", facts.jetson.power_mode == gpu.power_mode, facts.jetson.power_mode or "not known",
                   f"{wanted.name} is described in {gpu.power_mode}: sudo nvpmodel -m {number}", "warn")


def _tensorrt(facts: Facts, wanted: Target, artifact: Artifact | None) -> Row:
    """Engines are built on the board, by a plan that knows its trtexec since some version."""
    what, version = "TensorRT", facts.tensorrt
    if facts.trtexec is None:
        return _row(what, False, version or "none", "no trtexec: sudo apt-get install nvidia-jetpack", "missing")
    if version is None:
        return Row(what=what, state="ok", detail=f"{facts.trtexec} will tell its version")
    number = tuple(map(int, version.split(".")[:2]))
    if artifact and artifact.manifest.built.board_plan:
        since = min(f.since for f in plans.load(artifact.path(artifact.manifest.built.board_plan)).families)
        if number < since:
            return _row(what, False, version, f"the artifact's plan needs {since[0]}.{since[1]}", "wrong")
    expected = wanted.gpu.jetpack.tensorrt if wanted.gpu and wanted.gpu.jetpack else version
    return _row(what, version.split(".")[:2] == expected.split(".")[:2], version,
                f"estimates for {wanted.name} assume {expected}", "warn")


def _logic(told: Seen, wanted: Target, board: Board, artifact: Artifact | None) -> Iterator[Row]:
    if wanted.fpga is None:
        return
    what, facts = "programmable logic", told.facts
    if board.kind == "simulated":
        yield Row(what=what, state="ok", detail="simulated here, beside the board")
        return
    pynq = told.packages.get("pynq")
    yield _row("PYNQ", pynq is not None, pynq or "none", "install it there, or a PYNQ image", "missing")
    managers = ", ".join(f"{name}: {state}" for name, state in facts.logic.managers.items())
    yield _row(what, bool(managers), managers or "none", "the kernel has no fpga_manager", "missing")
    designs = {"the board's bitfile": bytes.fromhex(facts.logic.bit)} if facts.logic.bit is not None else {}
    if artifact:
        designs |= {name: artifact.path(name).read_bytes()[:HEADER_BYTES] for name in artifact.manifest.built.files
                    if name.endswith(".bit")}
    for name, data in designs.items():
        try:
            about = bitstream.header(data)
        except BadInput as e:
            yield _row("bitstream", False, name, e.message, "wrong")
        else:
            yield _row("bitstream", bitstream.same_device(about.part, wanted.fpga.part),
                       f"{name}: {about.design.split(';')[0]} for {about.part}, of {about.date}",
                       f"{wanted.name} is {wanted.fpga.part}", "wrong")
    if not designs:
        why = facts.logic.bit_problem or "hls/dsode/lab/README.md tells how to make one"
        yield _row("bitstream", False, "none", why, "missing")


def _room(facts: Facts, artifact: Artifact | None) -> Iterator[Row]:
    size = sum(artifact.path(f).stat().st_size for f in artifact.manifest.built.files) if artifact else 0
    disk, memory = size + LEAST_DISK_BYTES, 2 * size + LEAST_MEMORY_BYTES
    yield _row("free disk", facts.free_bytes >= disk, f"{shown(facts.free_bytes, 'bytes')} for scratch",
               f"{shown(disk, 'bytes')} are wanted", "missing")
    has = facts.memory
    if has.available_bytes is not None and has.total_bytes is not None:
        yield _row("memory", has.available_bytes >= memory,
                   f"{shown(has.available_bytes, 'bytes')} of {shown(has.total_bytes, 'bytes')} available, "
                   f"{shown(has.swap_bytes, 'bytes') if has.swap_bytes else 'no'} swap",
                   f"{shown(memory, 'bytes')} are wanted", "warn")


def _state(told: Seen, wanted: Target, board: Board) -> Iterator[Row]:
    """What makes a measurement worse than it could be."""
    facts = told.facts
    yield from _clocks(facts, wanted)
    if facts.temperatures_c:
        zone, value = max(facts.temperatures_c.items(), key=lambda one: one[1])
        yield _row("temperature", value < HOT_C, f"{value:.0f} °C at {zone}", "let it cool, give it a fan", "warn")
    if facts.throttled is not None:
        now, before = ([text for k, text in enumerate(THROTTLED) if facts.throttled >> k + shift & 1]
                       for shift in (0, 16))
        yield _row("throttling", not now + before, f"since it started: {', '.join(before) or 'none'}",
                   f"now: {', '.join(now) or 'none'}", "warn")
    simulated = ", simulated" if board.kind == "simulated" else ""
    readable = [name + simulated for name, problem in facts.sensors.items() if not problem]
    hidden = [f"{name} cannot be read ({problem})" for name, problem in facts.sensors.items() if problem]
    yield _row("power sensors", bool(readable), ", ".join(readable + hidden) or "none", "no energy", "warn")
    if facts.load:
        yield _row("load", facts.load[0] < BUSY_LOAD, f"{facts.load[0]:.2f} in the last minute",
                   "something else runs there", "warn")
    if facts.users:
        yield Row(what="users", state="warn", detail=f"logged in: {', '.join(facts.users)}")
    yield _row("time of day", told.skew_s <= SKEW_S, "as here" if told.skew_s < 1 else f"{told.skew_s:.0f} s away",
               "files and logs will not agree with this machine's", "warn")


def _clocks(facts: Facts, wanted: Target) -> Iterator[Row]:
    most = max((c.most_hz for c in facts.clocks if c.most_hz), default=None)
    if most is None:
        yield _row("clocks", False, "not told", "throttling will not be seen", "warn")
        return
    governors = {c.governor for c in facts.clocks if c.governor}
    now = max((c.now_hz for c in facts.clocks if c.now_hz), default=most)
    described = wanted.cpu.clock_hz.value if wanted.cpu else 0.0
    complaints = []
    if most < CLOCK_SHARE * described:
        complaints.append(f"{wanted.name} has {shown(described, 'Hz')}")
    if governors - {"performance"}:
        complaints.append("times vary less with: sudo cpupower frequency-set -g performance")
    yield _row("clocks", not complaints,
               f"{shown(now, 'Hz')} of {shown(most, 'Hz')}, governor {', '.join(sorted(governors)) or 'not told'}",
               "; ".join(complaints), "warn")
