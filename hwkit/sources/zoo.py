"""A network of the zoo, by its name."""

from __future__ import annotations

import shutil
from pathlib import Path

from hwkit import zoo as networks
from hwkit.jobs import Say
from hwkit.model import Model
from hwkit.sources import Opening
from hwkit.sources._export import prepare, write_network
from hwkit.sources._input import chosen_shape

__all__ = ["opened", "prepare"]

QUANTIZED = "quantized.npz"


def opened(opening: Opening, folder: Path, say: Say) -> Model:
    network = networks.network(opening.source.item)
    integers = networks.quantized_path(opening.source.item)
    shape = chosen_shape(opening, network.input_shape)
    model = write_network(network.module.eval(), shape, folder, name=network.name, what=network.name,
                          dataset=opening.dataset or network.dataset, history=network.history, say=say)
    if integers is None:
        return model
    shutil.copyfile(integers, folder / QUANTIZED)
    return model.model_copy(update={"quantized": Path(QUANTIZED)})
