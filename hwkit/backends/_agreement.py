"""How well the deployed network does what the trained one does, on the same inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwkit.artifact import Finding
from hwkit.errors import BadInput, BadModel
from hwkit.jobs import Say
from hwkit.measurement import Measurement

Floats = NDArray[np.float32]
SAY_EVERY_S = 2.0

# Largest error over the largest trained output that float32 kernels may add by summing in another order.
F32_TOLERANCE = 1e-3

# What each figure was taken from. The board repeats some of these inputs and must give the same outputs.
SOURCES = {
    "max_error": "the artifact's files executed on the build machine against {reference}, {n} inputs; "
                 "in units of the outputs",
    "rms_error": "of the same outputs; 1 would be as large as the outputs themselves",
    "agreement": "same largest output as {reference}, on the same {n} inputs",
    "accuracy_float": "{reference} on the build machine, {n} labelled inputs",
    "accuracy": "the artifact's files executed on the build machine, the same {n} labelled inputs; "
                "what the board itself repeats of them is under Checks",
}


def outputs(network: Callable[[Floats], Floats], inputs: Floats, what: str, say: Say, batch: int = 1) -> Floats:
    """(n, *output) of a network that takes `batch` inputs (batch, *shape) at a time."""
    found = []
    told = time.monotonic()
    for number, group in enumerate(groups(inputs, batch), 1):
        found.append(network(group))
        if time.monotonic() - told > SAY_EVERY_S:
            told = time.monotonic()
            say(f"{what}: {min(number * batch, len(inputs))} of {len(inputs)} inputs")
    return np.concatenate(found)[:len(inputs)]


def groups(inputs: Floats, batch: int) -> Iterator[Floats]:
    """The inputs, `batch` at a time; the last group is filled up with its own last one."""
    for start in range(0, len(inputs), batch):
        group = inputs[start:start + batch]
        yield np.concatenate([group, np.repeat(group[-1:], batch - len(group), axis=0)])


def check_labels(expected: Floats, labels: NDArray[np.int64] | None) -> None:
    """Raise BadInput for a label that no output of the network stands for."""
    classes = expected.shape[-1]
    if labels is not None and labels.max(initial=0) >= classes:
        raise BadInput(f"'labels' goes up to {labels.max()}, the network has {classes} outputs",
                       "labels count from 0: give the inputs this network was trained for")


def write_golden(folder: Path, arrays: Mapping[str, NDArray[Any] | None], count: int) -> list[str]:
    """The first `count` of each array as golden/<name>.npy below `folder`; names of the files, relative to it."""
    (folder / "golden").mkdir(exist_ok=True)
    kept = {f"golden/{name}.npy": array[:count] for name, array in arrays.items() if array is not None}
    for file, array in kept.items():
        np.save(folder / file, np.ascontiguousarray(array), allow_pickle=False)
    return list(kept)


@dataclass(frozen=True)
class Agreement:
    """Outputs of the reference and of the deployed network for the same n inputs, and the labels if known.

    reference   what gave `expected`: "the trained network", or the runtime's own reference kernels
    """

    expected: Floats
    deployed: Floats
    labels: NDArray[Any] | None
    reference: str

    @property
    def largest(self) -> float:
        """Largest absolute difference."""
        return float(np.max(np.abs(self.deployed - self.expected)))

    @property
    def relative_rms(self) -> float:
        """RMS of the difference over RMS of the reference."""
        wanted = float(np.sqrt(np.mean(np.square(self.expected, dtype=np.float64))))
        missed = float(np.sqrt(np.mean(np.square(self.deployed - self.expected, dtype=np.float64))))
        return missed / wanted if wanted else missed

    @property
    def relative_largest(self) -> float:
        return self.largest / max(float(np.max(np.abs(self.expected))), float(np.finfo(np.float32).tiny))

    @property
    def classifies(self) -> bool:
        return self.expected.ndim == 2 and self.expected.shape[1] > 1

    def figures(self, conditions: dict[str, Any]) -> list[Measurement]:
        """max_error, rms_error, and for a classifier agreement and, with labels, both accuracies."""
        n = len(self.expected)

        def measured(quantity: str, value: float) -> Measurement:
            return Measurement(quantity=quantity, unit="1", kind="measured", samples=(value,), n=n,
                               source=SOURCES[quantity].format(n=n, reference=self.reference),
                               conditions={**conditions, "reference": self.reference})

        found = [measured("max_error", self.largest), measured("rms_error", self.relative_rms)]
        if self.classifies:
            answers, wanted = self.deployed.argmax(axis=1), self.expected.argmax(axis=1)
            found.append(measured("agreement", float(np.mean(answers == wanted))))
            if self.labels is not None:
                found.append(measured("accuracy_float", float(np.mean(wanted == self.labels))))
                found.append(measured("accuracy", float(np.mean(answers == self.labels))))
        return found

    def finding(self, exact: bool) -> Finding:
        """The agreement in words. `exact`: raises BadModel when it is worse than float32 rounding."""
        text = (f"largest difference {self.largest:.3g}, RMS {100 * self.relative_rms:.3g} % of the outputs' RMS, "
                f"over {len(self.expected)} inputs")
        if not exact:
            return Finding(name=f"agreement with {self.reference}", ok=None, text=text)
        if not self.relative_largest <= F32_TOLERANCE:
            raise BadModel(f"the converted float32 network does not compute what {self.reference} does: {text}",
                           "this is a fault of the conversion: please report it with the model")
        return Finding(name=f"agreement with {self.reference}", ok=True, text=text)
