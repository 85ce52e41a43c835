"""Damage model files, always in the same way for the same seed."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import onnx

ODD_VALUES: list[Any] = [-1, 0, 1, 2**31, 2**63 - 1, -2**63, 1e308, 0.5, "", "x", "torch.ops.aten.add.Tensor",
                         "../x", None, True, [], {}, [None], {"as_int": -1}]
ODD_OPERATORS = ["Relu", "Reshape", "Gather", "If", "Loop", "Expand", "Pad", "Resize", "Tile", "Quant", "?"]


def truncated(data: bytes, r: random.Random) -> bytes:
    return data[:r.randrange(len(data))]


def bits_flipped(data: bytes, r: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(r.choice([1, 1, 2, 4, 16, 64])):
        changed[r.randrange(len(changed))] ^= 1 << r.randrange(8)
    return bytes(changed)


def head_flipped(data: bytes, r: random.Random) -> bytes:
    """In the first 200 bytes, where the structure is."""
    return bits_flipped(data[:200], r) + data[200:]


def tail_flipped(data: bytes, r: random.Random) -> bytes:
    """In the last 500 bytes: a flatbuffer's tables, a zip's directory."""
    return data[:-500] + bits_flipped(data[-500:], r)


def block_random(data: bytes, r: random.Random) -> bytes:
    start = r.randrange(len(data))
    size = r.randrange(1, 64)
    return data[:start] + r.randbytes(size) + data[start + size:]


def inserted(data: bytes, r: random.Random) -> bytes:
    start = r.randrange(len(data))
    return data[:start] + r.randbytes(r.randrange(1, 64)) + data[start:]


def spliced(data: bytes, r: random.Random) -> bytes:
    """The head of a file and the tail of the same from another place."""
    return data[:r.randrange(len(data))] + data[r.randrange(len(data)):]


def random_after_head(data: bytes, r: random.Random) -> bytes:
    return data[:16] + r.randbytes(r.randrange(1, 2000))


def all_random(data: bytes, r: random.Random) -> bytes:
    return r.randbytes(r.randrange(1, 2000))


def nothing(data: bytes, r: random.Random) -> bytes:
    return b""


def archive_record(data: bytes, r: random.Random) -> bytes:
    """A .pt2 whose zip is sound and in which one JSON value or one record is not."""
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        records = {name: z.read(name) for name in z.namelist()}
    name = r.choice([n for n in records if n.endswith("model.json")] * 6 + list(records))
    if name.endswith(".json"):
        records[name] = json.dumps(_odd_leaf(json.loads(records[name]), r)).encode()
    elif r.random() < 0.3:
        del records[name]
    else:
        records[name] = r.choice([truncated, bits_flipped, spliced])(records[name] or b"x", r)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, content in records.items():
            z.writestr(name, content)
    return out.getvalue()


def _odd_leaf(value: Any, r: random.Random) -> Any:
    places = list(_places(value))
    holder, key = r.choice(places)
    if r.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
    else:
        holder[key] = r.choice(ODD_VALUES)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def graph(data: bytes, r: random.Random) -> bytes:
    """An .onnx whose protobuf is sound and whose graph is not."""
    model = onnx.ModelProto.FromString(data)
    node = r.choice(model.graph.node)
    weight = r.choice(model.graph.initializer)
    match r.randrange(9):
        case 0:
            node.op_type = r.choice(ODD_OPERATORS)
        case 1:
            model.graph.node.remove(node)
        case 2 if node.input:
            node.input[r.randrange(len(node.input))] = r.choice(["", "nowhere", weight.name, node.output[0]])
        case 3 if node.attribute:
            attribute = r.choice(node.attribute)
            attribute.i = r.choice([-1, 0, 7, 2**40])
            attribute.ints[:] = [r.choice([-1, 0, 1, 3, 2**40]) for _ in attribute.ints]
        case 4:
            weight.dims[:] = [r.choice([-1, 0, 1, 5, 2**40]) for _ in range(r.randrange(4))]
        case 5:
            weight.data_type = r.randrange(30)
        case 6:
            weight.raw_data = r.randbytes(r.randrange(64))
        case 7:
            dim = r.choice(model.graph.input[0].type.tensor_type.shape.dim)
            dim.dim_value = r.choice([-1, 0, 3, 2**40])
        case _:
            model.opset_import[0].version = r.choice([0, 1, 6, 11, 13, 26, 2**40])
    return model.SerializeToString()


def constant(data: bytes, r: random.Random) -> bytes:
    """An .onnx in which one number of one constant is odd: a scale, a bit width, a shape."""
    model = onnx.ModelProto.FromString(data)
    tensor = r.choice(model.graph.initializer)
    values = onnx.numpy_helper.to_array(tensor).copy()
    odd_floats = [float("nan"), float("inf"), 1e30, 1e-30, 0.5] if values.dtype.kind == "f" else []
    values.reshape(-1)[r.randrange(values.size)] = r.choice([0, 1, -1, 2, 3, 40, *odd_floats])
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model.SerializeToString()


Mutation = Callable[[bytes, random.Random], bytes]
ANYWHERE: list[tuple[Mutation, int]] = [
    (truncated, 12), (bits_flipped, 18), (head_flipped, 8), (tail_flipped, 10), (block_random, 8), (inserted, 6),
    (spliced, 8), (random_after_head, 4), (all_random, 4), (nothing, 1)]
IN_FORMAT: dict[str, list[tuple[Mutation, int]]] = {
    ".pt2": [(archive_record, 45)], ".onnx": [(graph, 45)], ".qonnx": [(graph, 30), (constant, 20)],
    ".tflite": [(tail_flipped, 10), (bits_flipped, 10)]}


def mutants(data: bytes, suffix: str, seed: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of every damaged version of a file."""
    r = random.Random(f"{suffix}{seed}")
    for mutation, times in [*ANYWHERE, *IN_FORMAT[suffix]]:
        for _ in range(times):
            yield f"{mutation.__name__}-{r.randrange(10**6):06}", mutation(data, r)
