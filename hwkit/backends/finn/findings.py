"""What was checked of a FINN build, and what FINN does not say."""

from __future__ import annotations

from collections import Counter

from hwkit.artifact import Finding
from hwkit.backends.finn.driven import Check, Driven, Layer, Reference
from hwkit.backends.finn.options import Options

EXACT = 1e-5      # of the largest output: what float32 scales of the last layer may cost


def findings(driven: Driven, reference: Reference, options: Options) -> list[Finding]:
    """In the order a reader wants them: is it right, is it fast, what is left out."""
    explained = driven.checks.half_up is not None and _same(driven.checks.half_up)
    found = [_execution("FINN's execution, streamlined", driven.checks.streamlined, explained),
             _execution("FINN's execution, hardware layers", driven.checks.hardware, explained),
             _rounding(driven, reference),
             Finding(name="bottleneck", ok=None, text=_bottleneck(driven, options)),
             Finding(name="folding", ok=True, text="PE and SIMD divide what they are spread over in every layer")]
    if driven.copies:
        found.append(Finding(name="weights shared", ok=None,
                             text=f"{driven.copies} copies of weights that layers share: FINN wants one each"))
    if driven.steps is not None:
        found.append(Finding(name="state on chip", ok=False, text=_state(driven)))
    if floats := _floats(driven):
        found.append(Finding(name="float layers", ok=False, text=(
            f"{len(floats)} layers give float32, since their scales could not be moved into thresholds: "
            f"{', '.join(layer.name for layer in floats[:4])}{' ...' if len(floats) > 4 else ''}")))
    found += [_not_modelled(driven), Finding(name="flip-flops", ok=None, text="not modelled: FINN estimates none")]
    if driven.outside:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(driven.outside).items()))
        found.append(Finding(name="left to the processor", ok=None,
                             text=f"{kinds}: no hardware layer, no estimate"))
    found.append(Finding(name="inputs", ok=None, text=reference.source))
    found.append(Finding(name="generated code", ok=None, text=(
        f"{len(driven.codegen)} files of HLS C++, Verilog, memory contents and Tcl; not synthesised and not run, "
        "which takes vendor tools")))
    return found


def _floats(driven: Driven) -> list[Layer]:
    """Layers that give float32, but for those at the end that turn the result into the network's own units."""
    chain = _chain(driven)
    while chain and chain[-1].datatype == "FLOAT32":
        chain.pop()
    return [layer for layer in chain if layer.datatype == "FLOAT32"]


def _chain(driven: Driven) -> list[Layer]:
    """Layers in the order data pass them, the steps of a loop in its place."""
    chain: list[Layer] = []
    for layer in (one for one in driven.layers if not one.loop):
        chain += [one for one in driven.layers if one.loop == layer.name] or [layer]
    return chain


def _same(check: Check) -> bool:
    return check.largest <= EXACT * check.scale


def _execution(name: str, check: Check, explained: bool) -> Finding:
    """explained: with halves rounded up the outputs are the same: rounding ties are the only difference."""
    text = (f"largest difference {check.largest:.3g} where outputs reach {check.scale:.3g}, {check.different} of "
            f"{check.inputs} inputs differ, {check.agree} have the same largest output")
    if _same(check):
        return Finding(name=name, ok=True, text=text)
    because = "rounding ties are all of it" if explained else "rounding ties do not explain it"
    return Finding(name=name, ok=None if explained else False, text=f"{text}; {because}")


def _rounding(driven: Driven, reference: Reference) -> Finding:
    down = f"{driven.floors} quantisers round down, which FINN's thresholds do exactly" if driven.floors else ""
    if not reference.ties:
        text = "no activation lies half way between two levels"
        return Finding(name="rounding ties", ok=True, text=f"{text}; {down}" if down else text)
    where = ", ".join(f"{name} {count}" for name, count in sorted(reference.ties.items(), key=lambda t: -t[1])[:4])
    more = f" and {len(reference.ties) - 4} more" if len(reference.ties) > 4 else ""
    text = (f"{sum(reference.ties.values())} activations lie half way between two levels ({where}{more}): QONNX "
            "rounds them to the even one, FINN up")
    if driven.checks.half_up is not None:
        text += f"; against the network with halves rounded up FINN differs by {driven.checks.half_up.largest:.3g}"
    return Finding(name="rounding ties", ok=None, text=f"{text}; {down}" if down else text)


def _bottleneck(driven: Driven, options: Options) -> str:
    layer = next((one for one in driven.layers if one.name == driven.bottleneck), None)
    folding = ", ".join(f"{k} {v}" for k, v in layer.folding.items() if k in ("PE", "SIMD")) if layer else ""
    wish = f"as asked: {options.fps:g}/s" if options.fps else "the fastest that fits the target's limits"
    name = f"{driven.bottleneck} ({folding})" if folding else driven.bottleneck
    return f"{name}: an inference every {driven.max_cycles:,} cycles; {wish}"


def _state(driven: Driven) -> str:
    ports = ", ".join(f"{layer} {'/'.join(names)}" for layer, names in sorted(driven.external.items()))
    return (f"one step's hardware runs {driven.steps} times, and its state goes through external memory (DDR) in "
            f"between: {ports or 'FINNLoop'}; that traffic is not in the estimates")


def _not_modelled(driven: Driven) -> Finding:
    kinds = Counter(layer.kind for layer in driven.layers if not layer.modelled)
    if not kinds:
        return Finding(name="not modelled", ok=None, text="FINN has a model of every layer's look-up tables")
    text = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    return Finding(name="not modelled", ok=None, text=f"FINN has no model of the look-up tables of {text}")
