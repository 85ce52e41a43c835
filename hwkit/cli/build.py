"""hwkit build: compile for a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hwkit.cli._common import emit, json_option, model_options, out_option, progress, target_option, wanted


@click.command()
@model_options
@target_option
@out_option
@json_option
def command(targets: tuple[str, ...], out: Path | None, as_json: bool, data: Path | None, **model: Any) -> None:
    """Compile MODEL for each target into a folder, checked against the trained network; run nothing there."""
    from hwkit import pipeline
    from hwkit.render import MARK, Section, table

    built = []
    for t in targets:
        place = out / t if out and len(targets) > 1 else out
        with progress(f"build for {t}") as say:
            built.append(pipeline.build(wanted(data=data, **model), t, place, say))
    rows = []
    for a in built:
        rows.append((a.manifest.target, "artifact", "", f"{a.folder} (digest {a.manifest.digest[:16]})"))
        rows += [(a.manifest.target, f.name, MARK[f.ok], f.text) for f in a.manifest.built.findings]
    emit([{"folder": str(a.folder), "manifest": a.manifest.model_dump(mode="json")} for a in built], as_json,
         table(Section("", ("target", "check", "", "what was found"), tuple(rows))))
    if any(f.ok is False for a in built for f in a.manifest.built.findings):
        raise SystemExit(1)
