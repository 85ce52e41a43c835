"""What the ONNX parser of a TensorRT version reads: the newest opset, the operators, how they may be used.

The table is tensorrt.toml, from the parser's own documentation. It says what is documented, not what a board will
do: the parser there has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hwkit.describe import Frozen, Kind, NonEmpty, load
from hwkit.errors import BadInput

STANDARD = ("", "ai.onnx")
QUANTISED = {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"}
KEEP = {"Cast", "DequantizeLinear", "Identity", "QuantizeLinear"}      # of a constant: a constant to the parser


class Restriction(Frozen):
    """How `operators` may be used in releases `since` <= version < `until`; see tensorrt.toml for the checks."""

    operators: tuple[NonEmpty, ...]
    text: NonEmpty
    instead: NonEmpty
    since: str = "0"
    until: str | None = None
    zero_inputs: tuple[int, ...] = ()
    constant_inputs: tuple[int, ...] = ()
    most_outputs: int | None = None
    input_types: tuple[str, ...] = ()
    attribute: str | None = None
    allowed: tuple[str | int, ...] = ()


class Release(Frozen):
    """One version whose documentation is in the table. `adds`: operators that the one before does not read."""

    version: NonEmpty
    opset: int
    carried_by: str
    kind: Kind
    source: NonEmpty
    adds: NonEmpty


class _Table(Frozen):
    releases: tuple[Release, ...]
    restrictions: tuple[Restriction, ...]


class Parser(Frozen):
    """What one version's parser reads.

    version    as asked for
    release    the documented version that is taken for it
    note       said where that is another one, else ""
    opset      the newest it reads, with `kind` and `source`
    first      operator -> the release that read it first, for all releases
    """

    version: str
    release: str
    note: str
    opset: int
    kind: Kind
    source: str
    operators: frozenset[str]
    restrictions: tuple[Restriction, ...]
    first: dict[str, str]

    def refusals(self, model: Any) -> list[str]:
        """Why this version would not read `model` (onnx.ModelProto), a line each; empty where nothing is known.

        Bodies of loops and branches are looked into. Weights may be missing (external data).
        """
        name = f"TensorRT {self.version}"
        opset = max((i.version for i in model.opset_import if i.domain in STANDARD), default=0)
        found = [f"opset {opset} is newer than the {self.opset} that {name} reads: export it with opset "
                 f"{self.opset}"] if opset > self.opset else []
        tensors = _Tensors()
        for node in tensors.walk(model.graph):
            where = f"node {node.name or (node.output[0] if node.output else '')!r} ({node.op_type})"
            found += [f"{where}: {why}" for why in self._reasons(node, tensors, name)]
        return found

    def _reasons(self, node: Any, tensors: _Tensors, name: str) -> Iterator[str]:
        if node.domain not in STANDARD:
            yield (f"{name} has no operator of the domain {node.domain!r}: write it with standard operators, or "
                   "bring a plugin")
            return
        if node.op_type not in self.operators:
            first = self.first.get(node.op_type)
            later = f" ({first} does)" if first else ""
            instead = ("put QuantizeLinear and DequantizeLinear around the float operator"
                       if node.op_type in QUANTISED else "write it with other operators, or use ONNX Runtime")
            yield f"{name} does not read this operator{later}: {instead}"
            return
        for rule in self.restrictions:
            if node.op_type in rule.operators and _broken(rule, node, tensors):
                yield f"{rule.text} in {name}: {rule.instead}"


class _Tensors:
    """Constants of the graphs walked so far, and the types of what QuantizeLinear gives."""

    def __init__(self) -> None:
        self.constants: dict[str, Any] = {}      # name -> TensorProto, None where its value is not at hand
        self.types: dict[str, str] = {}

    def walk(self, graph: Any) -> Iterator[Any]:
        """Every node in order, bodies after the node that holds them."""
        from onnx import TensorProto

        for tensor in graph.initializer:
            self.constants[tensor.name] = tensor
            self.types[tensor.name] = TensorProto.DataType.Name(tensor.data_type)
        for node in graph.node:
            if node.op_type == "Constant" and node.domain in STANDARD:
                tensor = next((a.t for a in node.attribute if a.name == "value"), None)
                self.constants[node.output[0]] = tensor
                if tensor is not None:
                    self.types[node.output[0]] = TensorProto.DataType.Name(tensor.data_type)
            elif node.op_type == "QuantizeLinear":
                zero = node.input[2] if len(node.input) > 2 else ""
                self.types[node.output[0]] = self.types.get(zero, "UINT8")      # the default of the standard
            if node.op_type in KEEP and node.domain in STANDARD and node.input[0] in self.constants:
                self.constants[node.output[0]] = None
            yield node
            for attribute in node.attribute:
                for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    yield from self.walk(body)

    def zero(self, name: str) -> bool:
        """Whether it is all zeros, or not known."""
        import onnx

        tensor = self.constants.get(name)
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return True
        return not onnx.numpy_helper.to_array(tensor).any()


def _broken(rule: Restriction, node: Any, tensors: _Tensors) -> bool:
    def given(position: int) -> str:
        return str(node.input[position]) if position < len(node.input) else ""

    if any(given(k) and not tensors.zero(given(k)) for k in rule.zero_inputs):
        return True
    if any(given(k) and given(k) not in tensors.constants for k in rule.constant_inputs):
        return True
    if rule.most_outputs is not None and any(node.output[rule.most_outputs:]):
        return True
    kind = tensors.types.get(given(0))
    if rule.input_types and kind is not None and kind not in rule.input_types:
        return True
    given_values = (v for a in node.attribute if a.name == rule.attribute for v in _values(a))
    return any(value not in rule.allowed for value in given_values)


def _values(attribute: Any) -> list[str | int]:
    import onnx

    value = onnx.helper.get_attribute_value(attribute)
    listed = value if isinstance(value, list | tuple) else [value]
    return [v.decode() if isinstance(v, bytes) else v for v in listed]


def reads(version: str) -> Parser:
    """What the parser of `version` ("8.2.1", "10.3") reads.

    Of a version that is not listed, what the nearest one below it reads; Parser.note says so. Raises BadInput when
    `version` is none.
    """
    asked = _key(version)
    known = _table().releases
    release = next((r for r in reversed(known) if _key(r.version) <= asked), known[0])
    same = asked == _key(release.version) or asked[0] == 11
    below = "the nearest below it" if _key(release.version) <= asked else "the oldest that is"
    upto = known[:known.index(release) + 1]
    return Parser(version=version, release=release.version, opset=release.opset, kind=release.kind,
                  source=release.source,
                  note="" if same else f"what TensorRT {version} reads is not listed here: taken from "
                                       f"{release.version}, {below}",
                  operators=frozenset(op for r in upto for op in r.adds.split()),
                  restrictions=tuple(r for r in _table().restrictions if _key(r.since) <= _key(release.version)
                                     and (r.until is None or _key(release.version) < _key(r.until))),
                  first={op: r.version for r in known for op in r.adds.split()})


def _key(version: str) -> tuple[int, int]:
    """Major and minor. Raises BadInput."""
    found = re.match(r"(\d+)(?:\.(\d+))?(?:\.\d+)*$", version)
    if found is None:
        raise BadInput(f"{version!r} is no version of TensorRT", "e.g. 10.3 or 8.5.2")
    return int(found[1]), int(found[2] or 0)


@cache
def _table() -> _Table:
    return load(Path(__file__).with_suffix(".toml"), _Table)
