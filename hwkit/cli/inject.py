"""hwkit inject: make a board or its link fail, to see what becomes of a run."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Literal

import click

from hwkit.cli._common import emit, json_option, place_of, progress

if TYPE_CHECKING:
    from hwkit.lab import Place

DEEDS = ("kill", "freeze", "thaw", "reset")


@click.group()
def command() -> None:
    """Make a board or its link fail on purpose. For tests: never beside a measurement that counts."""


def _place(name: str) -> Place:
    from hwkit.board import board
    from hwkit.errors import BadInput

    found = place_of(board(name))
    if found is None:
        raise BadInput(f"board {name} is not reached over ssh: nothing can be injected", "hwkit list boards")
    return found


@command.command()
@click.option("--board", "name", required=True, metavar="NAME", help="A board of your lab.")
@click.option("--towards", type=click.Choice(["board", "host", "both"]), default="both", show_default=True)
@click.option("--drop-after", type=click.IntRange(0), metavar="BYTES", help="Abort the connection there.")
@click.option("--stall-after", type=click.IntRange(0), metavar="BYTES", help="Carry nothing more, close nothing.")
@click.option("--truncate-after", type=click.IntRange(0), metavar="BYTES", help="End this direction there.")
@click.option("--corrupt-after", type=click.IntRange(0), metavar="BYTES", help="Invert one bit there.")
@click.option("--delay", "delay_s", type=click.FloatRange(0), default=0.0, metavar="S", help="Before each piece.")
@click.option("--bytes-per-s", type=click.FloatRange(0, min_open=True), metavar="N", help="At most so fast.")
@click.option("--connections", type=click.IntRange(1), metavar="N", help="Disturb only the first N.")
@click.option("--seed", type=int, default=0, help="Which bit.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="On the loopback; default: a free one.")
@click.option("--seconds", type=click.FloatRange(0), metavar="S", help="End by itself after so long.")
def proxy(name: str, port: int, seconds: float | None, **faults: Any) -> None:
    """A bad link: prints the lab entry of the same board behind it, and carries until Ctrl-C."""
    from hwkit import lab
    from hwkit.describe import toml_text
    from hwkit.errors import BadInput
    from hwkit.inject.proxy import proxy as behind

    own = lab.entries().get(name)
    if own is None:
        raise BadInput(f"{name} is no board of your lab, and a proxy is used through a second entry of the lab",
                       "for a virtual board: hwkit inject guest NAME freeze")
    with behind(_place(name), port=port, **faults) as made:
        about = own.model_copy(update=made.place.model_dump(include={"host", "port", "known_hosts"}))
        entry = about.model_dump(mode="json", exclude_defaults=True)
        click.echo(f"[boards.{name}-proxy]\n{toml_text(entry, f'boards.{name}-proxy.')}")
        sys.stdout.flush()
        until = time.monotonic() + (seconds if seconds is not None else float("inf"))
        try:
            while time.monotonic() < until:
                time.sleep(0.2)
        except KeyboardInterrupt:
            pass
        click.echo(f"carried {made.carried['board']} bytes to the board, {made.carried['host']} back", err=True)


@command.command()
@click.argument("name")
@click.argument("settings", nargs=-1, metavar="[power_w=X] [temperature_c=X] [clock_hz=X]")
@click.option("--leave-bytes", type=click.IntRange(0), help="Fill the disk that runs have their scratch on.")
@click.option("--kill", "which", type=click.Choice(["program", "agent"]), help="What runs there for hwkit.")
@click.option("--clear", is_flag=True, help="Take back a full disk and settings.")
@json_option
def board(name: str, settings: tuple[str, ...], leave_bytes: int | None, which: Literal["program", "agent"] | None,
          clear: bool, as_json: bool) -> None:
    """Faults on board NAME. Settings are what the simulated sensors of a virtual board show from now on."""
    from hwkit.errors import BadInput
    from hwkit.inject import onboard

    values = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        try:
            values[key] = float(value)
        except ValueError:
            values[key] = float("nan")
        if key not in onboard.OVERRIDES or values[key] != values[key]:
            raise BadInput(f"{setting}: not one of {'=X, '.join(onboard.OVERRIDES)}=X", "e.g. temperature_c=95")
    place, done = _place(name), {}
    if values and place.sensors_root == "/":
        raise BadInput(f"board {name} has real sensors: only those of a virtual board can be set",
                       "hwkit list boards")
    if clear:
        onboard.empty_disk(place)
    if values or (clear and place.sensors_root != "/"):
        onboard.override(place, values)
    if leave_bytes is not None:
        onboard.fill_disk(place, leave_bytes)
    if which is not None:
        done["killed"] = onboard.kill(place, which)
    emit({"board": name, "settings": values, **done}, as_json,
         f"{name}: done{''.join(f', {n} processes killed' for n in done.values())}")


@command.command()
@click.argument("name")
@click.argument("deed", type=click.Choice(DEEDS))
@click.option("--after", "after_s", type=click.FloatRange(0), default=0.0, metavar="S", help="Wait so long.")
@json_option
def guest(name: str, deed: Any, after_s: float, as_json: bool) -> None:
    """Pull the plug of virtual board NAME, freeze it, let it go on, or press its reset button."""
    from hwkit.board import board as described
    from hwkit.inject.guest import do
    from hwkit.virtual.options import options

    options(described(name))
    with progress(f"{deed} {name}") as say:
        say(f"in {after_s:g} s")
        time.sleep(after_s)
        do(name, deed)
    emit({"board": name, "deed": deed}, as_json, f"{name}: {deed}")
