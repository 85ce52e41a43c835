"""Where the time of a network on a GPU goes, layer by layer, and why int8 lost to half precision when it did."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from hwkit.describe import Frozen
from hwkit.gpu import ort_profile
from hwkit.gpu.ort_profile import NodeCost
from hwkit.gpu.trtexec import LayerInfo, Profile, Times
from hwkit.units import shown

Kind = Literal["compute", "reformat", "quantise", "fallback", "copy"]
INT8 = "int8"
NOISE = 0.02                # of the time: a smaller difference is none
NAMED = 3                   # layers named in a sentence
LONGEST_NAME = 80

# of TensorRT
REFORMATTING = "Reformatting CopyNode"
MOVING_TYPES = ("shuffle", "transpose", "noop")
# parts of a fused name that only move or convert: "Transpose_3", "/a/Reshape", "(Unnamed Layer* 8) [Shuffle]"
_MOVING = re.compile(r"(?:.*/)?(?:node_)?(?:Transpose|Reshape|Flatten|Squeeze|Unsqueeze|Shuffle|Cast)(?:_\w+)?"
                     r"|\(Unnamed Layer\*? \d+\) \[Shuffle\]"
                     r"|(?:un)?squeeze_(?:node_)?after_.*|shuffle_(?:between|after)_.*|reshape_(?:before|after)_.*")
_QUANTISING = re.compile(r"(?:.*[/_])?(?:Quantize|Dequantize)Linear(?:_\w+)?")
_COPIED = re.compile(r"copied_.*|.* copy")
# its compiler's own layers are called by four letters of each operator inside: "__myl_TranReshMove_myl0_3"
_COMPILED = re.compile(r"__myl_((?:[A-Z][a-z]{2,3})+)_")
MOVING_WORDS = {"Tran", "Resh", "Move", "Slic", "Conc", "Repl", "Cast"}

# of ONNX Runtime
MEMCPY = ("MemcpyToHost", "MemcpyFromHost")
QUANTISING_OPS = ("QuantizeLinear", "DequantizeLinear")
MOVING_OPS = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "ReorderInput", "ReorderOutput")


class Layer(Frozen):
    """One layer in one inference, all its repeats together.

    kind        compute; reformat: only moves or converts its input; quantise: only quantises or dequantises it;
                fallback: on the processor though a GPU was asked for; copy: between host and GPU, or on the GPU
    precision   what it computes in; "" where that is not known
    """

    name: str
    kind: Kind
    seconds: float
    precision: Literal["", "f32", "f16", "int8"] = ""


class Attribution(Frozen):
    """The time of one inference by what it is spent on. `h2d_s`, `d2h_s`: the copies at its ends."""

    layers: tuple[Layer, ...]
    h2d_s: float = 0.0
    d2h_s: float = 0.0

    def seconds(self, *kinds: Kind) -> float:
        return sum(layer.seconds for layer in self.layers if layer.kind in kinds)

    @property
    def compute_s(self) -> float:
        return self.seconds("compute")

    @property
    def reformat_s(self) -> float:
        return self.seconds("reformat")

    @property
    def quantise_s(self) -> float:
        return self.seconds("quantise")

    @property
    def fallback_s(self) -> float:
        return self.seconds("fallback")

    @property
    def copy_s(self) -> float:
        """Copies between and at the ends of the layers."""
        return self.seconds("copy") + self.h2d_s + self.d2h_s

    @property
    def total_s(self) -> float:
        return sum(layer.seconds for layer in self.layers) + self.h2d_s + self.d2h_s

    def heaviest(self, count: int = NAMED, *kinds: Kind) -> tuple[Layer, ...]:
        """The layers that take longest, of these kinds or of all."""
        some = [layer for layer in self.layers if layer.seconds > 0 and (not kinds or layer.kind in kinds)]
        return tuple(sorted(some, key=lambda layer: -layer.seconds)[:count])

    def text(self) -> str:
        """"compute 0.80 ms, reformats 0.10 ms": everything that takes time, longest first."""
        parts = [(self.compute_s, "compute"), (self.reformat_s, "reformats"), (self.fallback_s, "CPU fall-back"),
                 (self.quantise_s, "quantise and dequantise"), (self.copy_s, "copies")]
        return ", ".join(f"{name} {shown(s, 's')}" for s, name in sorted(parts, key=lambda p: -p[0]) if s > 0)


def of_tensorrt(profile: Profile, infos: Iterable[LayerInfo] = (), times: Times | None = None,
                repeat: int = 1) -> Attribution:
    """Of one engine, run `repeat` times an inference on its own output, which stays on the GPU.

    infos: as far as they are known; times: for the copies
    """
    known = {info.name: info for info in infos}
    layers = []
    for layer in profile.layers:
        info = known.get(layer.name, LayerInfo(name=layer.name))
        layers.append(Layer(name=layer.name, kind=_tensorrt_kind(info), seconds=layer.seconds * repeat,
                            precision=info.precision))
    return Attribution(layers=tuple(layers), h2d_s=statistics.median(times.h2d_s) if times else 0.0,
                       d2h_s=statistics.median(times.d2h_s) if times else 0.0)


def of_onnxruntime(costs: Iterable[NodeCost], wanted: str, precisions: Mapping[str, str] | None = None,
                   h2d_s: float = 0.0, d2h_s: float = 0.0) -> Attribution:
    """Of nodes that ran while the provider `wanted` was asked for. precisions: of nodes, where they are known."""
    def precision(name: str) -> Literal["", "f32", "f16", "int8"]:
        match (precisions or {}).get(name, ""):
            case "f32" | "f16" | "int8" as told:
                return told
            case _:
                return ""

    return Attribution(h2d_s=h2d_s, d2h_s=d2h_s, layers=tuple(
        Layer(name=c.name, kind=_onnxruntime_kind(c, wanted), seconds=c.seconds, precision=precision(c.name))
        for c in costs))


def chained(parts: Sequence[Attribution]) -> Attribution:
    """Of the stages of a network, one after the other: tensors stay on the GPU between them."""
    return Attribution(layers=tuple(layer for part in parts for layer in part.layers),
                       h2d_s=parts[0].h2d_s if parts else 0.0, d2h_s=parts[-1].d2h_s if parts else 0.0)


def _tensorrt_kind(info: LayerInfo) -> Kind:
    """By its type where that is told, else by its name, which joins those of its parts by " + "."""
    name, kind = info.name, info.type.lower()
    if _COPIED.fullmatch(name):
        return "copy"
    if kind == "reformat" and info.origin == "QDQ":
        return "quantise"
    if kind == "reformat" or kind in MOVING_TYPES or name.startswith(REFORMATTING):
        return "reformat"
    compiled = _COMPILED.match(name)
    if compiled:
        words = set(re.findall("[A-Z][a-z]{2,3}", compiled[1]))
        return "reformat" if words <= MOVING_WORDS else "compute"
    parts = [*(info.nodes or name.split(" + "))]
    if all(_QUANTISING.fullmatch(part) for part in parts):
        return "quantise"
    return "reformat" if all(_MOVING.fullmatch(part) for part in parts) else "compute"


def _onnxruntime_kind(cost: NodeCost, wanted: str) -> Kind:
    if cost.op in MEMCPY:
        return "copy"
    if ort_profile.fallen_back([cost], wanted):
        return "fallback"
    if cost.op in QUANTISING_OPS:
        return "quantise"
    return "reformat" if cost.op in MOVING_OPS else "compute"


class _Cause(Frozen):
    """Something on which int8 spends more. extra_s: more than half precision does."""

    extra_s: float
    text: str
    layers: tuple[Layer, ...]

    def sentence(self) -> str:
        named = ", ".join(f"{_short(layer.name)} {shown(layer.seconds, 's')}" for layer in self.layers)
        return f"{shown(self.extra_s, 's')} more in {self.text}{f' ({named})' if named else ''}"


def why_slower(int8: Attribution, f16: Attribution, int8_s: float | None = None,
               f16_s: float | None = None) -> str:
    """One sentence: whether int8 beat half precision, and what it lost on when it did not.

    int8_s, f16_s   timed latencies; without them the layers' sums are compared. Both, or neither
    """
    a, b = (int8.total_s, f16.total_s) if int8_s is None or f16_s is None else (int8_s, f16_s)
    against = f"{shown(a, 's')} against {shown(b, 's')}"
    if a < b * (1 - NOISE):
        return f"INT8 beat FP16: {against}, {b / a:.2f} times as fast"
    verdict = f"INT8 lost to FP16: {against}" if a > b * (1 + NOISE) else f"INT8 is no faster than FP16: {against}"
    causes = [c for c in _causes(int8, f16) if c.extra_s > NOISE * b]
    if not causes:
        saved = f16.compute_s - int8.compute_s
        tail = (f"its layers save only {shown(saved, 's')}" if saved > 0 else "its layers take as long") + \
            ", and nothing else explains it"
        return f"{verdict}; {tail}"
    told = "; ".join(c.sentence() for c in sorted(causes, key=lambda c: -c.extra_s))
    return f"{verdict}, since it spends {told}"


def _causes(int8: Attribution, f16: Attribution) -> list[_Cause]:
    def more(text: str, *kinds: Kind) -> _Cause:
        return _Cause(extra_s=int8.seconds(*kinds) - f16.seconds(*kinds), text=text,
                      layers=int8.heaviest(NAMED, *kinds))

    copies = _Cause(extra_s=int8.copy_s - f16.copy_s, text="copies", layers=int8.heaviest(NAMED, "copy"))
    return [more("reformats", "reformat"),
            more("quantise and dequantise layers that were not fused", "quantise"),
            more("nodes that fell back to the CPU", "fallback"), copies, _compute(int8, f16)]


def _compute(int8: Attribution, f16: Attribution) -> _Cause:
    """Layers that compute: those left in float, where they explain it, else whichever take longest."""
    extra = int8.compute_s - f16.compute_s
    left = [c for c in int8.layers if c.kind == "compute" and c.precision in ("f16", "f32") and c.seconds > 0]
    in_float = sum(layer.seconds for layer in left)
    if left and in_float >= int8.compute_s / 2:
        worst = sorted(left, key=lambda layer: -layer.seconds)[:NAMED]
        return _Cause(extra_s=extra, layers=tuple(worst),
                      text=f"layers that compute, most of them left in float: {shown(in_float, 's')}")
    return _Cause(extra_s=extra, text="layers that compute", layers=int8.heaviest(NAMED, "compute"))


def _short(name: str) -> str:
    """A fused layer's name has every part in it."""
    return name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME - 1].rstrip() + "…"
