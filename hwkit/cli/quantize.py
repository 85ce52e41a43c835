"""hwkit quantize: quantise a trained network to INT4 weights and power-of-two scales, on this machine's cores."""

from __future__ import annotations

from pathlib import Path

import click

from hwkit.cli._common import emit, json_option, out_option, progress
from hwkit.errors import BadInput


@click.command()
@click.argument("network")
@click.option("--seeds", default="0", show_default=True, metavar="N,N,...")
@click.option("--epochs", type=click.IntRange(0), help="0: post-training quantisation only.")
@click.option("--train-images", type=click.IntRange(1), help="The first so many; default: all.")
@click.option("--weight-bits", type=click.IntRange(1, 4), default=4, show_default=True)
@click.option("--middle-bits", type=click.IntRange(2, 7), default=7, show_default=True)
@out_option
@json_option
def command(network: str, seeds: str, epochs: int | None, train_images: int | None, weight_bits: int,
            middle_bits: int, out: Path | None, as_json: bool) -> None:
    """Quantise NETWORK, e.g. dsodenet or dsodenet@digits, for the on-chip engine, and train it so.

    The median seed by validation is kept; a folder "quantized" is where deployments look for it.
    """
    from hwkit.compress.quantize import train_seeds
    from hwkit.nn.qat import QatRecipe
    from hwkit.render import Section, table
    from hwkit.train import Progress
    from hwkit.units import percent

    try:
        chosen = [int(s) for s in seeds.split(",")]
    except ValueError:
        raise BadInput(f"--seeds {seeds}: not whole numbers with commas", "e.g. --seeds 0,1,2") from None
    given = {"epochs": epochs, "train_images": train_images, "weight_bits": weight_bits,
             "middle_bits": middle_bits}
    recipe = QatRecipe.model_validate({key: value for key, value in given.items() if value is not None})
    with progress(f"quantize {network}") as say:
        def watch(p: Progress) -> None:
            done = (p.epoch + p.batch / p.batches) / p.epochs
            say(f"seed {p.seed}: {int(100 * done)} of 100")
        path, result = train_seeds(network, recipe, chosen, out or Path("quantized"), watch)
    rows = [(str(r.seed), percent(r.validation), percent(r.test), str(r.epoch), f"{r.train_s:.0f}")
            for r in result.seeds]
    rows.append(("float", "", percent(result.float_test), "", ""))
    emit({"file": str(path), **result.model_dump(mode="json")}, as_json,
         table(Section(f"{network}, INT{weight_bits}; seed {result.shipped_seed} kept in {path}",
                       ("seed", "validation", "test", "epoch kept", "seconds"), tuple(rows), (1, 2, 3, 4))))
