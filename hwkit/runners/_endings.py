"""How things end on a board, as faults: what the agent refuses, the agent itself, a program."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hwkit.errors import BoardFault
from hwkit.faults import Fault
from hwkit.lab import Place

LAST_LINES = 200               # of a program, kept as its log
# what Python, the C library and the shell say
FULL = ("No space left on device", "Disk quota exceeded", "File too large")
FOREIGN = ("Exec format error", "wrong ELF class", "invalid ELF header", "Illegal instruction")
MISSING = re.compile(r"ModuleNotFoundError: No module named '([^']+)'|"
                     r"([\w.+-]+): cannot open shared object file: No such file")


def refused(answer: Mapping[str, Any], place: Place) -> BoardFault:
    """What the agent says it cannot do."""
    kind, text = Fault(answer["error"]), answer.get("text", "")
    match kind:
        case Fault.BUSY:
            return BoardFault(kind, f"{place.text} is taken by {text}", "run it again when they are done")
        case Fault.DISK_FULL:
            return BoardFault(kind, f"the disk of {place.text} is full ({text})",
                              "make room there, or name another folder as `scratch` in the lab file")
        case _:
            return BoardFault(kind, f"{place.text}: {text}")


def of_agent(code: int | None, signal: str | None, said: str, place: Place) -> BoardFault:
    """The agent itself ended while the link stood."""
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    if code in (126, 127):
        return BoardFault(Fault.MISSING, f"{place.text} has no {place.python}: {last:.120}",
                          "install Python there, or name it as `python` in the lab file")
    how = f"by signal {signal}" if signal else f"with code {code}"
    if any(words in said for words in FULL):
        return BoardFault(Fault.DISK_FULL, f"the disk of {place.text} is full", "make room there")
    if signal == "KILL":
        return BoardFault(Fault.OUT_OF_MEMORY,
                          f"the agent on {place.text} was killed, as a rule for want of memory",
                          "free memory there")
    return BoardFault(Fault.PROCESS_FAILED,
                      f"the agent on {place.text} ended {how}: {last or 'it said nothing':.200}",
                      f"ssh -p {place.port} {place.user}@{place.host} {place.python} --version", said)


def require_good(header: Mapping[str, Any], lines: Sequence[str], what: str, timeout_s: float) -> None:
    """Raise the fault of a program that did not end well."""
    code = header["exit"]
    if code == 0:
        return
    log = "\n".join(lines[-LAST_LINES:])
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
    if header["expired"]:
        raise BoardFault(Fault.TIMEOUT, f"{what}: took longer than {timeout_s:g} s on the board",
                         "a larger timeout_s in the lab file, or a shorter run", log)
    if header["oom"] or "MemoryError" in log or "bad_alloc" in log or "Cannot allocate memory" in log:
        raise BoardFault(Fault.OUT_OF_MEMORY, f"{what}: out of memory on the board",
                         "a smaller network or precision", log)
    if any(words in log for words in FULL):
        raise BoardFault(Fault.DISK_FULL, f"{what}: the board's disk is full", "make room there", log)
    missing = MISSING.search(log)
    if missing:
        raise BoardFault(Fault.MISSING, f"{what}: the board has no {missing[1] or missing[2]}",
                         "install it there, or leave it to hwkit: remove `site` from the lab file", log)
    if any(words in log for words in FOREIGN) or code in (-4, 132):
        raise BoardFault(Fault.WRONG_BOARD, f"{what}: the board's processor cannot execute it: {last:.200}",
                         "hwkit doctor --board BOARD", log)
    how = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
    raise BoardFault(Fault.PROCESS_FAILED, f"{what}: {how}: {last:.300}", log=log)
