"""How many LUTs, registers, DSPs and memories a design takes, without synthesising it.

DSPs and memories follow from the design itself. LUTs and registers come from a model fitted to the designs in
hls/dsode/synthesised.toml; hls/dsode/resources.toml holds the fit, and a test that it is the fit of those.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from hwkit.backends.dsode.engine import Engine
from hwkit.data import shipped
from hwkit.describe import Frozen, load
from hwkit.eda.fitted import Fitted, Point, Prediction, fit
from hwkit.errors import BadInput
from hwkit.measurement import Measurement
from hwkit.memory import Placement

POINTS, FIT = ("hls", "dsode", "synthesised.toml"), ("hls", "dsode", "resources.toml")


class Synthesised(Frozen):
    """One design that was synthesised: its parameters, what was counted, by what and in how many seconds."""

    engine: dict[str, Any]
    lutram: int
    LUT: int
    FF: int
    DSP: int
    BRAM_18K: int
    URAM: int
    tool: str
    seconds: float


class Points(Frozen):
    """held_out: designs that the fit has not seen, to say how good it is."""

    design: tuple[Synthesised, ...]
    held_out: tuple[Synthesised, ...] = ()


class Fits(Frozen):
    LUT: Fitted
    FF: Fitted
    seconds: Fitted


def features(engine: Engine, lutram: int) -> dict[str, float]:
    """What LUTs and registers grow with: each counts bits of one kind of logic, or LUTs.

    adders  bits added in the trees behind the multipliers
    held    bits of all channels of a pair, delayed by their position in a chain, chosen among shapes
    """
    shapes = len(engine.shapes)
    channels = engine.simd << shapes - 1
    lut_products = engine.lut_blocks * engine.simd + (0 if engine.depthwise_dsp else 4.5 * engine.pe)
    return {
        "constant": 1.0,
        "lanes": float(engine.pe),
        "lanes_by_shapes": float(engine.pe * (shapes - 1)),
        "held": float((6 if shapes == 1 else 22) * channels),
        "adders": float(_added_bits(engine)),
        "lut_products": float(lut_products),
        "lutram": float(lutram),
    }


def _added_bits(engine: Engine) -> int:
    """Of all adders between the chains of multipliers and the update: four fields a block."""
    blocks, sums, width, bits = engine.pe // 2, engine.simd // 8, 11, 0
    while sums > 1:
        sums, width = sums // 2, width + 1
        bits += 4 * blocks * sums * width
    for k in range(1, len(engine.shapes)):
        width += 1
        bits += 4 * (blocks >> k) * width
    return bits


def fitted(points: Points) -> Fits:
    """The fit of some points; features that no point varies are left out by the caller of `predict` as well."""

    def of(name: str) -> Fitted:
        return fit([Point(features(Engine.model_validate(p.engine), p.lutram), float(getattr(p, name)))
                    for p in points.design])

    return Fits(LUT=of("LUT"), FF=of("FF"), seconds=of("seconds"))


@functools.cache
def shipped_fits() -> Fits:
    """Raises BadDescription where the shipped file is not what it should be."""
    return load(shipped(*FIT), Fits)


def estimated(engine: Engine, placement: Placement) -> Mapping[Any, Prediction]:
    """Resource -> prediction; exact ones have an interval of one value. Ordered as reports are."""
    fits = shipped_fits()
    given = features(engine, placement.taken["LUTRAM"])
    exact = {"DSP": engine.dsps, "BRAM_18K": placement.taken["BRAM"], "URAM": placement.taken["URAM"]}
    return {"LUT": fits.LUT.predict(given), "FF": fits.FF.predict(given),
            **{name: Prediction(value=float(n), low=float(n), high=float(n), inside=True)
               for name, n in exact.items()}}


def synthesis_s(engine: Engine, placement: Placement) -> float:
    """About how long a synthesis of this design takes, on the machine that made the points."""
    return shipped_fits().seconds.predict(features(engine, placement.taken["LUTRAM"])).value


def read_points() -> Points:
    """Raises BadDescription."""
    path = shipped(*POINTS)
    if not path.is_file():
        raise BadInput(f"{path} is missing", "python -m hwkit.backends.dsode.characterise makes it")
    return load(path, Points)


def figures(engine: Engine, placement: Placement, why: str) -> list[Measurement]:
    """The five resources as estimates with their intervals; `why` there is no synthesis of this design."""
    found = []
    for name, p in estimated(engine, placement).items():
        exact = p.low == p.high
        how = ("it follows from the design" if exact else
               f"foretold by a model fitted to {len(shipped_fits().LUT.relative_errors)} synthesised designs; the "
               f"interval is as wide as the worst of them left out was wrong"
               + ("" if p.inside else "; this design is outside their range"))
        found.append(Measurement(quantity=name, unit="1", kind="estimated", samples=(p.value,), low=p.low,
                                 high=p.high, source=f"{why}; {how}" if why else how))
    return found
