"""Post-training quantisation: what is planned, what is written, and that torch, qonnx and integers agree."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from hwkit.errors import BadInput, BadModel
from hwkit.integer.agreement import compared
from hwkit.integer.graph import IntegerGraph
from hwkit.nn import ptq
from hwkit.nn._ptq_graph import planned, points
from hwkit.zoo.resnet8 import ResidualBlock

SHAPE = (1, 8, 8)
IMAGES = np.random.default_rng(0).standard_normal((96, *SHAPE)).astype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Residual(nn.Module):
    """An identity short cut behind a ReLU, and one that is a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.same, self.down = ResidualBlock(4, 4, 1), ResidualBlock(4, 6, 2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.down(self.same(self.stem(x))).mean((2, 3)))
        return out


class Steps(nn.Module):
    """Two Euler steps over one convolution: a state with a sign, added to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.f = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.stem(x)
        for _ in range(2):
            z = z + self.f(z)
        out: torch.Tensor = self.head(z)
        return out


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(1, 2, 1)
        self.head = nn.Sequential(nn.Conv2d(5, 2, 3, groups=1), nn.ReLU6(), nn.AvgPool2d(2), nn.Flatten(),
                                  nn.Linear(18, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.cat([torch.relu(self.a(x)), torch.relu(self.b(x))], 1))
        return out


def pooled() -> nn.Module:
    """MaxPool before the ReLU, depthwise, dropout."""
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.ReLU(),
                         nn.Conv2d(4, 4, 3, groups=4, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5),
                         nn.Flatten(), nn.Linear(36, 3))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 12),
                         nn.ReLU(), nn.Linear(12, 3))


Files = dict[str, tuple[nn.Module, nn.Module, Path]]
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual, "steps": Steps, "joined": Joined, "pooled": pooled, "mlp": mlp}


def made(name: str) -> nn.Module:
    """Untrained, with BatchNorm statistics of one batch of noise."""
    torch.manual_seed(0)
    network = NETWORKS[name]().train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(32, *SHAPE))
    return network.eval()


def plan(network: nn.Module) -> torch.fx.GraphModule:
    return planned(ptq.exported(network, SHAPE).folded()[0].module, "net")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Float network, quantised network and QONNX file; W4A4."""
    folder = tmp_path_factory.mktemp("ptq")
    found = {}
    for name in NETWORKS:
        network = made(name)
        quantised = ptq.quantized(network, IMAGES, weight_bits=4, activation_bits=4)
        ptq.export(quantised, SHAPE, folder / f"{name}.onnx")
        found[name] = network, quantised, folder / f"{name}.onnx"
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_the_plan_computes_what_the_network_does(name: str) -> None:
    network, x = made(name), torch.from_numpy(IMAGES[:8])
    with torch.no_grad():
        torch.testing.assert_close(plan(network)(x), network(x), rtol=1e-4, atol=1e-5)


def test_what_meets_in_an_addition_is_of_one_group() -> None:
    graph = plan(made("residual"))
    group = {name: point.group for name, point in points(graph)}
    adds = [node for node in graph.graph.nodes if node.target is torch.add]
    assert len(adds) == 2
    for node in adds:
        first, second = (group[str(a.target)] for a in node.args)
        assert first == second
    assert len(set(group.values())) == len(group) - 2


def test_the_state_of_an_ode_block_has_one_scale_and_a_sign() -> None:
    graph = plan(made("steps"))
    found = dict(points(graph))
    state = {found[str(a.target)] for node in graph.graph.nodes if node.target is torch.add for a in node.args}
    assert {point.relu for point in state} == {False}
    assert len({point.group for point in state}) == 1
    layers = [node for node in graph.graph.nodes if str(node.target).startswith("layer")]
    assert len(layers) == 6   # stem, two convolutions twice, head
    assert len({node.target for node in layers}) == 4


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_qonnx_and_integers_agree(name: str, files: Files) -> None:
    _, quantised, path = files[name]
    found = compared(path, IMAGES[:20])
    assert found.unexplained == {}
    assert sum(found.differing.values()) <= found.codes / 10_000
    with torch.no_grad():
        torch_says = quantised(torch.from_numpy(IMAGES)).numpy()
    ours = IntegerGraph.from_qonnx(path).run(IMAGES).values()
    assert (np.abs(ours - torch_says).max(1) < 1e-4).mean() > 0.95


