"""What FINN said, read from reports of real builds, against FINN's own report files of the same builds."""

from __future__ import annotations

import pytest

from hwkit.artifact import Built
from hwkit.backends.finn.figures import latency_cycles
from hwkit.backends.finn.gather import gathered
from hwkit.backends.finn.options import Options
from hwkit.describe import Figure
from tests.backends.finn.conftest import CASES, report, told

CLOCK = Figure(value=200e6, kind="assumed", source="a guess")


def built(case: str) -> Built:
    return gathered(*told(case), Options(), CLOCK)


def finding(made: Built, name: str) -> tuple[bool | None, str]:
    return next((f.ok, f.text) for f in made.findings if f.name == name)


@pytest.mark.parametrize("case", ["cnn", "ode"])
def test_layers_are_those_of_finns_own_reports(case: str) -> None:
    driven, _ = told(case)
    cycles, resources = report(case, "estimate_layer_cycles"), report(case, "estimate_layer_resources")
    total = resources.pop("total")
    assert {layer.name: layer.cycles for layer in driven.layers} == cycles
    for layer in driven.layers:
        assert layer.used == {k: v for k, v in resources[layer.name].items() if k in layer.used}
    assert driven.used == {k: total[k] for k in driven.used}


@pytest.mark.parametrize("case", ["cnn", "ode"])
def test_finns_keys_and_numbers_are_kept(case: str) -> None:
    own = report(case, "estimate_network_performance")
    made = built(case)
    assert made.details["performance"] == own
    figures = {m.quantity: m for m in made.figures}
    assert figures["cycles"].value == own["critical_path_cycles"]
    assert figures["throughput"].value == pytest.approx(own["estimated_throughput_fps"])
    assert figures["kernel_latency"].value == pytest.approx(own["estimated_latency_ns"] * 1e-9)
    assert own["max_cycles_node_name"] in finding(made, "bottleneck")[1]


@pytest.mark.parametrize("case", CASES)
def test_a_layer_without_a_model_is_not_modelled_never_zero(case: str) -> None:
    driven, _ = told(case)
    made = built(case)
    silent = {layer.name for layer in driven.layers if layer.used.get("LUT", 0) == 0}
    assert silent
    rows = {(row.part, row.resource): row.used for row in made.resources}
    assert {part for (part, resource), used in rows.items() if resource == "LUT" and used is None} == silent
    assert 0 not in [used for (_, resource), used in rows.items() if resource == "LUT"]
    assert all(used is None for (_, resource), used in rows.items() if resource == "FF")
    text = finding(made, "not modelled")[1]
    assert all(layer.kind in text for layer in driven.layers if layer.name in silent)
    lut = next(m for m in made.figures if m.quantity == "LUT")
    assert f"{len(silent)} of {len(driven.layers)} layers have no model" in lut.source


@pytest.mark.parametrize("case", CASES)
def test_estimates_carry_an_interval_and_say_why(case: str) -> None:
    for figure in built(case).figures:
        if figure.kind == "estimated":
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low <= figure.value <= figure.high
            assert figure.source
    assert not [m for m in built(case).figures if m.quantity == "FF"]


def test_cycles_of_operators_add_up_to_the_critical_path_of_a_chain() -> None:
    driven, _ = told("cnn")          # no fork: FINN's critical path is the sum
    assert sum(o.cost or 0 for o in built("cnn").operators) == latency_cycles(driven)


def test_a_rolled_network_says_where_its_state_goes() -> None:
    made = built("rolled")
    ok, text = finding(made, "state on chip")
    assert ok is False
    assert "external memory (DDR)" in text
    assert "m_axi_intermediate_frame" in text
    driven, _ = told("rolled")
    assert {o.repeat for o in made.operators} == {1, driven.steps}
    assert "FINNLoop" not in {o.delegate for o in made.operators}
    loop = next(layer for layer in driven.layers if layer.kind == "FINNLoop")
    assert loop.cycles > max(layer.cycles for layer in driven.layers if layer.loop) * (driven.steps or 0)


def test_an_unrolled_one_does_not() -> None:
    assert "state on chip" not in {f.name for f in built("ode").findings}
    assert told("ode")[0].external == {}


def test_ties_are_counted_named_and_proved_to_be_all_of_the_difference() -> None:
    driven, reference = told("ode")
    assert reference.ties
    assert driven.checks.hardware.different > 0
    made = built("ode")
    ok, text = finding(made, "FINN's execution, hardware layers")
    assert ok is None
    assert "rounding ties are all of it" in text
    _, text = finding(made, "rounding ties")
    assert str(sum(reference.ties.values())) in text
    assert all(name in text for name in list(reference.ties)[:1])
    assert "differs by 0" in text


def test_a_difference_that_ties_do_not_explain_is_a_failure() -> None:
    driven, reference = told("ode")
    assert driven.checks.half_up is not None
    wrong = driven.checks.half_up.model_copy(update={"largest": 0.5})
    checks = driven.checks.model_copy(update={"half_up": wrong})
    made = gathered(driven.model_copy(update={"checks": checks}), reference, Options(), CLOCK)
    assert finding(made, "FINN's execution, hardware layers")[0] is False


def test_an_exact_network_is_said_to_be_one() -> None:
    made = built("cnn")
    assert finding(made, "FINN's execution, streamlined")[0] is True
    assert finding(made, "FINN's execution, hardware layers")[0] is True


def test_weights_are_bytes_of_their_own_bits() -> None:
    """The first convolution: 8 x 3 x 3 x 3 weights of 8 bits, and a threshold table."""
    counts = report("cnn", "op_and_param_counts")["MVAU_hls_0"]
    operator = next(o for o in built("cnn").operators if o.name == "MVAU_hls_0")
    bits = sum(n * int(key.split("_")[2][:-1]) for key, n in counts.items() if key.startswith("param"))
    assert operator.weight_bytes == -(-bits // 8)
    assert operator.macs == 13824
