"""[options] of a board whose runner is "virtual"."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from hwkit.board import Board
from hwkit.describe import Frozen, Name, validated
from hwkit.errors import BadInput

RUNNER = "virtual"
CPUS = ("cortex-a53", "cortex-a72", "cortex-a76")
LEAST_BYTES = 256 * 2**20


def _emulated(cpu: str) -> str:
    if cpu == "max":
        raise PydanticCustomError("cpu", "'max' gives wrong int8 results on QEMU 7.2: name the board's core")
    if cpu not in CPUS:
        raise PydanticCustomError("cpu", "not an emulated core; known: {known}", {"known": ", ".join(CPUS)})
    return cpu


class Rails(Frozen):
    """The simulated sensors, see boards/payloads/rails.py. The numbers are a model's: no board was measured.

    sensor            the chip whose files are imitated
    idle_w, dynamic_w power = idle_w + load x dynamic_w, load of all cores in [0, 1], at the full clock
    volts_v           of the one rail
    ambient_c, kelvin_per_w, time_constant_s   temperature goes to ambient_c + power x kelvin_per_w
    clock_hz, throttled_hz   the core's clock, and what it falls to at throttle_c or above
    """

    sensor: Annotated[str, Field(pattern="^(ina226|ina3221)$")] = "ina226"
    idle_w: float = Field(gt=0)
    dynamic_w: float = Field(ge=0)
    volts_v: float = Field(gt=0)
    ambient_c: float = 25.0
    kelvin_per_w: float = Field(default=6.0, ge=0)
    time_constant_s: float = Field(default=60.0, gt=0)
    clock_hz: float = Field(gt=0)
    throttled_hz: float = Field(gt=0)
    throttle_c: float = 80.0


class Options(Frozen):
    """cores and clock of the deterministic mode are its own: one, and an instruction a nanosecond.

    boot_s   patience with the guest, from its start to the first answer over ssh
    """

    cpu: Annotated[Name, AfterValidator(_emulated)]
    cores: int = Field(default=4, ge=1, le=8)
    memory_bytes: int = Field(default=2**30, ge=LEAST_BYTES)
    boot_s: float = Field(default=180.0, gt=0)
    rails: Rails


def options(board: Board) -> Options:
    """The options of a virtual board. Raises BadInput for another kind of board, BadDescription."""
    if board.runner != RUNNER:
        raise BadInput(f"board {board.name} is not virtual: it is reached by {board.runner}, there is nothing to "
                       "start", "hwkit board list")
    return validated(board.options, Options, f"boards/{board.name}.toml [options]")
