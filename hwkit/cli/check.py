"""hwkit check: would it fit there?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hwkit.cli._common import emit, json_option, model_options, progress, target_option, wanted
from hwkit.errors import BadInput


@click.command()
@model_options
@target_option
@json_option
def command(targets: tuple[str, ...], as_json: bool, data: Path | None, **model: Any) -> None:
    """Say in seconds whether MODEL can be deployed on each target, and what it would take."""
    from rich.console import Group
    from rich.text import Text

    from hwkit import pipeline
    from hwkit.render import Section, table
    from hwkit.units import shown

    with progress("check") as say:
        answers = [pipeline.check(wanted(data=data, **model), t, say) for t in targets]
    drawn: list[Any] = []
    for a in answers:
        rows = [(m.quantity, shown(m.value, m.unit),
                 f"{shown(m.low or 0, m.unit)} .. {shown(m.high or 0, m.unit)}", m.kind, m.source)
                for m in a.estimate.figures]
        columns = ("quantity", "value", "interval", "kind", "source")
        drawn.append(table(Section(f"{a.name} on {a.target}", columns, tuple(rows), (1, 2))))
        drawn += [Text(f"no estimate: {r}", style="yellow") for r in a.estimate.refused]
        drawn += [Text(("cannot be deployed: " if p.fatal else "note: ") + p.message,
                       style="bold red" if p.fatal else "yellow") for p in a.problems]
        if a.ok:
            drawn.append(Text(f"{a.name} can be deployed on {a.target}", style="green"))
    emit([a.model_dump(mode="json") for a in answers], as_json, Group(*drawn))
    bad = [a for a in answers if not a.ok]
    if bad:
        why = next(p.message for p in bad[0].problems if p.fatal)
        raise BadInput(f"{bad[0].name} cannot be deployed on {', '.join(a.target for a in bad)}: {why}",
                       "hwkit list targets, hwkit list datasets")
