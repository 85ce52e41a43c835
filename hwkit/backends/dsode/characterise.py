"""Synthesise a spread of designs and fit the resource model to them: rewrites two files of hls/dsode.

    python -m hwkit.backends.dsode.characterise        minutes a design; what is in the cache is not made again
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hwkit.backends.dsode import emit, memories, resources
from hwkit.backends.dsode.engine import Engine, Shape
from hwkit.data import shipped
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
    placed, placement = memories.placed(engine, part.capacity())
    with tempfile.TemporaryDirectory(prefix="hwkit-synthesis-") as scratch:
        done = emit.synthesise(placed, emit.stream_bits(placed, part.stream_bits), Path(scratch),
                               lambda text: print(f"  {text}", file=sys.stderr))
    found = done.resources
    return resources.Synthesised(
        engine=placed.model_dump(mode="json"), lutram=placement.taken["LUTRAM"], LUT=found.lut, FF=found.ff,
        DSP=found.dsp, BRAM_18K=found.bram_18k, URAM=found.uram, tool=done.tool, seconds=done.seconds)


def _toml(points: Iterable[resources.Synthesised], table: str) -> str:
    text = ""
    for point in points:
        values = point.model_dump(mode="json")
        shapes = values["engine"].pop("shapes")
        text += f"[[{table}]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items() if k != "engine")
        text += f"[{table}.engine]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in values["engine"].items())
        for shape in shapes:
            Shape.model_validate(shape)
            text += f"[[{table}.engine.shapes]]\n" + "".join(f"{k} = {v}\n" for k, v in shape.items())
        text += "\n"
    return text


def fit_toml(fits: resources.Fits) -> str:
    """resources.toml: deterministic, so that a test can compare it with a new fit."""
    text = "# Fitted to synthesised.toml by hwkit.backends.dsode.characterise; not edited by hand.\n"
    for name, one in fits:
        text += f"\n[{name}]\nrelative_errors = {json.dumps(list(one.relative_errors))}\n"
        text += f"[{name}.coefficients]\n" + "".join(f"{k} = {v!r}\n" for k, v in one.coefficients.items())
        text += f"[{name}.ranges]\n" + "".join(f"{k} = {json.dumps(list(v))}\n" for k, v in one.ranges.items())
    return text


def main(target_name: str) -> None:
    part = target(target_name).fpga
    assert part is not None
    made: dict[str, list[resources.Synthesised]] = {"design": [], "held_out": []}
    for table, sizes in (("design", DESIGNS), ("held_out", HELD_OUT)):
        for size in sizes:
            print(f"{table}: {size}", file=sys.stderr, flush=True)
            made[table].append(synthesised(design(*size), part))
    header = ("# Designs of the engine and what Yosys counted for them; written by "
              "hwkit.backends.dsode.characterise.\n\n")
    write(shipped(*resources.POINTS), header + "".join(_toml(points, table) for table, points in made.items()))
    points = resources.read_points()
    fits = resources.fitted(points)
    write(shipped(*resources.FIT), fit_toml(fits))
    for point in points.held_out:
        given = resources.features(Engine.model_validate(point.engine), point.lutram)
        for name in ("LUT", "FF"):
            said, is_ = getattr(fits, name).predict(given).value, getattr(point, name)
            print(f"held out, {name}: {said:.0f} foretold, {is_} counted, {100 * (said / is_ - 1):+.1f} %")


if __name__ == "__main__":
    main(*sys.argv[1:])
