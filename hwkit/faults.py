"""What can go wrong between hwkit and a board, and whether trying again can help."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """A kind of failure. Every error of a board in the loop is exactly one of these."""

    BOARD_LOST = "board-lost"                  # it answered, and then it was gone: switched off, crashed, rebooted
    LINK_DROPPED = "link-dropped"              # the connection ended, or could not be made, and nothing says why
    LINK_STALLED = "link-stalled"              # the connection stands, but nothing comes through, or too slowly
    CORRUPT_TRANSFER = "corrupt-transfer"      # what arrived is not what was sent
    THROTTLED = "throttled"                    # too hot or short of power: its times are not those of the board
    BUSY = "busy"                              # someone else measures on it
    UNKNOWN_HOST = "unknown-host"              # no such name
    HOST_KEY = "host-key"                      # it is not known, or not the machine that is known by this name
    LOGIN_REFUSED = "login-refused"            # none of our keys is accepted
    PROCESS_FAILED = "process-failed"          # the program or the engine ended with an error
    OUT_OF_MEMORY = "out-of-memory"
    DISK_FULL = "disk-full"
    WRONG_BOARD = "wrong-board"                # another architecture, part or version than the artifact is for
    MISSING = "missing"                        # Python, a runtime or a program that is not there
    TIMEOUT = "timeout"                        # the program ran longer than it may
    INTERRUPTED = "interrupted"                # by the user

    @property
    def transient(self) -> bool:
        """Whether the same thing may go well a moment later."""
        return self in _TRANSIENT


_TRANSIENT = frozenset({Fault.BOARD_LOST, Fault.LINK_DROPPED, Fault.LINK_STALLED, Fault.CORRUPT_TRANSFER,
                        Fault.THROTTLED, Fault.BUSY})
