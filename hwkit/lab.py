"""The lab: where the user's own boards stand. ~/.config/hwkit/lab.toml, never in a repository.

    [boards.desk-pi]                # a name of one's own, for --board
    board = "rpi4"                  # the file in boards/ that says what it is
    host = "pi.local"
    user = "pi"
    jump = "me@gateway.example:22"  # optional: the host that it stands behind

Keys are OpenSSH's: the agent, ~/.ssh, or the file named as `key`. There is no place for a password.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from hwkit.describe import Frozen, Name, NonEmpty, load
from hwkit.errors import BadDescription

HINT = 'the README shows a whole one under "Boards of your own"'
Port = Annotated[int, Field(ge=1, le=65535)]
Home = Annotated[Path, AfterValidator(lambda path: path.expanduser())]


class Meter(Frozen):
    """An external power meter that the board itself reads.

    path      a file that another program appends to, or a serial device
    columns   what the values of a line are: "time_s", "power_w", "voltage_v", "current_a", or "" for another
    """

    path: NonEmpty
    columns: tuple[str, ...] = ("power_w",)
    baud: int = 9600


class Place(Frozen):
    """Where one board stands and how it is reached.

    key           private key file; by default the agent's and OpenSSH's own
    known_hosts   OpenSSH's file of host keys; by default the user's own
    jump          "user@host:port" of the machine that it stands behind, or several with commas
    python        the interpreter there
    scratch       folder under which a run makes its own; by default the system's for temporary files
    lock          file there that is locked while someone measures; the same for all who use the board
    keep          the board may keep the runtime that was pushed to it, in its user's ~/.cache/hwkit
    site          folder on the board that holds numpy and the runtime, where one was made ready
    sensors_root  folder below which sys/ and usr/ are looked for on the board
    connect_s     patience with connecting;  silence_s: with a link that says nothing
    timeout_s     the longest that one program may run
    memory_bytes  limit of the address space of what runs there; None for none
    """

    host: NonEmpty
    user: NonEmpty
    port: Port = 22
    key: Home | None = None
    known_hosts: Home | None = None
    jump: NonEmpty | None = None
    python: NonEmpty = "python3"
    scratch: NonEmpty | None = None
    lock: NonEmpty = "/tmp/hwkit-board.lock"
    keep: bool = False
    site: NonEmpty | None = None
    sensors_root: NonEmpty = "/"
    meter: Meter | None = None
    connect_s: float = Field(default=20.0, gt=0)
    silence_s: float = Field(default=20.0, gt=0)
    timeout_s: float = Field(default=1800.0, gt=0)
    memory_bytes: int | None = Field(default=None, gt=0)

    @property
    def text(self) -> str:
        """As one would type it after ssh."""
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port != 22 else "")


class Entry(Place):
    """A table of the lab file.

    board     the file in boards/ that says what stands there
    options   of its runner, beside those of that file
    """

    board: Name
    options: dict[str, Any] = {}


def path() -> Path:
    """The lab file: $HWKIT_LAB, or hwkit/lab.toml in the user's configuration folder."""
    named = os.environ.get("HWKIT_LAB")
    base = Path(os.environ.get("XDG_CONFIG_HOME", "") or Path.home() / ".config")
    return Path(named) if named else base / "hwkit" / "lab.toml"


class Lab(Frozen):
    """The lab file."""

    boards: dict[Name, Entry] = {}


def entries() -> dict[str, Entry]:
    """All boards of the lab by name; none without a file. Raises BadDescription.

    The file tells where keys lie and which machines trust them, so that nobody else may read or change it.
    """
    file = path()
    if not file.exists():
        return {}
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise BadDescription(file, "", f"others may read or change it (mode {mode:04o})", f"chmod 600 {file}")
    return load(file, Lab, HINT).boards
