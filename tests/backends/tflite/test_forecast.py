"""Options, problems and sizes that are known before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwkit import backends
from hwkit.errors import BadInput
from hwkit.model import Model, Stage
from hwkit.target import Target, target
from tests.backends.tflite.conftest import Builds

TOOL = backends.backend("tflite")
PI = target("rpi4")
NET = Model(name="net", path=Path("net.pt2"), format="pt2", input_shape=(1, 28, 28), dataset="fashion-mnist",
            parameters=17_000, parameter_bytes=68_000)


def said(model: Model, chosen: Target, **options: str) -> str:
    return " | ".join(p.message for p in TOOL.check(model, chosen, TOOL.options(options, chosen)) if p.fatal)


def test_options_are_typed_and_have_defaults() -> None:
    options = TOOL.options({"precision": "f32", "images": "100"}, PI)
    assert (options.precision, options.ode, options.golden, options.images) == ("f32", "auto", 32, 100)
    assert TOOL.options({"images": "all"}, PI).images is None
    assert TOOL.options({}, PI).precision == "int8"


@pytest.mark.parametrize(("given", "words"), [
    ({"precison": "int8"}, "did you mean 'precision'"), ({"precision": "int4"}, "precision=int4"),
    ({"golden": "0"}, "golden=0"), ({"calibration": "many"}, "calibration=many")])
def test_a_wrong_option_is_named(given: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        TOOL.options(given, PI)
    assert caught.value.hint


def test_no_problem() -> None:
    assert said(NET, target("rpi4")) == ""


def test_precision_that_the_target_lacks() -> None:
    poor = target("rpi4").model_copy(update={"precisions": ("f32",)})
    assert "takes f32, not int8" in said(NET, poor)


def test_int8_needs_inputs() -> None:
    assert "--dataset" in said(NET.model_copy(update={"dataset": None}), target("rpi4"))
    assert said(NET.model_copy(update={"dataset": None}), target("rpi4"), precision="f32") == ""


def test_a_network_that_is_larger_than_the_memory() -> None:
    huge = NET.model_copy(update={"parameter_bytes": 10**10})
    assert "net is about 9.60 GB, rpi3 has 1.07 GB of memory" in said(huge, target("rpi3"), precision="f32")


def test_ode_options_and_times_must_fit() -> None:
    assert "no ODE steps" in said(NET, target("rpi4"), ode="stepped")
    step = Stage(name="ode1", path=Path("s.pt2"), repeat=3, times=(0.0, 0.5))
    assert "3 times but has 2 times" in said(NET.model_copy(update={"stages": (step,)}), target("rpi4"))


@pytest.mark.parametrize(("precision", "ode"), [("f32", "unrolled"), ("f16", "unrolled"), ("dynamic", "unrolled"),
                                                ("int8", "unrolled"), ("int8", "stepped"), ("f32", "stepped")])
def test_flash_is_inside_its_estimate(precision: str, ode: str, builds: Builds, ode_model: Model) -> None:
    options = TOOL.options({"precision": precision, "ode": ode}, PI)
    estimate = TOOL.estimate(ode_model, target("rpi4"), options)
    (flash,) = [m for m in estimate.figures if m.quantity == "flash"]
    built, _ = builds(ode_model, precision=precision, ode=ode)
    assert flash.kind == "estimated"
    assert (flash.low or 0) <= next(m.value for m in built.figures if m.quantity == "flash") <= (flash.high or 0)


def test_what_is_not_estimated_is_said() -> None:
    estimate = TOOL.estimate(NET.model_copy(update={"parameter_bytes": None}), PI, TOOL.options({}, PI))
    assert estimate.figures == ()
    assert {why.split(":")[0] for why in estimate.refused} == {"flash", "latency", "arena"}


def test_dot_products_of_the_target_are_in_the_plan() -> None:
    plans = [TOOL.plan(NET, target(name), TOOL.options({}, PI)).files["spec.json"] for name in ("rpi4", "rpi5")]
    assert ['"dot_products": true' in text for text in plans] == [False, True]


def test_collect_refuses_a_folder_without_a_build(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no TFLite build"):
        TOOL.collect(tmp_path)
