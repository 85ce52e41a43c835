"""dsodenet with other numbers of steps, for `hwkit deploy bench/models.py:forty_steps`."""

from __future__ import annotations

from hwkit import zoo
from hwkit.network import Network


def one_step() -> Network:
    return zoo.network("dsodenet", steps=1)


def forty_steps() -> Network:
    return zoo.network("dsodenet", steps=40)


def ten_steps() -> Network:
    return zoo.network("dsodenet", steps=10)
