"""Synthesise a spread of designs and fit the resource model to them: rewrites two files of hls/dsode.

    python -m hwkit.backends.dsode.characterise        minutes a design; what is in the cache is not made again
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hwkit.backends.dsode import emit, memories, resources
from hwkit.backends.dsode.engine import Engine
from hwkit.data import shipped
from hwkit.describe import toml_text
from hwkit.files import write
from hwkit.target import target

# pe, simd, first feature map, shapes, convolutions in f, choices; the last ones are kept from the fit
DESIGNS: tuple[tuple[int, int, int, int, int, dict[str, Any]], ...] = (
    (2, 8, 4, 1, 1, {}), (8, 8, 8, 1, 2, {}), (4, 8, 8, 2, 2, {}), (8, 8, 6, 2, 1, {}), (8, 8, 14, 3, 2, {}),
    (16, 16, 14, 1, 2, {}), (16, 16, 14, 3, 2, {}), (8, 16, 14, 3, 2, {}), (16, 32, 16, 2, 1, {}),
    (16, 64, 32, 3, 2, {}), (8, 64, 16, 1, 1, {}), (4, 16, 8, 1, 2, {"depthwise_dsp": False, "lut_blocks": 2}),
    (8, 8, 8, 2, 2, {"depthwise_dsp": False, "lut_blocks": 4}))
HELD_OUT: tuple[tuple[int, int, int, int, int, dict[str, Any]], ...] = (
    (16, 32, 14, 3, 2, {}), (8, 16, 8, 2, 2, {}), (32, 64, 16, 1, 1, {}), (8, 32, 16, 2, 2, {}),
    (16, 16, 8, 2, 1, {}))
STEPS = 6


def design(pe: int, simd: int, side: int, shapes: int, convolutions: int, choices: dict[str, Any]) -> Engine:
    """An engine of that size, with the tables its network would need."""
    from hwkit.backends.dsode.engine import engine_for
    from hwkit.backends.dsode.outline import sized

    return engine_for(sized(simd, side, shapes, convolutions, STEPS), pe, **choices)


def synthesised(engine: Engine, part: Any) -> resources.Synthesised:
    print(f"PE {engine.pe}, SIMD {engine.simd}, {len(engine.shapes)} shapes", file=sys.stderr, flush=True)
    placed, placement = memories.placed(engine, part.capacity())
    with tempfile.TemporaryDirectory(prefix="hwkit-synthesis-") as scratch:
        emit.write_rtl(placed, emit.stream_bits(placed, part.stream_bits), Path(scratch))
        done = emit.synthesise(placed, Path(scratch), Path(scratch) / "synthesis",
                               lambda text: print(f"  {text}", file=sys.stderr))
    found = done.resources
    return resources.Synthesised(
        engine=placed.model_dump(mode="json"), lutram=placement.taken["LUTRAM"], LUT=found.lut, FF=found.ff,
        DSP=found.dsp, BRAM_18K=found.bram_18k, URAM=found.uram, tool=done.tool, seconds=done.seconds)


def points_toml(points: resources.Points) -> str:
    """synthesised.toml."""
    return ("# Designs of the engine and what Yosys counted for them; written by "
            f"hwkit.backends.dsode.characterise.\n\n{toml_text(points.model_dump(mode='json'))}")


def fit_toml(fits: resources.Fits) -> str:
    """resources.toml: deterministic, so that a test can compare it with a new fit."""
    return ("# Fitted to synthesised.toml by hwkit.backends.dsode.characterise; not edited by hand.\n"
            f"{toml_text(fits.model_dump(mode='json'))}")


def main(target_name: str) -> None:
    part = target(target_name).fpga
    assert part is not None
    points = resources.Points(design=tuple(synthesised(design(*size), part) for size in DESIGNS),
                              held_out=tuple(synthesised(design(*size), part) for size in HELD_OUT))
    write(shipped(*resources.POINTS), points_toml(points))
    fits = resources.fitted(points)
    write(shipped(*resources.FIT), fit_toml(fits))
    for point in points.held_out:
        given = resources.features(Engine.model_validate(point.engine), point.lutram)
        for name in ("LUT", "FF"):
            said, is_ = getattr(fits, name).predict(given).value, getattr(point, name)
            print(f"held out, {name}: {said:.0f} foretold, {is_} counted, {100 * (said / is_ - 1):+.1f} %")


if __name__ == "__main__":
    main(*sys.argv[1:])
