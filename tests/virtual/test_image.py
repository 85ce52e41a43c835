"""What a virtual board starts from, and what making it says when it cannot be made."""

from __future__ import annotations

import collections
import shutil
from pathlib import Path

import pytest

from hwkit import debian
from hwkit.errors import BadInput, JobFailed, NoSpace, ToolMissing
from hwkit.process import run
from hwkit.virtual import _cpio, _modules, image

# printf 'bin\nbin/a\nz\n' | cpio -o -H newc --reproducible -R 0:0      (GNU cpio 2.13, times 0, padding cut off)
GNU_CPIO = (b"07070100000000000041ED000000000000000000000002000000000000000000000000"
            b"0000000000000000000000000000000400000000bin\0\0\0"
            b"07070100000001000081A4000000000000000000000001000000000000000600000000"
            b"0000000000000000000000000000000600000000bin/a\0hello\n\0\0"
            b"07070100000002000089C9000000000000000000000001000000000000000100000000"
            b"0000000000000000000000000000000200000000z\0x\0\0\0"
            b"0707010000000000000000000000000000000000000001000000000000000000000000"
            b"0000000000000000000000000000000B00000000TRAILER!!!\0\0\0\0")


def quiet(text: str) -> None:
    pass


def test_an_archive_is_what_gnu_cpio_writes() -> None:
    ours = _cpio.archive({"z": (b"x", 0o4711), "bin/a": (b"hello\n", 0o644)})
    assert ours.rstrip(b"\0") == GNU_CPIO.rstrip(b"\0")
    assert len(ours) % 4 == 0                      # another may follow


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A folder as a kernel package has it; its modules are objects that the compiler made."""

    def module(path: str, depends: str) -> None:
        source = tmp_path / "module.c"
        source.write_text("".join(
            f'static const char {name}[] __attribute__((section(".modinfo"), used)) = "{name}={value}";\n'
            for name, value in (("license", "GPL"), ("depends", depends))))
        place = tmp_path / "kernel" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        run(["gcc", "-c", str(source), "-o", str(place)], timeout_s=60, what="compiling a module")

    module("net/disk-of.ko", "ring,core_bus")
    module("a/ring.ko", "core_bus,built")
    module("z/core-bus.ko", "")
    module("odd.ko", "nowhere")
    (tmp_path / "modules.builtin").write_text("kernel/lib/built.ko\n")
    return tmp_path


def test_modules_come_after_what_they_need(modules: Path) -> None:
    found = [path.name for path in _modules.order(modules, ["disk_of", "ring", "built"])]
    assert found == ["core-bus.ko", "ring.ko", "disk-of.ko"]
    assert _modules.info((modules / "kernel/a/ring.ko").read_bytes())["license"] == "GPL"


def test_a_module_that_is_not_there_is_named(modules: Path) -> None:
    with pytest.raises(BadInput, match="no module nowhere"):
        _modules.order(modules, ["odd"])
    with pytest.raises(BadInput, match="not a 64-bit ELF"):
        _modules.info(b"#!/bin/sh")


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HWKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_too_small_a_disk_is_said_first(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 9 * 10**8, 10**8))
    with pytest.raises(NoSpace, match="has 100 MB free"):
        image.make(quiet)
    assert image.image() is None


def test_no_network_is_one_line_and_leaves_nothing(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = [f"deb [arch=arm64 signed-by={debian.KEYRING}] http://127.0.0.1:9/debian {debian.SUITE} main"]
    monkeypatch.setattr(debian, "_sources", lambda: refused)
    monkeypatch.setattr(debian, "RETRIES", 0)
    with pytest.raises(JobFailed, match="apt-get update") as caught:
        image.make(quiet)
    assert "check the network" in caught.value.line()
    assert not list((empty_cache / "virtual-image").glob("*/"))


def test_a_program_that_finds_the_disk_full() -> None:
    with pytest.raises(JobFailed) as caught:
        debian.run(["dd", "if=/dev/zero", "of=/dev/full", "count=1"], timeout_s=10, what="writing the disk")
    found = debian.full_disk(caught.value)
    assert found is not None
    assert found.line().startswith("writing the disk: the disk is full -> free some space")
    assert debian.full_disk(JobFailed("apt-get update: failed")) is None


def test_what_makes_the_disk_is_named_when_it_is_not_installed(empty_cache: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program, path=None: None)
    with pytest.raises(ToolMissing, match="mke2fs") as caught:
        image.make(quiet)
    assert caught.value.hint == "apt-get install e2fsprogs"
