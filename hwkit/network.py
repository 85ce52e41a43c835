"""Network: a torch module that a pass can change. A pass returns a new one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Network:
    """A trainable network and where it comes from.

    module       torch module, takes float32 (batch, *input_shape), gives (batch, classes)
    input_shape  one sample's shape without batch, channels first, e.g. (1, 28, 28)
    dataset      name of the data set it was trained on; None when untrained
    history      what was done to it, oldest first, one line each ("trained on fashion-mnist, seed 0", ...)
    """

    name: str
    module: torch.nn.Module
    input_shape: tuple[int, ...]
    dataset: str | None = None
    history: tuple[str, ...] = field(default=())

    def after(self, step: str, module: torch.nn.Module | None = None) -> Network:
        """This network with one more line of history, and with `module` if given."""
        return replace(self, module=module or self.module, history=(*self.history, step))


class Pass(Protocol):
    """A frozen dataclass that turns one Network into another, e.g. Prune(ratio=0.5)."""

    def __call__(self, network: Network) -> Network: ...
