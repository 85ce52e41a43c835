"""A .pt2 archive is opened as what it holds, and nothing that it holds is run.

Each attack is one that torch 2.13's own loader falls for; for two of them that is shown here.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hwkit.sources import resolve
from tests.sources.opening import Outcomes, model, opened, refusal

Records = dict[str, bytes]
MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SAMPLE = "data/sample_inputs/model.pt"


class Tied(nn.Module):
    """Two layers of one weight, and a constant."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(4)
        self.scale = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.second(torch.nn.functional.gelu(self.first(x), approximate="tanh"))) * self.scale


def exported(module: nn.Module, *inputs: torch.Tensor, **options: Any) -> bytes:
    data = io.BytesIO()
    torch.export.save(torch.export.export(module, inputs or (torch.randn(1, 4),), **options), data)
    return data.getvalue()


def records(archive: bytes) -> Records:
    with zipfile.ZipFile(io.BytesIO(archive)) as z:
        return {name.split("/", 1)[1]: z.read(name) for name in z.namelist()}


def packed(contents: Records) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as z:
        for name, content in contents.items():
            z.writestr(f"archive/{name}", content)
    return data.getvalue()


def edited(archive: bytes, record: str, change: Callable[[dict[str, Any]], None]) -> bytes:
    contents = records(archive)
    value = json.loads(contents[record])
    change(value)
    contents[record] = json.dumps(value).encode()
    return packed(contents)


