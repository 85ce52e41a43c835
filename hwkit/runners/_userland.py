"""A small aarch64 Linux to run under qemu-user: unpacked, never booted, nothing foreign executed to make it.

Debian packages come from the machine's own package sources through apt-get, wheels through pip; both only
download and unpack, so an ordinary user can do it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hwkit.errors import JobFailed, ToolMissing
from hwkit.jobs import Say
from hwkit.process import require, run
from hwkit.runners._made import Recipe, ensure, folder_for, made

SUITE = "bookworm"                     # its Python is 3.11, as ours: byte code can be compiled here
PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libgomp1", "libatomic1", "zlib1g")
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")
TFLITE = ("ai-edge-litert==2.3.0", "numpy==2.4.6")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64",
             "manylinux2014_aarch64")
MIRROR = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DOWNLOAD_S = 900.0
UNPACK_S = 300.0


def recipe() -> Recipe:
    return {"suite": [SUITE], "packages": sorted(PACKAGES)}


def root() -> Path | None:
    """The unpacked aarch64 file system, or None when it is not made."""
    folder = folder_for("userland", recipe())
    return folder if made(folder) else None


def packages() -> dict[str, str]:
    """Debian packages of the userland with their versions; empty when it is not made."""
    found = made(folder_for("userland", recipe()))
    return found.contents if found else {}


def make_root(say: Say) -> Path:
    """The unpacked aarch64 file system, made if need be. Raises ToolMissing, JobFailed."""

    def fill(folder: Path) -> dict[str, str]:
        with tempfile.TemporaryDirectory(prefix="hwkit-apt-") as work:
            archives = _download(Path(work), say)
            say(f"unpacking {len(archives)} arm64 packages")
            for archive in archives:
                run(["dpkg-deb", "--extract", str(archive), str(folder)], timeout_s=UNPACK_S,
                    what=f"unpacking {archive.name}")
        for unused in UNUSED:
            shutil.rmtree(folder / unused, ignore_errors=True)
        (folder / "etc/ld.so.cache").touch()       # else the guest's loader reads the machine's own
        say("compiling the Python library")
        _compile(folder / "usr/lib/python3.11", folder)
        return dict(sorted((name, version) for name, version, _ in (a.name.split("_") for a in archives)))

    return ensure("userland", recipe(), fill)


def _sources() -> list[str]:
    """apt lines for SUITE on the mirrors this machine itself uses, Debian's own where it uses none."""
    listing = run(["apt-get", "indextargets", "--format", "$(SITE)|$(ORIGIN)|$(CODENAME)", "Created-By: Packages"],
                  timeout_s=60, what="listing package sources", check=False).stdout
    debian = [(site, codename) for site, origin, codename in
              (line.split("|") for line in listing.splitlines() if line.count("|") == 2) if origin == "Debian"]
    main = next((s for s, c in debian if "-" not in c), MIRROR)
    security = next((s for s, c in debian if c.endswith("-security")), SECURITY)
    options = f"[arch=arm64 signed-by={KEYRING}]"
    return [f"deb {options} {main} {SUITE} main", f"deb {options} {security} {SUITE}-security main"]


def _download(work: Path, say: Say) -> list[Path]:
    """The .deb files of PACKAGES and all they depend on, resolved and verified by apt-get."""
    for program in ("apt-get", "dpkg-deb"):
        require(program, "the emulated userland needs a Debian or Ubuntu machine")
    if not KEYRING.is_file():
        raise ToolMissing("the keys of the Debian archive are not installed",
                          "apt-get install debian-archive-keyring")
    for place in ("etc", "state/lists/partial", "cache/archives/partial"):
        (work / place).mkdir(parents=True)
    (work / "etc/sources.list").write_text("".join(f"{line}\n" for line in _sources()))
    (work / "state/status").touch()
    options = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root", "Acquire::Languages": "none", "Acquire::Retries": "3",
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
    run([*apt, "--yes", "--download-only", "install", *PACKAGES], timeout_s=DOWNLOAD_S,
        what="downloading arm64 packages", hint=hint)
    return sorted((work / "cache/archives").glob("*.deb"))


def _compile(folder: Path, stripped: Path) -> None:
    """Byte code for everything in `folder`: starting Python under emulation is then several times faster.

    It is never checked against its source, so its use does not depend on file times. Files that are
    not for this Python are left as they are.
    """
    if sys.version_info[:2] == (3, 11):
        run([sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash",
             "-s", str(stripped), str(folder)], timeout_s=UNPACK_S, what="compiling Python files", check=False)


def site(name: str, requirements: Sequence[str], say: Say, platforms: Sequence[str] = PLATFORMS) -> Path:
    """A folder for PYTHONPATH with exactly these aarch64 wheels ("name==version"), made if need be.

    Dependencies are not followed: name all that is wanted. Raises ToolMissing, JobFailed.
    """

    def fill(folder: Path) -> dict[str, str]:
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
            raise
        _compile(folder, folder)
        return {}

    return ensure(f"site-{name}", _site_recipe(requirements, platforms), fill)


def _site_recipe(requirements: Sequence[str], platforms: Sequence[str] = PLATFORMS) -> Recipe:
    return {"requirements": sorted(requirements), "platforms": list(platforms)}


def tflite_site() -> Path | None:
    """The site folder of the TFLite interpreter, or None when it is not made."""
    folder = folder_for("site-tflite", _site_recipe(TFLITE))
    return folder if made(folder) else None


def make_tflite_site(say: Say) -> Path:
    """The site folder of the TFLite interpreter, made if need be."""
    return site("tflite", TFLITE, say)
