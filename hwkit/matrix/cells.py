"""What a matrix is of: its file, and its cells, one for each model at each precision on each board.

    name = "nightly"                     # default: the file's name
    models = ["dsodenet@digits", "net.tflite"]
    precisions = ["int8", "f32"]         # default: what each backend takes by itself
    boards = ["host", "desk-pi"]
    budget = "budget.toml"               # this path and those of models: seen from the folder of the file
    [request]                            # as the options of `hwkit run`
    duration_s = 3.0
    [retries]                            # of transient faults
    limit = 3
    first_s = 2.0
    longest_s = 120.0

A model may also be a table [[models]]: model, and name, dataset, data, input_shape, backend, options and
precisions of its own ([] for a file that is taken as it is).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hwkit import pipeline
from hwkit.board import Board, board
from hwkit.describe import Frozen, Name, NonEmpty, load
from hwkit.errors import BadInput
from hwkit.matrix.retries import Retries
from hwkit.matrix.standing import Outcome
from hwkit.pipeline import Wanted
from hwkit.runners import Request

DEFAULT = "default"            # the precision of a backend that was told none
HINT = 'the README shows a whole one under "A matrix"'
DATA_HINT = "numpy.savez(FILE, calibration=..., images=...) makes one"


class Entry(Wanted):
    """One model. name: in tables and folders; by default made of `model`."""

    name: Name | None = None
    precisions: tuple[NonEmpty, ...] | None = None

    @property
    def label(self) -> str:
        file, colon, function = self.model.rpartition(":")
        text = f"{Path(file).stem}-{function}" if colon else self.model
        is_file = "/" in text or not Path(text).suffix[1:].isdigit()
        text = Path(text).stem if is_file else text
        return self.name or re.sub(r"[^\w.-]+", "-", text).strip("-.") or "model"


class Asked(Request):
    """A request as a file makes it."""

    threads: int = Field(default=1, ge=1, le=256)
    warmup: int = Field(default=5, ge=0)
    iterations: int = Field(default=30, ge=1)
    duration_s: float = Field(default=3.0, ge=0)


def _entry(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


class Matrix(Frozen):
    """A matrix file, as drawn above."""

    name: Name | None = None
    models: tuple[Annotated[Entry, BeforeValidator(_entry)], ...] = Field(min_length=1)
    precisions: tuple[NonEmpty, ...] = ()
    boards: tuple[Name, ...] = Field(min_length=1)
    request: Asked = Asked()
    retries: Retries = Retries()
    budget: Path | None = None

    @property
    def title(self) -> str:
        """The name, else one made of what it has: the same matrix has the same."""
        words = (*(m.label for m in self.models), *self.precisions, *self.boards)
        return self.name or "-".join(words)[:80]


@dataclass(frozen=True)
class Cell:
    """One model at one precision on one board. `name` is also its folder in the matrix's cells/."""

    model: Entry
    precision: str
    board: Board

    @property
    def build(self) -> str:
        """Name of the artifact, which cells on boards of one target share."""
        return f"{self.model.label}/{self.precision}/{self.board.target}"

    @property
    def name(self) -> str:
        return f"{self.model.label}/{self.precision}/{self.board.name}"

    @property
    def wanted(self) -> Wanted:
        options = {} if self.precision == DEFAULT else {"precision": self.precision}
        return Wanted(**{**self.model.model_dump(exclude={"name", "precisions"}),
                         "options": {**self.model.options, **options}})

    def outcome(self, **about: Any) -> Outcome:
        return Outcome(cell=self.name, model=self.model.label, precision=self.precision, board=self.board.name,
                       target=self.board.target, **about)


def read(path: Path) -> Matrix:
    """A matrix from its file. Raises BadDescription."""
    found = load(path, Matrix, HINT)
    folder = path.absolute().parent

    def near(text: str) -> str:
        file, colon, rest = text.partition(":")
        return f"{folder / file}{colon}{rest}" if (folder / file).exists() else text

    models = tuple(m.model_copy(update={"model": near(m.model), "data": folder / m.data if m.data else None})
                   for m in found.models)
    return found.model_copy(update={"name": found.name or path.stem, "models": models,
                                    "budget": folder / found.budget if found.budget else None})


def cells_of(matrix: Matrix) -> list[Cell]:
    """All cells, in order. Raises UnknownName, BadInput: a wrong word is said before anything long starts."""
    labels = [m.label for m in matrix.models]
    for label in labels:
        if labels.count(label) > 1:
            raise BadInput(f"two models of the matrix are called {label}", "give one a `name` in a matrix file")
    boards = [board(name) for name in dict.fromkeys(matrix.boards)]
    for model in matrix.models:
        pipeline.known(model)
        if model.data and not model.data.is_file():
            raise BadInput(f"{model.data}: no such file", DATA_HINT)
    return [Cell(model, precision, on) for model in matrix.models
            for precision in dict.fromkeys(_precisions(model, matrix)) for on in boards]


def _precisions(model: Entry, matrix: Matrix) -> Sequence[str]:
    own = matrix.precisions if model.precisions is None else model.precisions
    for text in own:
        if "/" in text or text.startswith("."):
            raise BadInput(f"{text!r} is not a precision", "e.g. int8, f32 or f16")
    return own or (DEFAULT,)
