"""hwkit board: make simulated boards ready; start and stop the virtual ones."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import click

from hwkit.cli._common import emit, json_option, progress

if TYPE_CHECKING:
    from hwkit.board import Board


@click.group()
def command() -> None:
    """Make simulated boards ready; start and stop the virtual ones."""


@command.command()
@click.argument("name")
@json_option
def make(name: str, as_json: bool) -> None:
    """Make board NAME ready: fetch and build what its runner needs, once, into the cache."""
    from hwkit import runners
    from hwkit.board import board

    chosen = board(name)
    with progress(f"make {name}") as say:
        runners.runner(chosen.runner).make(chosen, say)
    emit({"board": name, "ready": True}, as_json, f"{name} is ready")


@command.command()
@click.argument("name")
@click.option("--deterministic", is_flag=True, help="One core; its clock counts instructions, 1 ns each.")
@click.option("--memory", type=click.IntRange(1), metavar="MB", help="Instead of what its description says.")
@click.option("--port", type=click.IntRange(1, 65535), help="For its ssh, on the loopback; default: a free one.")
@json_option
def start(name: str, deterministic: bool, memory: int | None, port: int | None, as_json: bool) -> None:
    """Boot virtual board NAME and wait until it answers over ssh."""
    from hwkit.virtual import machine

    chosen = _virtual(name)
    with progress(f"start {name}") as say:
        found = machine.start(chosen, say, deterministic=deterministic,
                              memory_bytes=memory * 2**20 if memory else None, port=port)
    emit({"board": name, **found.model_dump()}, as_json,
         f"{name} runs, its clock is {found.clock}\nssh -F {machine.folder(name) / machine.SSH_CONFIG} {name}")


@command.command()
@click.argument("name")
@json_option
def stop(name: str, as_json: bool) -> None:
    """End virtual board NAME, frozen or not; its disk forgets what was written."""
    from hwkit.virtual import machine

    ran = machine.stop(_virtual(name).name)
    emit({"board": name, "ran": ran}, as_json, f"{name} is stopped" if ran else f"{name} did not run")


@command.command()
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """End virtual board NAME and delete its keys; the image that it shares with others stays in the cache."""
    from hwkit.virtual import machine

    was = machine.remove(_virtual(name).name)
    emit({"board": name, "was_made": was}, as_json, f"{name} is removed" if was else f"{name} was not made")


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the boards that hwkit can make, and which virtual ones run."""
    from hwkit.render import Section, table

    rows = _made()
    drawn = [(r["board"], r["state"], r["detail"]) for r in rows]
    emit(rows, as_json, table(Section("", ("board", "", "detail"), tuple(drawn))))


def _made() -> list[dict[str, str]]:
    """Simulated boards with what there is of them."""
    from hwkit import runners
    from hwkit.board import board, names
    from hwkit.virtual import machine
    from hwkit.virtual.options import RUNNER

    rows = []
    for chosen in map(board, names()):
        if chosen.kind != "simulated":
            continue
        state, detail = "not made" if runners.unready(chosen) else "ready", chosen.description
        found = machine.state(chosen.name) if chosen.runner == RUNNER else None
        if found is not None:
            since = datetime.datetime.fromtimestamp(found.started_s).strftime("%H:%M:%S")
            state = "running"
            detail = (f"clock {found.clock}, {found.cores} x {found.cpu}, {found.memory_bytes // 2**20} MB, "
                      f"port {found.port}, process {found.pid}, since {since}")
        rows.append({"board": chosen.name, "state": state, "detail": detail})
    return rows


def _virtual(name: str) -> Board:
    """The board of that name. Raises BadInput when it is not virtual."""
    from hwkit.board import board
    from hwkit.virtual.options import options

    chosen = board(name)
    options(chosen)
    return chosen
