"""Run an aarch64 program under qemu-user on a named CPU, with its instructions counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwkit.errors import ToolMissing, UnknownName
from hwkit.jobs import Say
from hwkit.process import require, run
from hwkit.runners import _icount, _userland
from hwkit.runners._made import MADE, Recipe, ensure, folder_for, made

QEMU = "qemu-aarch64"
PYTHON = "usr/bin/python3.11"
CORES = 4


@dataclass(frozen=True)
class Cpu:
    """How a core names itself (MIDR) and what Linux lists for it in /proc/cpuinfo.

    Kernels are chosen by these: a runtime picks other microkernels for a Cortex-A53 than for an A72.
    """

    part: int
    variant: int
    revision: int
    features: str


# MIDR fields: Arm's technical reference manuals, at the revision in BCM2837, BCM2711 and BCM2712.
CPUS = {
    "cortex-a53": Cpu(0xD03, 0, 4, "fp asimd evtstrm crc32 cpuid"),
    "cortex-a72": Cpu(0xD08, 0, 3, "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": Cpu(0xD0B, 4, 1, "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid "
                                   "asimdrdm lrcpc dcpop asimddp"),
}


@dataclass(frozen=True)
class Finished:
    """What a guest printed, and the marks it took (None when it was not counted)."""

    output: str
    marks: _icount.Marks | None


def qemu() -> str:
    """qemu-aarch64 with plugins. Raises ToolMissing."""
    found = require(QEMU, "apt-get install qemu-user")
    told = run([found, "-help"], timeout_s=20, what="asking QEMU for its options", check=False).stdout
    if "-plugin" not in told:
        raise ToolMissing(f"{found} was built without plugins, so it cannot count instructions",
                          "install the dynamically linked qemu-user (apt-get install qemu-user)")
    return found


def _cpuinfo(cpu: Cpu) -> str:
    one = (f"BogoMIPS\t: 108.00\nFeatures\t: {cpu.features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
           f"CPU variant\t: {cpu.variant:#x}\nCPU part\t: {cpu.part:#x}\nCPU revision\t: {cpu.revision}\n\n")
    return "".join(f"processor\t: {core}\n{one}" for core in range(CORES))


def _prefix_recipe(name: str) -> Recipe:
    root = folder_for("userland", _userland.recipe())
    return {"root": [str(root)], "cpuinfo": [_cpuinfo(CPUS[name])]}


def prefix(name: str) -> Path | None:
    """The file system a guest on this CPU sees before the machine's own, or None when it is not made."""
    folder = folder_for(name, _prefix_recipe(name))
    return folder if made(folder) else None


def make_prefix(name: str, say: Say) -> Path:
    """The userland with this CPU's own /proc/cpuinfo and core count; without them libraries that ask
    which CPU they run on crash, or see the machine's own. Links into the userland, so it costs nothing."""
    root = _userland.make_root(say)

    def fill(folder: Path) -> dict[str, str]:
        for entry in root.iterdir():
            if entry.name != MADE:
                (folder / entry.name).symlink_to(entry)
        (folder / "proc").mkdir()
        (folder / "proc/cpuinfo").write_text(_cpuinfo(CPUS[name]))
        cores = folder / "sys/devices/system/cpu"
        cores.mkdir(parents=True)
        for what in ("possible", "present", "online"):
            (cores / what).write_text(f"0-{CORES - 1}\n")
        return {}

    return ensure(name, _prefix_recipe(name), fill)


def cpu(name: str) -> Cpu:
    """The CPU of that name. Raises UnknownName."""
    if name not in CPUS:
        raise UnknownName("emulated cpu", name, CPUS, f"use one of {', '.join(CPUS)}")
    return CPUS[name]


def run_guest(cpu_name: str, program: Sequence[str], *, sites: Sequence[Path] = (), cwd: Path, timeout_s: float,
              what: str, marks_file: Path | None, env: Mapping[str, str] | None = None,
              on_line: Callable[[str], None] | None = None) -> Finished:
    """Run an aarch64 program and wait for it.

    program     its path and arguments; "python" as the first word is the userland's own Python
    sites       folders for the guest's PYTHONPATH, from `_userland.site`
    marks_file  count instructions, marks go there; the guest takes them with getpriority(0x4857, label)
    env         added to a fixed, otherwise empty environment: what a guest does must not depend on ours
    Counts between marks repeat exactly: the guest's addresses, its hashing and AT_RANDOM are fixed.
    Raises ToolMissing when the toolchain is not made, JobFailed when the guest fails or takes too long.
    """
    cpu(cpu_name)
    emulator = qemu()
    place = prefix(cpu_name)
    plugin = _icount.library(emulator)
    if place is None or plugin is None or _userland.root() is None:
        raise ToolMissing(f"the emulated {cpu_name} is not made", "hwkit board make NAME")
    python = [str(place / PYTHON), "-S", "-P"]     # no site packages, no script folder on the path
    argv = [*(python if program[0] == "python" else [program[0]]), *program[1:]]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONHOME": "/usr", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1",
                   "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8",
                   "PYTHONPATH": os.pathsep.join(map(str, sites)), **(env or {})}
    counting = ["-plugin", f"file={_escaped(plugin)},out={_escaped(marks_file)}"] if marks_file else []
    done = run([emulator, "-cpu", cpu_name, "-seed", "0", "-L", str(place), *counting, *argv], cwd=cwd,
               env=environment, timeout_s=timeout_s, what=what, on_line=on_line)
    return Finished(output=done.stdout, marks=_icount.read(marks_file) if marks_file else None)


def _escaped(path: Path) -> str:
    """A path inside a QEMU option, where a comma ends the value."""
    return str(path).replace(",", ",,")
