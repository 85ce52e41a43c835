"""The kernel's initramfs format, cpio "newc": Documentation/driver-api/early-userspace/buffer-format.rst of Linux.

Everything in it belongs to root, whoever writes it.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import PurePosixPath

TRAILER = "TRAILER!!!"
ALIGN = 4


def _record(name: str, mode: int, data: bytes, number: int) -> bytes:
    """One file: thirteen numbers of eight hexadecimal digits, the name, the bytes; both padded to ALIGN."""
    path = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + bytes(-len(head) % ALIGN) + data + bytes(-len(data) % ALIGN)


def archive(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    """An archive of files: path without a leading "/" -> (contents, permissions). Folders are added.

    The kernel accepts several archives one after the other.
    """
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
    records = [(folder, stat.S_IFDIR | 0o755, b"") for folder in sorted(folders)]
    records += [(path, stat.S_IFREG | mode, data) for path, (data, mode) in sorted(files.items())]
    body = b"".join(_record(*record, number) for number, record in enumerate(records))
    return body + _record(TRAILER, 0, b"", 0)
