"""The engine's RTL as compiled simulators: each is made once a session, and kept in hwkit's cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hwkit.backends.dsode import emit, engine, program
from hwkit.eda import verilator
from hwkit.integer.arithmetic import Ints
from hwkit.integer.separable import IntegerNetwork


@dataclass(frozen=True)
class Design:
    """An engine with its tables, and the bench that its simulator is made from."""

    network: IntegerNetwork
    engine: engine.Engine
    bench: verilator.Bench
    folder: Path

    def results(self, states: Ints, scratch: Path, stall: int = 0) -> tuple[Ints, verilator.Simulated]:
        """(n, C, H, W) states -> what the RTL makes of them (n, C', H', W'), and the cycles of each."""
        packed = program.pack_state(states, self.engine, 0).reshape(len(states), -1)
        found, cycles = verilator.simulate(self.bench, self.folder, packed, scratch, lambda _: None, stall=stall)
        return program.unpack_state(found, self.engine, len(self.engine.shapes) - 1), cycles


Designs = Callable[..., Design]


@pytest.fixture(scope="session")
def design(tmp_path_factory: pytest.TempPathFactory) -> Designs:
    """design(network, pe, widest beat in bits, **fields of Engine)."""
    def made(network: IntegerNetwork, pe: int, bits: int = 128, **choices: object) -> Design:
        folder = tmp_path_factory.mktemp("design")
        built = engine.engine_for(network, pe, **choices)
        bench = emit.write_design(network, built, emit.stream_bits(built, bits), folder)
        return Design(network, built, bench, folder)

    return made
