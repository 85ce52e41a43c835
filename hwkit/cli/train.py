"""hwkit train: train a zoo network on real data, on this machine's cores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwkit.cli._common import emit, json_option, out_option, progress
from hwkit.errors import BadInput

if TYPE_CHECKING:
    from hwkit.train import Recipe


def _recipe(network: str, dataset: str | None, file: Path | None, epochs: int | None) -> Recipe:
    from hwkit.describe import load
    from hwkit.train import Recipe, recipe_for

    if file is not None:
        recipe = load(file, Recipe, "the README shows a recipe")
        if (recipe.network, recipe.dataset) != (network, dataset or recipe.dataset):
            raise BadInput(f"{file} trains {recipe.network} on {recipe.dataset}, not {network} on {dataset}",
                           f"hwkit train {recipe.network} --recipe {file}")
    else:
        recipe = recipe_for(network, dataset)
    return recipe.model_copy(update={"epochs": epochs}) if epochs else recipe


@click.command()
@click.argument("network")
@click.option("--dataset", metavar="NAME", help="Default: the one the shipped weights were trained on.")
@click.option("--recipe", "recipe_file", type=click.Path(path_type=Path), help="Recipe (TOML).")
@click.option("--seeds", default="0,1,2,3,4", show_default=True, metavar="N,N,...")
@click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Seeds trained at once.")
@out_option
@json_option
def command(network: str, dataset: str | None, recipe_file: Path | None, seeds: str, epochs: int | None, jobs: int,
            out: Path | None, as_json: bool) -> None:
    """Train NETWORK (see `hwkit list networks`) once per seed; keep the weights of the median seed.

    Choices are made on the validation split; the test split is read once per seed, after training.
    """
    from hwkit import zoo
    from hwkit.errors import UnknownName
    from hwkit.render import Section, table
    from hwkit.train import Progress, save, train_seeds
    from hwkit.units import percent

    if network not in zoo.names():
        raise UnknownName("network", network, zoo.names())
    try:
        chosen = [int(s) for s in seeds.split(",")]
    except ValueError:
        raise BadInput(f"--seeds {seeds}: not whole numbers with commas", "e.g. --seeds 0,1,2,3,4") from None
    recipe = _recipe(network, dataset, recipe_file, epochs)
    where: dict[int, float] = {}
    with progress(f"train {network} on {recipe.dataset}") as say:
        def watch(p: Progress) -> None:
            where[p.seed] = (p.epoch + (p.batch + 1) / p.batches) / p.epochs
            say(f"{len(chosen)} seeds: {int(100 * sum(where.values()) / len(chosen))} of 100")
        trained, result = train_seeds(recipe, chosen, jobs, watch)
    path = save(trained, result, out or Path("hwkit-out") / "weights")
    rows = [(str(r.seed), percent(r.validation), percent(r.test), str(r.epoch), f"{r.train_s:.0f}")
            for r in result.seeds]
    rows.append(("mean ± sd", "", f"{percent(result.test_mean)} ± {100 * result.test_sd:.2f}", "", ""))
    emit({"weights": str(path), **result.model_dump(mode="json")}, as_json,
         table(Section(f"{network} on {recipe.dataset}; seed {result.shipped_seed} kept in {path}",
                             ("seed", "validation", "test", "epoch kept", "seconds"), tuple(rows), (1, 2, 3, 4))))
