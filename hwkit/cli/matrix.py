"""hwkit matrix: models x precisions x boards, with a journal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from hwkit.errors import BadInput

if TYPE_CHECKING:
    from hwkit.matrix.cells import Matrix

OF_ANY = ("file", "again", "out", "as_json")


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--model", "models", multiple=True, metavar="MODEL", help="A model; repeat for several.")
@click.option("--precision", "precisions", multiple=True, metavar="NAME",
              help="Repeat for several; default: what each backend takes by itself.")
@click.option("--board", "boards", multiple=True, metavar="NAME", help="Where to run; repeat for several.")
@click.option("--dataset", metavar="NAME", help="Real inputs and labels for every model.")
@click.option("--retries", type=click.IntRange(0, 100), default=3, show_default=True,
              help="Tries after the first, when a board's fault may pass.")
@request_options
@budget_option
@click.option("--again", is_flag=True, help="Do everything anew, also what is finished.")
@out_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, file: Path | None, again: bool, out: Path | None, as_json: bool,
            **options: Any) -> None:
    """Build every model at every precision for every board, run it there, and report each.

    FILE is a matrix in TOML; without one, --model and --board say what it is. Several boards run at once. The same
    command again goes on where the last one ended, even if that was killed: what is finished is kept, what failed
    is tried again.
    """
    from rich.console import Group
    from rich.text import Text

    from hwkit import pipeline
    from hwkit.matrix import cells, standing, work
    from hwkit.render import table

    wanted = cells.read(file) if file else _by_options(**options)
    typed = [p.opts[0] for p in ctx.command.params if p.name not in OF_ANY
             and ctx.get_parameter_source(p.name or "") == click.core.ParameterSource.COMMANDLINE]
    if file and typed:
        raise BadInput(f"{typed[0]} and a matrix file exclude each other", f"write it into {file}")
    folder = out or pipeline.OUT / "matrix" / wanted.title
    with progress("matrix") as say:
        try:
            found, reports = work.execute(wanted, folder, again, reproduce(), say)
        except KeyboardInterrupt:
            say("the same command again goes on from here")
            raise
    good = found.exit_code == 0
    emit(found, as_json, Group(*(table(s) for s in standing.sections(found, reports)),
                               Text(standing.last_line(found), style="bold green" if good else "bold red"),
                               Text(f"reports and journal: {folder}")))
    raise SystemExit(found.exit_code)


def _by_options(models: tuple[str, ...], precisions: tuple[str, ...], boards: tuple[str, ...], dataset: str | None,
                retries: int, budget_file: Path | None, **asked: Any) -> Matrix:
    from hwkit.describe import validated
    from hwkit.matrix.cells import Matrix

    hint = "hwkit matrix FILE.toml, or --model NAME --board NAME"
    if not models or not boards:
        raise BadInput(f"no {'--board' if models else '--model'}, and no matrix file", hint)
    return validated({"models": [{"model": m, "dataset": dataset} for m in models], "precisions": precisions,
                      "boards": boards, "request": request(**asked).model_dump(), "retries": {"limit": retries},
                      "budget": budget_file}, Matrix, "the options", hint)
