"""Rewrites of the converted graph change no output: not in float32, and not a bit of it in int8."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from hwkit.backends.tflite import flat, integer, litert, operators, rewrite, slim, stem
from hwkit.backends.tflite.chain import Chain, Part
from hwkit.nn import program
from tests.backends.tflite import nets


class Pooled(nn.Module):
    """A stride-2 stem on `channels` channels, an addition, a RELU of its own, and global pooling."""

    def __init__(self, channels: int, tensorflow_padding: bool) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1)) if tensorflow_padding else nn.Identity()
        self.stem = nn.Conv2d(channels, 8, 3, 2, 0 if tensorflow_padding else 1)
        self.mix = nn.Conv2d(8, 8, 1)
        self.classify = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.stem(self.pad(x))
        z = z + self.mix(torch.relu(z))
        out: torch.Tensor = self.classify(z.mean((2, 3)))
        return out


def names(content: bytes) -> Counter[str]:
    model = flat.read(content)
    return Counter(flat.operator_name(model, o) for o in model.subgraphs[0].operators)


def outputs(content: bytes, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    chain = Chain([Part(content)])
    return np.concatenate([chain(one[None]) for one in inputs])


Case = tuple[bytes, NDArray[np.float32]]


@pytest.fixture(scope="module", params=[(1, False), (3, False), (3, True)], ids=["1ch", "3ch", "3ch-end-padded"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """(converted float32 model, inputs)"""
    channels, tensorflow_padding = request.param
    torch.manual_seed(0)
    network = Pooled(channels, tensorflow_padding).eval()
    path = nets.export(network, (torch.zeros(1, channels, 10, 8),), tmp_path_factory.mktemp("case") / "net.pt2")
    inputs = nets.images(16, channels, 10, 8, seed=5).transpose(0, 2, 3, 1)
    return litert.convert(program.load(path, "net")), inputs


def test_integer_rewrites_keep_the_outputs(case: Case) -> None:
    content, inputs = case
    changed = rewrite.rewrite_for_integers(content, dot_products=False)
    assert {"RELU", "DEPTHWISE_CONV_2D"} & set(names(changed)) == set()
    np.testing.assert_allclose(outputs(changed, inputs), outputs(content, inputs), rtol=1e-5, atol=1e-6)


def test_merged_columns_give_the_same_int8_values(case: Case) -> None:
    content, inputs = case
    model = flat.read(content)
    assert stem.merge_columns(model, dot_products=False) == 1
    plain, merged = (integer.quantize([Part(c)], inputs, lambda n: None)[0] for c in (content, flat.write(model)))
    np.testing.assert_array_equal(outputs(merged, inputs), outputs(plain, inputs))


def test_an_int8_relu_runs_on_the_delegate_only_when_rewritten(case: Case) -> None:
    content, inputs = case

    def off(float_content: bytes) -> set[str]:
        made = integer.quantize([Part(float_content)], inputs, lambda n: None)[0]
        model = flat.read(made)
        inside = operators.partitions(model, Chain([Part(made)]).runtimes[0])
        listed = operators.operators(model, inside, "net", 1, 0)
        return {o.name for o in listed if not o.delegate}

    assert off(content) == {"RELU"}
    assert off(rewrite.rewrite_for_integers(content, dot_products=False)) == set()


@pytest.mark.parametrize(("channels", "dot_products", "expected"), [
    (1, False, True), (3, False, True), (4, False, True), (5, False, False), (8, False, False),
    (1, True, True), (2, True, True), (3, True, False), (4, True, False)])
def test_columns_are_merged_where_fewer_groups_are_multiplied(
        channels: int, dot_products: bool, expected: bool) -> None:
    assert stem.gains(channels, dot_products) is expected


def test_pooling_needs_no_transpose(case: Case) -> None:
    """litert-torch transposes to channels first before a mean over height and width; ours does not."""
    content, _ = case
    assert names(content)["TRANSPOSE"] == 0
    assert names(content)["MEAN"] == 1


def test_slimming_keeps_the_network(tmp_path: Path) -> None:
    import litert_torch

    network = nets.ode_network()
    path = nets.export(network, (torch.zeros(1, 1, nets.SIDE, nets.SIDE),), tmp_path / "net.pt2")
    folded = program.load(path, "net").folded()[0]
    module = litert_torch.to_channel_last_io(folded.module, args=[0])
    with litert.quiet():
        bare = litert_torch.convert(module.eval(), (torch.zeros(1, nets.SIDE, nets.SIDE, 1),)).model_content()
    ours = slim.slim(bare)
    inputs = nets.images(4, 1, nets.SIDE, nets.SIDE, seed=5).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(outputs(ours, inputs), outputs(bare, inputs))
    assert len(ours) < 0.8 * len(bare)
    assert slim.slim(ours) == ours
    signature = Chain([Part(ours)]).runtimes[0].get_signature_list()
    assert signature == Chain([Part(bare)]).runtimes[0].get_signature_list()


def test_buffers_are_aligned_and_equal_vectors_are_stored_once() -> None:
    model = flat.new("ModelT")
    model.version, model.subgraphs, model.operatorCodes = 3, [], []
    model.buffers = [flat.new("BufferT") for _ in range(4)]
    weights = np.arange(100, dtype=np.uint8)
    for buffer in model.buffers[1:]:
        buffer.data = weights
    content = flat.write(model)
    assert content.count(weights.tobytes()) == 1
    assert content.index(weights.tobytes()) % 16 == 0


def test_buffers_behind_the_flatbuffer_are_brought_inside(case: Case) -> None:
    """Large models keep weights after the flatbuffer, found by offset."""
    content, inputs = case
    model: Any = flat.read(content)
    tail = b""
    start = len(content) + 65536   # past anything the rewritten flatbuffer can need
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data) > 32:
            buffer.offset, buffer.size = start + len(tail), len(buffer.data)
            tail += bytes(buffer.data)
            buffer.data = None
    assert tail
    outside = flat.write(model).ljust(start, b"\0") + tail
    again = flat.write(flat.read(outside))
    assert len(again) < len(outside)
    np.testing.assert_array_equal(outputs(again, inputs), outputs(content, inputs))
