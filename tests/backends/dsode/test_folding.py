"""The choice of a design: the fastest that fits, or the smallest that is fast enough; where buffers lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwkit.backends.dsode import folding, memories, resources, schedule
from hwkit.backends.dsode.engine import Engine, engine_for, legal_pe
from hwkit.backends.dsode.options import Options
from hwkit.backends.dsode.outline import outline, sized
from hwkit.errors import BadInput, BadModel
from hwkit.model import Layer, Model, Stage
from hwkit.target import Fpga, target

LARGE = (64, 32, 3, 2, 10)         # 64, 128 and 256 channels from 32x32, two convolutions in f, ten steps


@pytest.fixture(scope="module")
def fpga() -> Fpga:
    found = target("zcu104").fpga
    assert found is not None
    return found


def test_the_large_network_fits_the_chip_with_nothing_outside(fpga: Fpga) -> None:
    folded = folding.fold(sized(*LARGE), fpga, Options())
    assert folded.engine.pe >= 32
    assert folded.placement.off_chip_bytes == 0
    assert folded.engine.dsps <= 0.8 * 1728
    taken = folded.placement.taken
    assert taken["BRAM"] <= 0.8 * 624
    assert taken["URAM"] <= 0.8 * 96
    assert folded.cycles <= 71_400


def test_the_fastest_that_fits_is_taken_and_what_stops_the_next_is_said(fpga: Fpga) -> None:
    network = sized(*LARGE)
    folded = folding.fold(network, fpga, Options(multipliers="dsp"))
    assert folded.engine.pe == 32                          # 64 would take 2,624 DSP
    assert "PE 64 does not fit: it takes 2,624 DSP of the 1,382" in folded.bottleneck
    slower = [schedule.cycles(network, engine_for(network, pe)) for pe in legal_pe(64, 3) if pe < 32]
    assert all(cycles > folded.cycles for cycles in slower)


def test_a_target_latency_takes_the_smallest_design(fpga: Fpga) -> None:
    network = sized(16, 14, 3, 2, 6)
    fastest = folding.fold(network, fpga, Options())
    clock = fpga.clock_hz.value
    relaxed = folding.fold(network, fpga, Options(latency_s=3 * fastest.cycles / clock))
    assert relaxed.engine.dsps < fastest.engine.dsps
    assert relaxed.cycles / clock <= 3 * fastest.cycles / clock
    with pytest.raises(BadInput, match="the fastest, PE 16"):
        folding.fold(network, fpga, Options(latency_s=0.5 * fastest.cycles / clock))


def test_without_dsps_the_products_are_made_of_luts(fpga: Fpga) -> None:
    folded = folding.fold(sized(8, 8, 2, 1, 2), fpga, Options(multipliers="lut"))
    assert folded.engine.dsps == 0
    assert not folded.engine.depthwise_dsp


def test_a_budget_that_holds_nothing_is_refused_with_what_breaks_it(fpga: Fpga) -> None:
    narrow = target("zcu104").limited({"resources.DSP": 20.0}).fpga
    assert narrow is not None
    with pytest.raises(BadInput, match="does not fit at PE 8: it takes 104 DSP of the 20"):
        folding.fold(sized(8, 8, 1, 1, 2), narrow, Options(pe=8, multipliers="dsp"))


def test_a_state_too_large_for_the_chip_names_its_buffer(fpga: Fpga) -> None:
    with pytest.raises(BadInput, match=r"(state|middle).*does not fit|larger than the engine counts"):
        folding.fold(sized(256, 220, 1, 2, 2), fpga, Options(pe=32))


@pytest.mark.parametrize("pe", [8, 16])
def test_every_bit_of_the_tables_has_a_place(pe: int, fpga: Fpga) -> None:
    """Weights and biases, counted by hand, are what the buffers hold."""
    network = sized(16, 14, 3, 2, 6)
    engine, placement = memories.placed(engine_for(network, pe), fpga.capacity())
    bits = {p.buffer.name: p.buffer.bits for p in placement.placed}
    pointwise = sum(2 * c * c for c in (16, 32, 64)) + 16 * 32 + 32 * 64
    assert bits["pointwise weights"] == 4 * pointwise
    assert bits["state"] == 8 * max(16 * 14 * 14, 32 * 7 * 8, 64 * 4 * 4)
    assert engine.rows * engine.row_bytes * 8 == bits["state"]


def test_the_shipped_fit_is_the_fit_of_the_shipped_points() -> None:
    from hwkit.backends.dsode.characterise import fit_toml
    from hwkit.data import shipped

    points = resources.read_points()
    assert fit_toml(resources.fitted(points)) == shipped(*resources.FIT).read_text()


def test_the_fit_foretells_designs_it_has_not_seen() -> None:
    points = resources.read_points()
    assert len(points.held_out) >= 3
    for point in points.held_out:
        engine = Engine.model_validate(point.engine)
        for name in ("LUT", "FF"):
            foretold = getattr(resources.shipped_fits(), name).predict(resources.features(engine, point.lutram))
            assert foretold.low <= getattr(point, name) <= foretold.high, (name, point.engine)
        assert engine.dsps == point.DSP


def _model(*stages: Stage) -> Model:
    return Model(name="net", path=Path("whole.pt2"), format="pt2", input_shape=(1, 8, 8), stages=stages)


def _stage(name: str, *layers: Layer) -> Stage:
    return Stage(name=name, path=Path(f"{name}.pt2"), repeat=2, layers=layers)


def test_what_the_engine_has_no_place_for_is_named() -> None:
    def conv(inputs: int, outputs: int, kernel: int, groups: int = 1) -> Layer:
        return Layer(kind="convolution", inputs=inputs, outputs=outputs, kernel=(kernel, kernel), groups=groups,
                     output_shape=(outputs, 8, 8))

    stem, head = _stage("stem", conv(1, 8, 3)), _stage("head", Layer(kind="linear", inputs=8, outputs=3,
                                                                     output_shape=(3,)))
    separable = (conv(8, 8, 3, 8), conv(8, 8, 1))
    assert len(outline(_model(stem, _stage("ode1", *separable), head)).core) == 1
    for wrong, said in ((_stage("ode1", conv(8, 8, 3), conv(8, 8, 3)), "stage ode1: 3x3 convolution"),
                        (_stage("ode1", *separable * 3), "f has 3 convolutions"),
                        (_stage("ode1", conv(8, 8, 5, 8), conv(8, 8, 1)), "5x5 convolution")):
        with pytest.raises(BadModel, match=said):
            outline(_model(stem, wrong, head))
    with pytest.raises(BadModel, match="stage stem is not one full 3x3"):
        outline(_model(_stage("stem", conv(1, 8, 5)), _stage("ode1", *separable), head))
