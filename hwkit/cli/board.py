"""hwkit board: make a simulated board ready."""

from __future__ import annotations

import click

from hwkit.cli._common import emit, json_option, progress


@click.group()
def command() -> None:
    """Make what a simulated board needs."""


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
