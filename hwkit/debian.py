"""Debian packages and Python wheels for aarch64: fetched and unpacked, never installed, nothing foreign executed.

Packages come from the machine's own package sources through apt-get, wheels through pip; both only download
and unpack, so an ordinary user can do it.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hwkit import process
from hwkit.errors import JobFailed, NoSpace, ToolMissing
from hwkit.jobs import Say

SUITE = "bookworm"                     # its Python is 3.11, as ours: byte code can be compiled here
TFLITE = ("ai-edge-litert==2.3.0", "numpy==2.4.6")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64",
             "manylinux2014_aarch64")
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")
MIRROR = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DOWNLOAD_S = 900.0
UNPACK_S = 300.0
PRESENT = "Package: {}\nStatus: install ok installed\nArchitecture: arm64\nMulti-Arch: foreign\nVersion: 999\n\n"
RETRIES = 3


def run(argv: Sequence[str], *, timeout_s: float, what: str, hint: str = "", check: bool = True) -> str:
    """As hwkit.process.run, speaking English: what it prints is looked at. Raises ToolMissing, JobFailed."""
    return process.run(argv, env={**os.environ, "LC_ALL": "C"}, timeout_s=timeout_s, what=what, hint=hint,
                       check=check).stdout


def _sources() -> list[str]:
    """apt lines for SUITE on the mirrors this machine itself uses, Debian's own where it uses none."""
    listing = run(["apt-get", "indextargets", "--format", "$(SITE)|$(ORIGIN)|$(CODENAME)", "Created-By: Packages"],
                  timeout_s=60, what="listing package sources", check=False)
    debian = [(site, codename) for site, origin, codename in
              (line.split("|") for line in listing.splitlines() if line.count("|") == 2) if origin == "Debian"]
    main = next((s for s, c in debian if "-" not in c), MIRROR)
    security = next((s for s, c in debian if c.endswith("-security")), SECURITY)
    options = f"[arch=arm64 signed-by={KEYRING}]"
    return [f"deb {options} {main} {SUITE} main", f"deb {options} {security} {SUITE}-security main"]


def _download(work: Path, packages: Sequence[str], assumed: Sequence[str], say: Say) -> list[Path]:
    """The .deb files of `packages` and all they depend on, resolved and verified by apt-get."""
    for program in ("apt-get", "dpkg-deb"):
        process.require(program, "aarch64 packages can only be unpacked on a Debian or Ubuntu machine")
    if not KEYRING.is_file():
        raise ToolMissing("the keys of the Debian archive are not installed",
                          "apt-get install debian-archive-keyring")
    for place in ("etc", "state/lists/partial", "cache/archives/partial"):
        (work / place).mkdir(parents=True)
    (work / "etc/sources.list").write_text("".join(f"{line}\n" for line in _sources()))
    (work / "state/status").write_text("".join(map(PRESENT.format, assumed)))
    options = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root", "Acquire::Languages": "none", "Acquire::Retries": RETRIES,
        "Dir::Etc::SourceList": work / "etc/sources.list", "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null", "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State": work / "state", "Dir::State::status": work / "state/status",
        "Dir::State::extended_states": work / "state/extended", "Dir::Cache": work / "cache",
    }
    apt = ["apt-get", "--quiet", *(f"-o{key}={value}" for key, value in options.items())]
    hint = "check the network and the machine's package sources, then run it again"
    say(f"fetching the list of {SUITE} arm64 packages")
    run([*apt, "--error-on=any", "update"], timeout_s=DOWNLOAD_S, what="apt-get update (arm64)", hint=hint)
    say("downloading arm64 packages")
    run([*apt, "--yes", "--download-only", "install", *packages], timeout_s=DOWNLOAD_S,
        what="downloading arm64 packages", hint=hint)
    return sorted((work / "cache/archives").glob("*.deb"))


def unpack(packages: Sequence[str], folder: Path, say: Say, assumed: Sequence[str] = ()) -> dict[str, str]:
    """Unpack the newest arm64 `packages` with all they need into `folder`; package -> version.

    assumed  packages taken to be there already: what only the scripts of an installation would call
    Documentation is left out. Raises ToolMissing, JobFailed, NoSpace.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="hwkit-apt-") as work:
            archives = _download(Path(work), packages, assumed, say)
            say(f"unpacking {len(archives)} arm64 packages")
            for archive in archives:
                run(["dpkg-deb", "--extract", str(archive), str(folder)], timeout_s=UNPACK_S,
                    what=f"unpacking {archive.name}")
    except JobFailed as e:
        raise full_disk(e) or e from None
    for unused in UNUSED:
        shutil.rmtree(folder / unused, ignore_errors=True)
    return dict(sorted((name, version) for name, version, _ in (a.name.split("_") for a in archives)))


def full_disk(error: JobFailed) -> NoSpace | None:
    """The one-line error of a program that said the disk is full; None when it failed otherwise."""
    if os.strerror(errno.ENOSPC) in error.log or "have enough free space" in error.log:
        return NoSpace(f"{error.message.partition(':')[0]}: the disk is full",
                       "free some space, or put the cache elsewhere with HWKIT_CACHE=DIR and TMPDIR=DIR")
    return None


def compile_python(folder: Path, stripped: Path) -> None:
    """Byte code for everything in `folder`: starting Python under emulation is then several times faster.

    It is never checked against its source, so its use does not depend on file times. Files that are
    not for this Python are left as they are.
    """
    if sys.version_info[:2] == (3, 11):
        run([sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash",
             "-s", str(stripped), str(folder)], timeout_s=UNPACK_S, what="compiling Python files", check=False)


def wheels(name: str, requirements: Sequence[str], folder: Path, say: Say,
           platforms: Sequence[str] = PLATFORMS) -> None:
    """Unpack exactly these aarch64 wheels ("name==version") into `folder`, for PYTHONPATH.

    Dependencies are not followed: name all that is wanted. Raises ToolMissing, JobFailed, NoSpace.
    """
    say(f"installing {', '.join(requirements)} for aarch64")
    wanted = [argument for p in platforms for argument in ("--platform", p)]
    hint = "check the network and pip's settings, then run it again"
    try:
        run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", *wanted,
             "--python-version", "3.11", "--implementation", "cp", "--target", str(folder), *requirements],
            timeout_s=DOWNLOAD_S, what=f"installing {name} for aarch64", hint=hint)
    except JobFailed as e:
        if "No module named pip" in e.log:
            raise ToolMissing("pip is not installed in this environment",
                              f"{sys.executable} -m ensurepip") from None
        raise full_disk(e) or e from None
    compile_python(folder, folder)
