"""The shape of one sample: what the model says, what the user says and what the user's data have must agree."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from hwkit.errors import BadInput, BadModel
from hwkit.samples import NEEDED
from hwkit.sources import Opening

LARGEST = 2**28   # float32 values of one sample


def chosen_shape(opening: Opening, takes: tuple[int, ...] | None) -> tuple[int, ...]:
    """Shape of one sample without batch. `takes` is what the model says, None when it does not say.

    Raises BadModel when the user says another shape, or nobody says one.
    """
    what, said = opening.source.text, opening.input_shape
    if said is not None and takes is not None and said != takes:
        raise BadModel(f"{what} takes inputs of shape {takes}, not {said}", "leave --input-shape away")
    shape = takes or said
    if shape is None and opening.data is not None:
        shape = shape_of_samples(opening.data)
    if shape is None:
        raise BadModel(f"{what} does not say what it takes",
                       "name the shape of one sample with --input-shape C,H,W")
    if min(shape, default=0) < 1:
        raise BadModel(f"{what}: an input of shape {shape} holds nothing", "every size is at least 1")
    if math.prod(shape) > LARGEST:
        raise BadModel(f"{what}: an input of shape {shape} is larger than 1 GiB", "give it a smaller input")
    return shape


def shape_of_samples(path: Path) -> tuple[int, ...]:
    """Shape of one sample among the `images` of the user's .npz. Raises BadInput."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return tuple(archive["images"].shape[1:])
    except (OSError, ValueError, EOFError, KeyError, IndexError, AttributeError, zipfile.BadZipFile) as e:
        raise BadInput(f"{path} is not an .npz with 'images': {e}", NEEDED) from None
