"""Networks one can name. One file each, found by its name: there is no registry to edit.

A network's file has `INPUT_SHAPE`, `DATASET` (the data set it is for, or None) and `build(**options)`, which
gives an untrained torch module; where the shape follows from the options also `input_shape(**options)`.
Trained weights lie in weights/<network>-<data set>.safetensors with the .toml that says how they came
to be; one's own in a folder "weights" in the current folder or in one of $HWKIT_PATH, where they shadow
the shipped ones. Files that start with an underscore are shared parts.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hwkit.data import roots
from hwkit.describe import read_toml
from hwkit.errors import BadDescription, BadInput, BadModel, UnknownName
from hwkit.files import sha256
from hwkit.network import Network

if TYPE_CHECKING:
    from torch import nn

_FOLDER = Path(__file__).parent
WEIGHTS = _FOLDER / "weights"
QUANTIZED = _FOLDER / "quantized"


def names() -> list[str]:
    """Every network's name, without importing torch."""
    return sorted(p.stem for p in _FOLDER.glob("*.py") if not p.stem.startswith("_"))


def _weight_folders() -> list[Path]:
    return [*(root / "weights" for root in roots()), WEIGHTS]


def trained() -> list[str]:
    """Every set of weights there is, as "network@data set"."""
    found = {p.stem.replace("-", "@", 1) for folder in _weight_folders() for p in folder.glob("*.safetensors")}
    return sorted(found)


def source(name: str) -> ModuleType:
    """The file that defines a network; imports torch. Raises UnknownName."""
    if name not in names():
        raise UnknownName("network", name, names())
    return importlib.import_module(f"hwkit.zoo.{name}")


def weights_path(name: str, dataset: str) -> Path:
    """Where the weights of a network trained on a data set are, or would be if they were shipped."""
    candidates = [folder / f"{name}-{dataset}.safetensors" for folder in _weight_folders()]
    return next((p for p in candidates if p.is_file()), candidates[-1])


def weights_of(name: str) -> list[Path]:
    """Every file of weights, float or quantised, that a network could be given, in the order of look-up."""
    return [p for folder in _weight_folders() for p in sorted(folder.glob(f"{name}-*.safetensors"))] + [
        p for folder in _quantized_folders() for p in sorted(folder.glob(f"{name}-*.npz"))]


def _quantized_folders() -> list[Path]:
    return [*(root / "quantized" for root in roots()), QUANTIZED]


def quantized_path(name: str) -> Path | None:
    """The integer network (see hwkit.integer.separable.load) made of a network's trained weights, if there is one.

    name  as `network` takes it. Looked up in the folders "quantized" of the current folder and of $HWKIT_PATH,
          then among the shipped ones; one of other float weights than `network` would load does not count.
    """
    base, _, dataset = name.partition("@")
    if base not in names():
        return None
    dataset = dataset or source(base).DATASET or ""
    weights = weights_path(base, dataset)
    for folder in _quantized_folders():
        found = folder / f"{base}-{dataset}.npz"
        if found.is_file() and weights.is_file():
            about = read_toml(found.with_suffix(".toml"), f"hwkit quantize {name}")
            if about.get("float_sha256") == sha256(weights):
                return found
    return None


def build(name: str, seed: int, **options: Any) -> tuple[nn.Module, tuple[int, ...]]:
    """An untrained network with weights drawn from `seed`, and its input shape (channels first, no batch).

    Raises UnknownName, and BadInput for an option that the network has not.
    """
    import torch

    module = source(name)
    known = list(inspect.signature(module.build).parameters)
    for option in options:
        if option not in known:
            raise UnknownName(f"option of {name}", option, known, f"{name} takes {', '.join(known)}")
    shape = module.input_shape(**options) if hasattr(module, "input_shape") else module.INPUT_SHAPE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = module.build(**options)
    return network, tuple(options.get("input_shape", shape))


def network(name: str, seed: int | None = None, **options: Any) -> Network:
    """A network by its name, in eval mode.

    name      "dsodenet", or "dsodenet@digits" for the weights trained on a data set that is not its default
    seed      None: the trained weights where there are any, otherwise an untrained network of seed 0;
              a number: untrained, drawn from that seed, with BatchNorm statistics of one batch of noise
    options   of the network's `build`; over those the weights were trained with. Number of ODE steps and
              solver may differ from the trained ones; what changes a weight's shape raises BadInput

    Raises UnknownName for a network, a data set or an option that does not exist, and ToolMissing where
    the weights are in a package that is not installed.
    """
    base, _, dataset = name.partition("@")
    module = source(base)
    dataset = dataset or module.DATASET or ""
    if seed is None and hasattr(module, "pretrained") and dataset == module.DATASET:
        built, shape = build(base, 0, **options)
        _load(built, module.pretrained(), name)
        return Network(name, built.eval(), shape, dataset, (module.PRETRAINED,))
    if seed is None and weights_path(base, dataset).is_file():
        return _shipped(name, base, dataset, options)
    if "@" in name and f"{base}@{dataset}" not in trained():
        raise UnknownName("network", name, trained(), f"hwkit train {base} --dataset {dataset}")
    return _untrained(name, base, seed or 0, options)


def _shipped(name: str, base: str, dataset: str, options: dict[str, Any]) -> Network:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = weights_path(base, dataset)
    told = path.with_suffix(".toml")
    result = read_toml(told, f"hwkit train {base} --dataset {dataset}")
    try:
        trained_with, seed = dict(result["recipe"]["options"]), int(result["shipped_seed"])
    except (KeyError, TypeError, ValueError):
        raise BadDescription(told, "", "is not what a training writes beside its weights") from None
    built, shape = build(base, 0, **{**trained_with, **options})
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise BadModel(f"{path} is not a safetensors file: {error}",
                       f"hwkit train {base} --dataset {dataset}") from None
    _load(built, state, name)
    history = [f"trained on {dataset}, seed {seed}, recipe {path.stem}.toml"]
    changed = [f"{key}={value}" for key, value in options.items()]
    if changed:
        history.append(f"deployed with {', '.join(changed)}")
    return Network(name, built.eval(), shape, dataset, tuple(history))


def _untrained(name: str, base: str, seed: int, options: dict[str, Any]) -> Network:
    import torch

    from hwkit.zoo._layers import settle_batchnorm

    built, shape = build(base, seed, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settle_batchnorm(built, shape)
    return Network(name, built, shape, None, (f"untrained, seed {seed}",))


def _load(built: nn.Module, state: dict[str, Any], name: str) -> None:
    try:
        built.load_state_dict(state)
    except RuntimeError as error:
        first = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
        raise BadInput(
            f"the trained weights of {name} do not fit these options: {first}",
            "leave the options out, or give a seed for an untrained network",
        ) from None
