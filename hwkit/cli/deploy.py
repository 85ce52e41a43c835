"""hwkit deploy: build, execute, judge, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hwkit.cli._common import (
    budget_option,
    emit,
    json_option,
    model_options,
    out_option,
    progress,
    reproduce,
    request,
    request_options,
    target_option,
    wanted,
)

MODEL_KEYS = ("model", "precision", "dataset", "data", "input_shape", "settings", "backend")


@click.command()
@model_options
@target_option
@click.option("--board", "board_name", metavar="NAME", help="Where to run; default: a board that needs no lab.")
@request_options
@budget_option
@out_option
@json_option
def command(targets: tuple[str, ...], board_name: str | None, budget_file: Path | None, out: Path | None,
            as_json: bool, **options: Any) -> None:
    """Take MODEL to each target: compile, check against the trained network, execute, hold against the budget.

    Of several targets a comparison follows.

    MODEL is a zoo name (see `hwkit list networks`), a .pt2, .onnx, .keras, .tflite or SavedModel, or
    file.py:factory.
    """
    from hwkit import budget, pipeline
    from hwkit.files import write
    from hwkit.render import as_text, comparison_markdown

    limits = budget.read(budget_file) if budget_file else None
    model = wanted(**{k: options.pop(k) for k in MODEL_KEYS})
    with progress("deploy") as say:
        reports = pipeline.deploy(model, targets, board_name, limits, request(**options), out, reproduce(), say)
    if out and len(reports.reports) > 1:
        write(out / "comparison.md", "\n".join(comparison_markdown(reports.reports)))
    emit(reports, as_json, as_text(reports.reports))
    raise SystemExit(0 if all(r.ok for r in reports.reports) else 1)
