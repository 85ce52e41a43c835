"""Which kernel modules must be loaded before which, from what the modules say of themselves."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from hwkit.errors import BadInput

SECTION = b".modinfo"


def _name(file: str) -> str:
    """A module's own name: "virtio-rng.ko" is virtio_rng."""
    return Path(file).name.partition(".")[0].replace("-", "_")


def info(elf: bytes) -> dict[str, str]:
    """key=value pairs of a module's .modinfo. Raises BadInput when it is no 64-bit little-endian ELF file."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise BadInput("a kernel module is not a 64-bit ELF file")
    table, = struct.unpack_from("<Q", elf, 0x28)                   # e_shoff
    size, count, names_at = struct.unpack_from("<3H", elf, 0x3A)   # e_shentsize, e_shnum, e_shstrndx

    def section(index: int) -> tuple[int, bytes]:
        """Offset of its name, and its bytes."""
        name, = struct.unpack_from("<I", elf, table + index * size)
        offset, length = struct.unpack_from("<2Q", elf, table + index * size + 0x18)
        return name, elf[offset:offset + length]

    names = section(names_at)[1]
    for name, data in map(section, range(count)):
        if names[name:names.index(b"\0", name)] == SECTION:
            pairs = (text.decode("utf-8", "replace").partition("=") for text in data.split(b"\0") if text)
            return {key: value for key, _, value in pairs}
    return {}


def order(folder: Path, wanted: Sequence[str]) -> list[Path]:
    """Files of `wanted` and all they depend on, each after what it needs, without what the kernel has built in.

    folder  lib/modules/VERSION of a kernel package. Raises BadInput for a module that is not there.
    """
    files = {_name(path.name): path for path in sorted(folder.rglob("*.ko"))}
    built_in = {_name(line) for line in (folder / "modules.builtin").read_text().split()}
    found: dict[str, Path] = {}
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen or name in built_in:
            return
        seen.add(name)
        if name not in files:
            raise BadInput(f"this kernel has no module {name}")
        for needed in filter(None, info(files[name].read_bytes()).get("depends", "").split(",")):
            visit(_name(needed))
        found[name] = files[name]

    for name in wanted:
        visit(_name(name))
    return list(found.values())
