"""What all virtual boards share: a kernel, its first file system, and a disk of Debian for aarch64.

It is made without root and without executing anything of it: packages and wheels are unpacked, mke2fs writes the
disk. Nothing in it is secret: a board's keys come to it when it is started.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hwkit import debian
from hwkit.data import cache_root
from hwkit.errors import JobFailed, NoSpace
from hwkit.jobs import Say
from hwkit.made import Recipe, ensure, folder_for, made
from hwkit.process import require
from hwkit.virtual import _cpio, _modules

# The cloud kernel is Debian's own for virtual machines: it boots in half the time, with ext4 built in.
PACKAGES = ("linux-image-cloud-arm64", "busybox-static", "openssh-server", "python3-minimal",
            "libpython3.11-stdlib", "libstdc++6", "libgomp1", "libatomic1", "zlib1g")
# called by the packages' own scripts alone, or for parts of Python's library that nobody uses here
ASSUMED = ("adduser", "debconf", "dpkg", "init-system-helpers", "initramfs-tools", "kmod", "libdb5.3",
           "libncursesw6", "libpam-modules", "libpam-runtime", "libreadline8", "libsqlite3-0", "libtinfo6",
           "libuuid1", "linux-base", "lsb-base", "media-types", "passwd", "procps", "readline-common",
           "runit-helper", "sensible-utils", "ucf", "usrmerge")
MODULES = ("virtio_mmio", "virtio_blk", "virtio_net")
MERGED = ("bin", "sbin", "lib")                     # Debian's /bin is a link to usr/bin; its packages do not know
APPLETS = ("cat chmod chown clear cp cut date dd df dmesg du echo env expr false find free fallocate grep "
           "gunzip gzip head hostname id ip kill killall less ln ls mkdir mktemp more mount mv nproc pidof "
           "poweroff ps pwd readlink reboot renice rm rmdir sed sh sleep sort stat sync tail tar tee test "
           "time timeout top touch tr true truncate umount uname uniq uptime vi wc which xargs")      # of busybox
DISK_BYTES = 2 * 2**30                              # of which the free part takes no space here
INODES, JOURNAL_MB = 32768, 8
NEEDED_BYTES = 700 * 10**6                          # while it is made; a third of that stays
SITE = "/opt/hwkit/site"
KERNEL, FIRST, DISK = "vmlinuz", "first.cpio", "disk.ext4"
MKE2FS_S = 300.0

ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
              "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    "shadow": "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\nnobody:*:19000:0:99999:7:::\n",
    "group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "hosts": "127.0.0.1 localhost\n",
    # The keys lie in memory, where init puts them. One key exchange: the others take seconds when emulated.
    "ssh/sshd_config": "PermitRootLogin prohibit-password\nPasswordAuthentication no\n"
                       "KbdInteractiveAuthentication no\nUsePAM no\nUseDNS no\nPrintMotd no\n"
                       "HostKey /run/hwkit/host_key\nAuthorizedKeysFile /run/hwkit/authorized_keys\n"
                       "KexAlgorithms curve25519-sha256\nSubsystem sftp internal-sftp\n",
}


def recipe() -> Recipe:
    return {"suite": [debian.SUITE], "packages": list(PACKAGES), "assumed": list(ASSUMED),
            "modules": list(MODULES), "applets": [APPLETS], "wheels": list(debian.TFLITE),
            "platforms": list(debian.PLATFORMS), "etc": [f"{k}: {v}" for k, v in ETC.items()],
            "disk": [str(DISK_BYTES), str(INODES), str(JOURNAL_MB)]}


def _folder() -> Path:
    return folder_for(cache_root() / "virtual-image", "debian", recipe())


def image() -> Path | None:
    """The folder with KERNEL, FIRST and DISK, or None when it is not made."""
    return _folder() if made(_folder()) else None


def packages() -> dict[str, str]:
    """Debian packages of the image with their versions; empty when it is not made."""
    found = made(_folder())
    return found.contents if found else {}


def mke2fs() -> str:
    """Raises ToolMissing. Debian has it in sbin, which is not on everybody's PATH."""
    return shutil.which("mke2fs", path="/usr/sbin:/sbin") or require("mke2fs", "apt-get install e2fsprogs")


def make(say: Say) -> Path:
    """The folder of the image, made if need be. Raises ToolMissing, JobFailed, NoSpace."""
    folder = _folder()
    if made(folder):
        return folder
    mke2fs()
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < NEEDED_BYTES:
        raise NoSpace(f"a virtual board takes {NEEDED_BYTES / 1e6:.0f} MB while it is made, and {folder.parent} "
                      f"has {free / 1e6:.0f} MB free", "free some space, or put the cache elsewhere with "
                                                       "HWKIT_CACHE=DIR")
    return ensure(folder, recipe(), lambda scratch: _fill(scratch, say))


def _fill(folder: Path, say: Say) -> dict[str, str]:
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        root = Path(inside)
        versions = debian.unpack(PACKAGES, root, say, ASSUMED)
        _merge(root)
        modules = next((root / "usr/lib/modules").iterdir())
        shutil.copy(next((root / "boot").glob("vmlinuz-*")), folder / KERNEL)
        (folder / FIRST).write_bytes(_first(root, modules))
        shutil.rmtree(modules)
        shutil.rmtree(root / "boot")
        _furnish(root)
        say("compiling the Python library")
        debian.compile_python(root / "usr/lib/python3.11", root)
        site = root / SITE.lstrip("/")
        site.mkdir(parents=True)
        debian.wheels("the runtime", debian.TFLITE, site, say)
        say("writing the disk")
        _write_disk(root, folder / DISK)
    return versions


def _merge(root: Path) -> None:
    for name in MERGED:
        if (root / name).is_dir():
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)
        (root / name).symlink_to(f"usr/{name}")


def _first(root: Path, modules: Path) -> bytes:
    """What the kernel starts from: a shell and the drivers of disk and network, numbered in their order."""
    files = {"bin/busybox": ((root / "usr/bin/busybox").read_bytes(), 0o755)}
    for number, path in enumerate(_modules.order(modules, MODULES)):
        files[f"modules/{number:02}-{path.name}"] = (path.read_bytes(), 0o644)
    return _cpio.archive(files)


def _furnish(root: Path) -> None:
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "opt", "var/log"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for applet in APPLETS.split():
        if not os.path.lexists(root / "usr/bin" / applet):
            (root / "usr/bin" / applet).symlink_to("busybox")
    for name, text in ETC.items():
        (root / "etc" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "etc" / name).write_text(text)


def _write_disk(root: Path, disk: Path) -> None:
    """An ext4 file system. Its files have the numbers of whoever makes it; init gives root what sshd looks at."""
    try:
        debian.run([mke2fs(), "-q", "-F", "-t", "ext4", "-d", str(root), "-N", str(INODES), "-m", "0",
                    "-J", f"size={JOURNAL_MB}", "-E", "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0",
                    "-U", "00000000-0000-4000-8000-000000000001", str(disk), f"{DISK_BYTES // 1024}k"],
                   timeout_s=MKE2FS_S, what="writing the disk of the virtual boards")
    except JobFailed as e:
        raise debian.full_disk(e) or e from None