@pytest.mark.parametrize("name", ["residual", "mlp"])
def test_it_stays_close_to_the_float_network(name: str) -> None:
    """Each bit more brings the outputs nearer; 8 bits are within a few percent."""
    network, x = made(name), torch.from_numpy(IMAGES)
    with torch.no_grad():
        wanted = network(x)
        errors = [float((ptq.quantized(network, IMAGES, weight_bits=bits, activation_bits=bits)(x) - wanted).std()
                        / wanted.std()) for bits in (2, 4, 8)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


def scales(path: Path) -> tuple[onnx.GraphProto, dict[str, onnx.NodeProto], dict[str, np.ndarray]]:
    graph = onnx.load(path).graph
    return (graph, {name: node for node in graph.node for name in node.output},
            {t.name: numpy_helper.to_array(t) for t in graph.initializer})


def test_operands_of_an_addition_have_the_very_same_scale(files: Files) -> None:
    for name in ("residual", "steps"):
        graph, made_by, constants = scales(files[name][2])
        adds = [node for node in graph.node if node.op_type == "Add"]
        assert len(adds) == 2
        for node in adds:
            first, second = (constants[made_by[i].input[1]].item() for i in node.input)
            assert first == second


def test_scales_are_one_a_tensor_and_biases_have_no_quantiser(files: Files) -> None:
    for _, _, path in files.values():
        graph, made_by, constants = scales(path)
        for node in graph.node:
            if node.op_type == "Quant":
                assert constants[node.input[1]].size == 1
                assert not constants[node.input[2]].any()
            if node.op_type in ("Conv", "Gemm"):
                assert all(i in constants for i in node.input[2:])
                assert made_by[node.input[1]].op_type == "Quant"


def test_the_source_takes_every_file(files: Files) -> None:
    """No signed quantiser behind an unsigned one, and nothing float left over."""
    from hwkit.sources.qonnx import check_quantisers
    for _, _, path in files.values():
        check_quantisers(onnx.load(path).graph, path.name)


def test_bits_are_what_was_asked_for(files: Files) -> None:
    graph, _, constants = scales(files["mlp"][2])
    bits = [(n.input[0] in constants, int(constants[n.input[3]])) for n in graph.node if n.op_type == "Quant"]
    assert sorted(b for weight, b in bits if weight) == [4, 8, 8]   # the first and the last layer on 8
    assert [b for weight, b in bits if not weight] == [8, 4, 4]


def test_weights_of_one_bit_are_bipolar(tmp_path: Path) -> None:
    path = tmp_path / "binary.onnx"
    quantised = ptq.quantized(made("mlp"), IMAGES, weight_bits=1, activation_bits=2)
    ptq.export(quantised, SHAPE, path)
    graph, _, constants = scales(path)
    assert [node.input[0] in constants for node in graph.node if node.op_type == "BipolarQuant"] == [True]
    assert compared(path, IMAGES[:10]).unexplained == {}


def test_training_brings_it_nearer_and_is_the_same_each_time(tmp_path: Path) -> None:
    network, x = made("mlp"), torch.from_numpy(IMAGES)
    with torch.no_grad():
        wanted = network(x)

    def error(module: nn.Module) -> float:
        with torch.no_grad():
            return float((module(x) - wanted).square().mean())

    said: list[str] = []
    before = ptq.quantized(network, IMAGES, weight_bits=2, activation_bits=3)
    after = [ptq.quantized(network, IMAGES, weight_bits=2, activation_bits=3, epochs=30, say=said.append)
             for _ in range(2)]
    assert error(after[0]) < 0.7 * error(before)
    assert [line.split(":")[0] for line in said[:31]] == ["choosing scales",
                                                          *(f"epoch {k} of 30" for k in range(1, 31))]
    for name, module in zip(("one", "two"), after, strict=True):
        ptq.export(module, SHAPE, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(0, 4), (9, 4), (4, 1), (4, 9)])
def test_widths_that_cannot_be(weight_bits: int, activation_bits: int) -> None:
    with pytest.raises(BadInput, match=f"weights of {weight_bits} and activations of {activation_bits} bits"):
        ptq.quantized(mlp(), IMAGES, weight_bits=weight_bits, activation_bits=activation_bits)


def test_no_inputs() -> None:
    with pytest.raises(BadInput, match="no inputs to choose scales with"):
        ptq.quantized(mlp(), IMAGES[:0])


@pytest.mark.parametrize("layer", [nn.GELU(), nn.Softmax(1), nn.ConvTranspose2d(4, 4, 2)])
def test_an_operator_that_is_not_known_is_named(layer: nn.Module) -> None:
    network = nn.Sequential(OrderedDict(first=nn.Conv2d(1, 4, 3), odd=layer, flat=nn.Flatten()))
    with pytest.raises(BadModel, match="is not among what can be quantised here"):
        ptq.quantized(network, IMAGES)


def spec(tmp_path: Path, **changes: object) -> dict[str, object]:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(made("mlp"), (torch.zeros(1, *SHAPE),)), path)
    np.savez(tmp_path / "data.npz", calibration=IMAGES, images=IMAGES[:4])
    return {"path": str(path), "name": "net", "input_shape": SHAPE, "dataset": None,
            "data": str(tmp_path / "data.npz"), "weight_bits": 4, "activation_bits": 4, "epochs": 0,
            "calibration": 64, "images": 64, "seed": 0, "out": str(tmp_path / "net.onnx"), **changes}


def test_the_job_writes_a_file(tmp_path: Path) -> None:
    said: list[str] = []
    found = ptq.job(spec(tmp_path), said.append)
    path = tmp_path / "net.onnx"
    assert found == {"bytes": path.stat().st_size, "images": 64}
    assert said == ["choosing scales", "exporting"]
    assert IntegerGraph.from_qonnx(path).input_shape == SHAPE


def test_the_job_refuses_random_inputs(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="net cannot be quantised on random inputs"):
        ptq.job(spec(tmp_path, data=None), lambda text: None)


def test_importing_it_needs_no_brevitas() -> None:
    import subprocess
    import sys
    code = "import sys, hwkit.nn.ptq; print([m for m in sys.modules if m.startswith(('brevitas', 'qonnx'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
