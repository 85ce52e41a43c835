"""hwkit toolchain: install the tools that need an environment of their own."""

from __future__ import annotations

import click

from hwkit.cli._common import emit, json_option, progress


@click.group()
def command() -> None:
    """Install tools that cannot share hwkit's own environment, or list them."""


@command.command()
@click.argument("name")
@json_option
def install(name: str, as_json: bool) -> None:
    """Install toolchain NAME into the cache: pinned, once, whole or not at all."""
    from hwkit import toolchains

    chosen = toolchains.toolchain(name)
    with progress(f"install {name}") as say:
        folder = chosen.install(say)
    emit({"toolchain": name, "folder": str(folder), "versions": chosen.versions()}, as_json,
         f"{name} is ready")


@command.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """What can be installed, and whether it is."""
    from hwkit import toolchains
    from hwkit.modules import about
    from hwkit.render import Section, table

    rows = []
    for name, text in about(toolchains):
        folder = toolchains.toolchain(name).installed()
        rows.append((name, "installed" if folder else "not installed",
                     str(folder) if folder else f"hwkit toolchain install {name}", text))
    emit([{"name": n, "installed": s == "installed", "where": w, "about": t} for n, s, w, t in rows], as_json,
         table(Section("", ("toolchain", "", "where", "about"), tuple(rows))))
