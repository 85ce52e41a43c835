"""The header of a .bit file: for which part a design was made.

Keys and lengths, as fpga-faq.com FAQ_Pages/0026_Tell_me_about_bit_files.htm describes them: a field of 9 bytes,
the number 1, then `a` design name, `b` part, `c` date and `d` time, each with its length in two bytes and a NUL at
its end, and `e` with the length of the design in four.
"""

from __future__ import annotations

import re

from hwkit.describe import Frozen
from hwkit.errors import BadInput

MAGIC = bytes.fromhex("0009" "0ff00ff00ff00ff000" "0001")
FIELDS = {"a": "design", "b": "part", "c": "date", "d": "time"}
# device, then package; the speed grade and the temperature range follow
PART = re.compile(r"(?:xc)?([a-z]*\d+[a-z0-9]*?)-?([a-z]{3,4}\d{3,4})")


class Header(Frozen):
    """part: "xczu7ev-ffvc1156-2-e", or of older families "7z020clg400"."""

    design: str
    part: str
    date: str
    time: str


def header(data: bytes) -> Header:
    """From the first bytes of a .bit file, 512 do. Raises BadInput where they are none."""
    if not data.startswith(MAGIC):
        raise BadInput("not a .bit file: it has no header", "write_bitstream of the vendor's tool makes one")
    at, found = len(MAGIC), {}
    for key, name in FIELDS.items():
        end = at + 3 + int.from_bytes(data[at + 1:at + 3], "big")
        if data[at:at + 1] != key.encode() or end > len(data):
            raise BadInput(f"not a .bit file: its header has no {name}")
        found[name] = data[at + 3:end].rstrip(b"\0").decode("utf-8", "replace")
        at = end
    return Header(**found)


def same_device(one: str, other: str) -> bool:
    """Whether two spellings name the same device in the same package; the speed grade may differ."""
    first, second = PART.match(one.lower()), PART.match(other.lower())
    return first is not None and second is not None and first.groups() == second.groups()
