"""Networks of the zoo and of the user's own Python file, exported whole and in stages."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hwkit import zoo
from hwkit.errors import JobFailed
from hwkit.nn import ode
from hwkit.sources import open_source, read_model, resolve
from tests.sources.opening import Outcomes, model, opened, refusal

NET = """
import os, sys, time, ctypes
from collections import OrderedDict
import torch
from torch import nn
from hwkit.network import Network
from hwkit.nn.ode import ODEBlock
import neighbour

def step():
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())

def good(**options):
    torch.manual_seed(neighbour.SEED)
    network = nn.Sequential(OrderedDict(
        stem=nn.Conv2d(1, 4, 3), ode1=ODEBlock(step(), 10, **options), pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(), head=nn.Linear(4, 3)))
    network.input_shape = (1, 8, 8)
    return network

def timed():
    network = good()
    network.ode1 = ODEBlock(nn.Conv2d(5, 4, 3, padding=1), 3, solver="rk4", time_channel=True)
    return network

def named():
    return Network("mine", good(), (1, 8, 8), "digits", ("trained with care",))

class Nested(nn.Module):
    input_shape = (1, 8, 8)
    def __init__(self):
        super().__init__()
        self.inner = good()
    def forward(self, x):
        return self.inner(x)

def plain():
    torch.manual_seed(0)
    return nn.Linear(3, 4)
plain.input_shape = (3,)
def shapeless(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
def raises():
    values = {}
    return values["weights"]
def number(): return 3
def leaves(): sys.exit(3)
def needs(an_argument): return good()
def nan():
    network = good()
    network.head.weight.data[1, 2] = float("nan")
    return network
def double(): return good().double()
def pair():
    class Pair(nn.Module):
        def forward(self, x): return x, x
    network = Pair()
    network.input_shape = (3,)
    return network
def branching():
    class Branching(nn.Module):
        def forward(self, x): return x if x.sum() > 0 else -x
    network = Branching()
    network.input_shape = (3,)
    return network
def reads_a_file():
    open("weights.txt").read()
    return good()
def spins():
    while True: pass
def crashes(): os.abort()
def hogs(): return torch.zeros(10**12)
value = 3
"""
GOOD = ["good", "timed", "named", "Nested", "plain", "reads_a_file"]
BAD = ["raises", "number", "leaves", "needs", "nan", "double", "pair", "branching", "value"]


def line_of(text: str) -> int:
    return 1 + [line.strip() for line in NET.splitlines()].index(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("factory")
    (folder / "net.py").write_text(NET)
    (folder / "neighbour.py").write_text("SEED = 0\n")
    (folder / "weights.txt").write_text("1")
    images = np.zeros((2, 3, 6, 6), np.float32)
    np.savez(folder / "mine.npz", calibration=images, images=images)
    return folder


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> Outcomes:
    data = folder / "mine.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return opened({
            "zoo": "dsodenet",
            **{name: f"net.py:{name}" for name in GOOD + BAD},
            "shape given": ("net.py:shapeless", {"input_shape": (3, 5, 5)}),
            "shape not taken": ("net.py:shapeless", {"input_shape": (1, 5, 5)}),
            "shape contradicted": ("net.py:good", {"input_shape": (1, 9, 9)}),
            "shape unknown": "net.py:shapeless",
            "shape of the inputs": ("net.py:shapeless", {"data": data}),
            "inputs of another shape": ("net.py:good", {"data": data}),
        }, folder / "out")


@pytest.fixture(scope="module")
def limited(folder: Path) -> Outcomes:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return opened({name: f"net.py:{name}" for name in ("spins", "crashes", "hogs", "timed")},
                      folder / "limited", timeout_s=5.0, memory_bytes=2**32)


def built(name: str, folder: Path) -> torch.nn.Module:
    """The same network, built here."""
    space: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        exec((folder / "net.py").read_text(), space)
    network = space[name]()   # type: ignore[operator]
    return (network.module if name == "named" else network).eval()


@pytest.mark.parametrize("name", ["good", "timed", "named", "Nested", "plain"])
def test_the_file_computes_what_the_network_does(name: str, folder: Path, outcomes: Outcomes) -> None:
    opened_model = model(outcomes[name])
    network = built(name, folder)
    x = torch.randn(1, *opened_model.input_shape)
    exported = torch.export.load(opened_model.path).module()
    torch.testing.assert_close(exported(x), network(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "repeats"), [("good", [1, 10, 1]), ("timed", [1, 3, 1])])
def test_the_stages_compute_what_the_network_does(name: str, repeats: list[int], folder: Path,
                                                  outcomes: Outcomes) -> None:
    stages = model(outcomes[name]).stages
    assert [stage.repeat for stage in stages] == repeats
    x = z = torch.randn(1, 1, 8, 8)
    for stage in stages:
        run = torch.export.load(stage.path).module()
        for k in range(stage.repeat):
            z = run(z) if stage.times is None else run(z, torch.tensor([stage.times[k]]))
    torch.testing.assert_close(z, built(name, folder)(x), rtol=1e-6, atol=1e-6)


def test_shared_weights_are_stored_and_counted_once(folder: Path, outcomes: Outcomes) -> None:
    network = built("good", folder)
    parameters = sum(p.numel() for p in network.parameters())
    opened_model = model(outcomes["good"])
    assert opened_model.parameters == parameters == 4 * 10 + 4 * 37 + 2 * 4 + 15
    assert opened_model.parameter_bytes == 4 * (parameters + 2 * 4)   # and the running mean and variance
    program = torch.export.load(opened_model.path)
    calls = [n for n in program.graph.nodes if n.target == torch.ops.aten.conv2d.default]
    assert len(calls) == 11
    assert len({n.args[1] for n in calls}) == 2


def test_what_a_network_brings_is_kept(outcomes: Outcomes) -> None:
    opened_model = model(outcomes["named"])
    assert (opened_model.name, opened_model.dataset) == ("mine", "digits")
    assert opened_model.history == ("trained with care",)
    assert model(outcomes["good"]).name == "net-good"


def test_an_ode_block_that_cannot_be_cut_out_is_deployed_unrolled(outcomes: Outcomes) -> None:
    opened_model = model(outcomes["Nested"])
    assert opened_model.stages == ()
    assert "unrolled only" in opened_model.history[-1]


def test_shape_from_the_command_line(outcomes: Outcomes) -> None:
    assert model(outcomes["shape given"]).input_shape == (3, 5, 5)


def test_the_users_own_inputs(folder: Path, outcomes: Outcomes) -> None:
    kept = model(outcomes["shape of the inputs"])
    assert kept.input_shape == (3, 6, 6)
    assert kept.data == folder / "out/shape of the inputs/data.npz"
    assert kept.data.read_bytes() == (folder / "mine.npz").read_bytes()


@pytest.mark.parametrize(("name", "says"), [
    ("raises", f"""net.py:{line_of('return values["weights"]')}: KeyError: 'weights' in: return values["w"""),
    ("number", f"net.py:{line_of('def number(): return 3')}: number returns int, not a torch.nn.Module"),
    ("leaves", f"net.py:{line_of('def leaves(): sys.exit(3)')}: SystemExit: 3"),
    ("needs", "missing 1 required positional argument"),
    ("nan", "head.weight has 1 NaN among its 12 values"),
    ("double", "stem.weight is float64; what is deployed here is float32"),
    ("pair", "gives 2 values, and what is deployed here gives one tensor"),
    ("branching", "cannot be exported by torch.export"),
    ("value", "no function named 'value'"),
    ("shape not taken", "does not take an input of shape (1, 5, 5) (its first layer, 0, takes 3 channels)"),
    ("shape contradicted", "net.py:good takes inputs of shape (1, 8, 8), not (1, 9, 9)"),
    ("shape unknown", "name the shape of one sample with --input-shape C,H,W"),
    ("inputs of another shape", "'calibration' has shape (2, 3, 6, 6), the network takes"),
])
def test_what_cannot_be_deployed(name: str, says: str, outcomes: Outcomes) -> None:
    assert says in refusal(outcomes[name])


