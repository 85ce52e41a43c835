"""What verbs share: options, progress on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hwkit.errors import BadInput

if TYPE_CHECKING:
    from pydantic import BaseModel

    from hwkit.board import Board
    from hwkit.lab import Place
    from hwkit.pipeline import Wanted
    from hwkit.runners import Request

F = TypeVar("F", bound=Callable[..., Any])
WIDTH_WHEN_PIPED = 120


def _stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    def apply(f: F) -> F:
        for option in reversed(options):
            f = option(f)
        return f
    return apply


json_option = click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
out_option = click.option("-o", "--out", type=click.Path(path_type=Path), help="Where to write.")
target_option = click.option("--target", "targets", multiple=True, required=True, metavar="NAME",
                             help="Target to deploy on; repeat for several.")
budget_option = click.option("--budget", "budget_file", type=click.Path(path_type=Path),
                             help="Budget file (TOML).")
model_options = _stack(
    click.argument("model"),
    click.option("--precision", metavar="NAME", help="f32, f16, dynamic or int8 (the default)."),
    click.option("--dataset", metavar="NAME", help="Real inputs and labels for MODEL; see `hwkit list datasets`."),
    click.option("--data", type=click.Path(path_type=Path),
                 help="Your own inputs: .npz with calibration, images and, if you like, labels."),
    click.option("--input-shape", metavar="C,H,W", help="Shape of one input where the file does not tell."),
    click.option("--backend", metavar="NAME", help="One of the target's; default: the first that can."),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
                 help="A backend option; repeat for several."))
request_options = _stack(
    click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True),
    click.option("--warmup", type=click.IntRange(0), default=5, show_default=True),
    click.option("--iterations", type=click.IntRange(1), default=30, show_default=True, help="At least so many."),
    click.option("--duration", type=click.FloatRange(0), default=3.0, show_default=True,
                 help="At least so long (s)."),
    click.option("--no-operators", is_flag=True, help="Skip the cost of each operator."),
    click.option("--energy/--no-energy", default=None,
                 help="Energy of an inference [default: where time is real]."),
    click.option("--energy-operators", type=click.IntRange(0), default=0, metavar="N",
                 help="Energy of the N heaviest operators too, by differential runs: some 40 s each."))


def wanted(model: str, precision: str | None, dataset: str | None, data: Path | None, input_shape: str | None,
           settings: Sequence[str], backend: str | None = None) -> Wanted:
    """The model options as one value."""
    from hwkit.pipeline import Wanted

    options = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise BadInput(f"--set {setting}: not KEY=VALUE", "e.g. --set golden=16")
        options[key] = value
    if precision:
        options["precision"] = precision
    shape = None
    if input_shape:
        if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", input_shape):
            raise BadInput(f"--input-shape {input_shape}: not positive whole numbers with commas",
                           "e.g. --input-shape 1,28,28")
        shape = tuple(map(int, input_shape.split(",")))
    if data is not None and not data.is_file():
        raise BadInput(f"--data {data}: no such file", "numpy.savez(FILE, calibration=..., images=...) makes one")
    return Wanted(model=model, dataset=dataset, data=data.resolve() if data else None, input_shape=shape,
                  backend=backend, options=options)


def request(threads: int, warmup: int, iterations: int, duration: float, no_operators: bool,
            energy: bool | None = None, energy_operators: int = 0) -> Request:
    from hwkit.runners import Request

    return Request(threads=threads, warmup=warmup, iterations=iterations, duration_s=duration,
                   operators=not no_operators, energy=energy, energy_operators=energy_operators)


def place_of(chosen: Board) -> Place | None:
    """Where a board is reached over ssh, of the lab or virtual; None for one that is not.

    Raises BoardError for a virtual board that does not run.
    """
    if chosen.runner != "virtual":
        return chosen.place
    from hwkit import virtual

    return virtual.place(chosen)


def reproduce() -> str:
    """The command as it was typed."""
    return shlex.join(["hwkit", *sys.argv[1:]])


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """A progress line on stderr. A step that says "3 of 10" moves the bar.

    Without a terminal each new step is one plain line.
    """
    from rich.console import Console

    console = Console(stderr=True)
    counted = re.compile(r"^(.*?):?\s*\b(\d+) of (\d+)\b")
    if not console.is_terminal:
        seen: set[str] = set()

        def plain(text: str) -> None:
            found = counted.match(text)
            step = found[1].strip() if found else text
            if step not in seen:
                seen.add(step)
                click.echo(f"{what}: {step}", err=True)
        yield plain
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

    with Progress(SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TaskProgressColumn(),
                  TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def moved(text: str) -> None:
            found = counted.match(text)
            if found:
                bar.update(task, description=f"{what}: {found[1]}", completed=int(found[2]), total=int(found[3]))
            else:
                bar.update(task, description=f"{what}: {text}", total=None)
        yield moved


def emit(value: BaseModel | Any, as_json: bool, drawn: Any) -> None:
    """The result on stdout: JSON, or what rich draws."""
    if as_json:
        plain = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        click.echo(json.dumps(plain, indent=2, sort_keys=True, allow_nan=False))
        return
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(drawn)
        return
    plain = Console(width=WIDTH_WHEN_PIPED)
    with plain.capture() as captured:
        plain.print(drawn)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
