"""hwkit run: execute an artifact on a board."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hwkit.cli._common import (
    budget_option,
    emit,
    json_option,
    out_option,
    progress,
    reproduce,
    request,
    request_options,
)


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--board", "board_name", metavar="NAME", help="Where to run; see `hwkit list boards`.")
@click.option("--results", type=click.Path(path_type=Path),
              help="Execute nothing: the plan was executed elsewhere, and this is the folder it left (board/out).")
@request_options
@budget_option
@out_option
@json_option
def command(artifact: Path, board_name: str | None, results: Path | None, budget_file: Path | None,
            out: Path | None, as_json: bool, **options: Any) -> None:
    """Execute ARTIFACT (a folder made by build or deploy) on a board and report what it cost there."""
    from hwkit import budget, pipeline
    from hwkit.artifact import open_artifact
    from hwkit.errors import BadInput
    from hwkit.render import as_text
    from hwkit.report import Reports

    opened = open_artifact(artifact)
    limits = budget.read(budget_file) if budget_file else None
    chosen = (pipeline.carried(opened.manifest.target, results) if results is not None else
              pipeline.board_for(opened.manifest.target, board_name))
    if chosen is None:
        raise BadInput(f"no board of target {opened.manifest.target} is known", "hwkit list boards")
    with progress(f"run on {chosen.name}") as say:
        report = pipeline.report_on(opened, chosen, limits, request(**options), reproduce(), say)
    reports = Reports(reports=(report,))
    if out:
        pipeline.save(reports, out)
    emit(reports, as_json, as_text(reports.reports))
    raise SystemExit(0 if report.ok else 1)
