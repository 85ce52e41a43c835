"""hwkit report: show what earlier runs found."""

from __future__ import annotations

from pathlib import Path

import click

from hwkit.cli._common import emit, json_option


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--markdown", is_flag=True, help="As markdown instead of tables.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of a report and stop.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write report.json and report.md there.")
@json_option
def command(paths: tuple[Path, ...], markdown: bool, schema: bool, out: Path | None, as_json: bool) -> None:
    """Show the reports in PATHS (artifact folders or report.json files); several are compared at the end."""
    import json

    from hwkit import pipeline
    from hwkit.render import as_markdown, as_text
    from hwkit.report import Reports, read

    if schema:
        click.echo(json.dumps(Reports.model_json_schema(), indent=2, sort_keys=True))
        return
    if not paths:
        raise click.UsageError("name at least one artifact folder or report.json", click.get_current_context())
    found = Reports(reports=tuple(r for p in paths for r in read(p).reports))
    if out:
        pipeline.save(found, out)
    if markdown and not as_json:
        click.echo(as_markdown(found.reports))
        return
    emit(found, as_json, as_text(found.reports))
