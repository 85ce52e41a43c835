"""hwkit list: what can be named."""

from __future__ import annotations

import click

from hwkit.cli._common import emit, json_option
from hwkit.errors import UnknownName

NOUNS = ("targets", "boards", "backends", "passes", "networks", "datasets", "runners")


def _rows(noun: str) -> list[tuple[str, str]]:
    """(name, one line about it), sorted by name."""
    if noun == "targets":
        from hwkit import target
        return [(t.name, f"{t.description}; {', '.join(t.precisions)}")
                for t in map(target.target, target.names())]
    if noun == "boards":
        from hwkit import board, lab
        return [(b.name, f"{b.kind}: {b.description} (target {b.target}, runner {b.runner})")
                for b in map(board.board, [*board.names(), *sorted(lab.entries())])]
    import importlib

    from hwkit.modules import about

    package = {"passes": "compress", "networks": "zoo"}.get(noun, noun)
    rows = about(importlib.import_module(f"hwkit.{package}"))
    if noun == "datasets":       # named with "-", their files with "_"
        return [(name.replace("_", "-"), text) for name, text in rows]
    if noun == "networks":
        return [(name, text + _weights(name)) for name, text in rows]
    return rows


def _weights(network: str) -> str:
    """Which trained weights are shipped for a network."""
    from hwkit import zoo

    known = [w for w in zoo.trained() if w.partition("@")[0] == network]
    return f" Weights: {', '.join(known)}." if known else ""


@click.command()
@click.argument("noun", metavar=f"{{{'|'.join(NOUNS)}}}")
@json_option
def command(noun: str, as_json: bool) -> None:
    """List targets, boards, backends, passes, networks, datasets or runners."""
    from hwkit.render import Section, table

    if noun not in NOUNS:
        raise UnknownName("noun to list", noun, NOUNS, "hwkit list --help")
    rows = _rows(noun)
    emit([{"name": n, "about": a} for n, a in rows], as_json,
         table(Section("", (noun, "about"), tuple(rows))) if rows else f"no {noun} yet")