class Attack:
    """Unpickled, it creates a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


def pickled(canary: Path) -> bytes:
    data = io.BytesIO()
    torch.save(((Attack(canary),), {}), data)
    return data.getvalue()


def python_file(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w')"


def a_node(program: dict[str, Any], target: str, text: str) -> None:
    """Make the first node a call of `target` with a text."""
    node = program["graph_module"]["graph"]["nodes"][0]
    node["target"] = target
    node["inputs"] = [{"name": "x", "arg": {"as_string": text}, "kind": 1}]


def a_size(program: dict[str, Any], expression: str) -> None:
    meta = next(iter(program["graph_module"]["graph"]["tensor_values"].values()))
    meta["sizes"][0] = {"as_expr": {"expr_str": expression, "hint": {"as_int": 1}}}


def a_name(program: dict[str, Any], name: str) -> None:
    """Rename the input, whose name becomes Python source."""
    text = json.dumps(program).replace('"name": "x"', json.dumps({"name": name})[1:-1])
    program.clear()
    program.update(json.loads(text))


def attacks(good: bytes, canary: Path) -> dict[str, tuple[bytes, str]]:
    """Archives that would create `canary`, and what each is told; nothing where the attack is only dropped."""
    def program(change: Callable[[dict[str, Any]], None]) -> bytes:
        return edited(good, MODEL, change)

    weights = edited(good, WEIGHTS, lambda c: c["config"]["first.weight"].update(use_pickle=True))
    constants = edited(good, CONSTANTS, lambda c: c["config"]["scale"].update(
        path_name="opaque_obj_0", use_pickle=True))
    return {
        "pickled weights": (packed({**records(weights), "data/weights/weight_0": pickled(canary)}),
                            "Python pickle"),
        "pickled constant": (packed({**records(constants), "data/constants/opaque_obj_0": pickle.dumps(
            Attack(canary))}), "Python pickle"),
        "legacy weights": (packed({**records(good), "data/weights/model.pt": pickled(canary)}), ""),
        "pickled sample": (packed({**records(good), SAMPLE: pickled(canary)}), ""),
        "guards": (program(lambda p: p.update(guards_code=[python_file(canary)])), ""),
        "a shell command": (program(lambda p: a_node(p, "torch.os.system", f"touch {canary}")),
                            "'torch.os.system'"),
        "an attribute of ATen": (program(lambda p: a_node(p, "torch.ops.aten.__class__.__call__", "x")),
                                 "is not a plain tensor operator"),
        "a file by an operator": (program(lambda p: a_node(p, "torch.ops.aten.from_file.default", str(canary))),
                                  "aten.from_file"),
        "a file name": (program(lambda p: a_node(p, "torch.ops.aten.gelu.default", str(canary))),
                        "takes the text"),
        "a size": (program(lambda p: a_size(p, python_file(canary))), "is not a plain name"),
        "a name": (program(lambda p: a_name(p, f"x={python_file(canary)}")), "is not a plain name"),
        "compiled code": (packed({**records(good), "data/aotinductor/model/a.so": b"\x7fELF"}), "compiled code"),
    }


ATTACKS = ("pickled weights", "pickled constant", "legacy weights", "pickled sample", "guards", "a shell command",
           "an attribute of ATen", "a file by an operator", "a file name", "a size", "a name", "compiled code")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pt2")


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, Path]:
    """Every archive by name; what an attack would create is the path with .canary."""
    good = exported(Tied().eval())
    nan = Tied().eval()
    nan.norm.running_var.data[2] = float("nan")
    dynamic = exported(Tied().eval(), torch.randn(3, 4), dynamic_shapes=({0: torch.export.Dim("n", min=2)},))

    class Two(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

    contents = {
        "good": good, "nan": exported(nan), "dynamic": dynamic, "training": exported(Tied(), torch.randn(2, 4)),
        "batch": exported(Tied().eval(), torch.randn(2, 4)),
        "two inputs": exported(Two(), torch.randn(1, 4), torch.randn(1, 4)),
        "double": exported(Tied().eval().double(), torch.randn(1, 4).double()),
        "half": exported(nn.Embedding(5, 4).eval(), torch.zeros(1, 3, dtype=torch.int64)),
        "no weights": packed({k: v for k, v in records(good).items() if k != "data/weights/weight_0"}),
        "short weights": packed({**records(good), "data/weights/weight_0": b"\0" * 8}),
        **{name: attacks(good, folder / f"{name}.canary")[name][0] for name in ATTACKS},
    }
    for name, data in contents.items():
        (folder / f"{name}.pt2").write_bytes(data)
    return {name: folder / f"{name}.pt2" for name in contents}


@pytest.fixture(scope="module")
def outcomes(files: dict[str, Path], folder: Path) -> Outcomes:
    words: dict[str, Any] = {name: str(path) for name, path in files.items()}
    return opened({**words, "shape": (words["good"], {"input_shape": (5,)})}, folder / "out")


def test_it_computes_the_same(outcomes: Outcomes) -> None:
    found = model(outcomes["good"])
    x = torch.randn(1, 4)
    torch.testing.assert_close(torch.export.load(found.path).module()(x), Tied().eval()(x), rtol=0, atol=0)
    assert (found.name, found.input_shape, found.stages) == ("good", (4,), ())
    assert found.history == ("read from good.pt2",)


def test_a_shared_weight_stays_one_tensor(outcomes: Outcomes) -> None:
    found = model(outcomes["good"])
    assert found.parameters == 16 + 4 + 4 + 4 + 4
    program = torch.export.load(found.path)
    linears = [n for n in program.graph.nodes if n.target == torch.ops.aten.linear.default]
    assert len({n.args[1] for n in linears}) == 1


@pytest.mark.parametrize(("name", "says"), [
    ("nan", "norm.running_var has 1 NaN among its 4 values"),
    ("dynamic", "dynamic shapes"),
    ("training", "training mode"),
    ("batch", "takes an input of shape (2, 4)"),
    ("two inputs", "takes 2 inputs"),
    ("double", "takes double inputs"),
    ("half", "takes long inputs"),
    ("no weights", "cannot be read"),
    ("short weights", "cannot be read"),
    ("shape", "takes inputs of shape (4,), not (5,)"),
])
def test_what_cannot_be_deployed(name: str, says: str, outcomes: Outcomes) -> None:
    assert says in refusal(outcomes[name])


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_in_the_archive_is_run(name: str, outcomes: Outcomes, folder: Path) -> None:
    says = attacks(exported(Tied().eval()), folder / "unused")[name][1]
    if says:
        assert says in refusal(outcomes[name])
    else:   # what would have been run is dropped, and the network itself is sound
        x = torch.randn(1, 4)
        found = torch.export.load(model(outcomes[name]).path).module()
        torch.testing.assert_close(found(x), Tied().eval()(x), rtol=0, atol=0)
    assert not (folder / f"{name}.canary").exists()


@pytest.mark.parametrize("name", ["pickled sample", "pickled constant"])
def test_torch_itself_does_run_it(name: str, files: dict[str, Path], outcomes: Outcomes, folder: Path) -> None:
    """Otherwise the test above would prove nothing."""
    canary = folder / f"{name}.canary"
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
            torch.export.load(files[name])
    except Exception:   # what the attack leaves is no sample and no constant
        pass
    assert canary.exists()
    canary.unlink()


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.pt2", "net.onnx"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_posing_as_a_model(name: str, zipped: bool, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save(Attack(canary), tmp_path / name, _use_new_zipfile_serialization=zipped)
    with pytest.raises(Exception, match="is a Python pickle") as e:
        resolve(str(tmp_path / name))
    assert "torch.export.save" in e.value.line()   # type: ignore[attr-defined]
    assert not canary.exists()
