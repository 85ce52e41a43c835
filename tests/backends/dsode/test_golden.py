"""The golden vectors beside the kernel: the integer reference, the HLS kernel and the RTL all reproduce them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwkit.backends.dsode import hls, schedule
from hwkit.files import sha256
from hwkit.integer import separable
from hwkit.integer.arithmetic import Ints
from hwkit.integer.separable import IntegerNetwork
from tests.backends.dsode import golden
from tests.backends.dsode.conftest import Designs

CYCLES = 1742        # of the RTL, from its start to its last write


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    return separable.load(golden.folder() / golden.NETWORK)


@pytest.fixture(scope="module")
def vectors() -> tuple[Ints, Ints]:
    given, results = (np.load(golden.folder() / name, allow_pickle=False).astype(np.int64)
                      for name in (golden.STATES, golden.RESULTS))
    assert len(given) == len(results) == 8
    assert (results.std(0) > 0).mean() > 0.9
    return given, results


def test_the_files_are_those_that_were_made() -> None:
    lines = [line.split() for line in (golden.folder() / golden.SUMS).read_text().splitlines()]
    sums = {name: digest for digest, name in lines}
    assert sums == {p.name: sha256(p) for p in golden.folder().iterdir() if p.name != golden.SUMS}
    assert len(sums) == 3


def test_making_them_again_gives_the_same(tmp_path: Path, network: IntegerNetwork) -> None:
    golden.make(tmp_path)
    for name in (golden.STATES, golden.RESULTS):
        assert (tmp_path / name).read_bytes() == (golden.folder() / name).read_bytes()
    again = separable.load(tmp_path / golden.NETWORK)
    pairs = zip(separable.convolutions(network), separable.convolutions(again), strict=True)
    for (name, ours), (_, theirs) in pairs:
        for field in ("depthwise", "depthwise_bias", "depthwise_shift", "pointwise", "pointwise_bias",
                      "pointwise_shift"):
            assert np.array_equal(getattr(ours, field), getattr(theirs, field)), (name, field)


def test_the_integer_reference_reproduces_them(network: IntegerNetwork, vectors: tuple[Ints, Ints]) -> None:
    assert int((network.on_chip(vectors[0]) != vectors[1]).sum()) == 0


def test_the_hls_kernel_reproduces_them(network: IntegerNetwork, vectors: tuple[Ints, Ints],
                                        tmp_path: Path) -> None:
    hls.emit(network, golden.PE, tmp_path)
    assert int((hls.simulate(tmp_path, vectors[0]) != vectors[1]).sum()) == 0


def test_the_rtl_reproduces_them(network: IntegerNetwork, vectors: tuple[Ints, Ints], design: Designs,
                                 tmp_path: Path) -> None:
    made = design(network, golden.PE, golden.BEAT_BITS)
    found, cycles = made.results(vectors[0], tmp_path)
    assert int((found != vectors[1]).sum()) == 0
    assert set(cycles.run_cycles) == {CYCLES}
    assert schedule.cycles(network, made.engine) == CYCLES