def test_limits(limited: Outcomes) -> None:
    """A factory that loops, dies or eats memory costs its own child alone."""
    next_step = " -> open it in Python by itself to see why"
    assert refusal(limited["spins"]) == "opening net.py:spins: took longer than 5 s" + next_step
    assert refusal(limited["crashes"]) == \
        "opening net.py:crashes: crashed: it was ended by signal SIGABRT" + next_step
    assert refusal(limited["hogs"]) == "opening net.py:hogs: ran out of memory"
    assert all(isinstance(limited[name], JobFailed) for name in ("spins", "crashes", "hogs"))


def test_the_same_network_gives_the_same_files(folder: Path, outcomes: Outcomes, limited: Outcomes) -> None:
    """Opened by two jobs, byte for byte."""
    model(outcomes["timed"]), model(limited["timed"])
    first, again = folder / "out/timed", folder / "limited/timed"
    files = {p.relative_to(first) for p in first.rglob("*") if p.is_file()}
    assert {str(f) for f in files} == {"whole.pt2", "model.json", "stages/stem.pt2", "stages/ode1.pt2",
                                       "stages/pool-head.pt2"}
    for file in files:
        assert (first / file).read_bytes() == (again / file).read_bytes(), file


def test_zoo(folder: Path, outcomes: Outcomes) -> None:
    found, network = model(outcomes["zoo"]), zoo.network("dsodenet")
    assert (found.name, found.input_shape, found.history) == ("dsodenet", network.input_shape, network.history)
    assert found.parameters == sum(p.numel() for p in network.module.parameters())
    assert [s.repeat for s in found.stages] == [s.repeat for s in ode.stages(network.module)]
    assert read_model(folder / "out/zoo") == found
    told = json.loads((folder / "out/zoo/model.json").read_text())
    assert not any(Path(part["path"]).is_absolute() for part in [told, *told["stages"]])


def test_other_files_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="something other"):
        open_source(resolve("dsodenet"), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_format_files_are_found_by_their_name() -> None:
    """One format, one file: each has the function that the child calls."""
    import hwkit.sources
    for kind in ("zoo", "factory", "pt2", "onnx", "keras", "tflite"):
        tree = ast.parse((Path(hwkit.sources.__file__).parent / f"{kind}.py").read_text())
        assert any(isinstance(n, ast.FunctionDef) and n.name == "opened" for n in tree.body)
