"""The zoo: names, options, weights, and that every network can be exported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hwkit import datasets, train, zoo
from hwkit.errors import BadDescription, BadInput, BadModel, UnknownName

NETWORKS = ("ds_cnn", "dsodenet", "efficientnet_lite0", "mobilenet_v2", "odenet", "resnet8", "tiny_transformer")


def test_names_are_the_files_and_need_no_torch() -> None:
    assert zoo.names() == sorted(NETWORKS)
    code = "import sys, hwkit.zoo, hwkit.datasets; hwkit.zoo.names(); hwkit.datasets.names()"
    subprocess.run(
        [sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"],
        check=True, env={"PYTHONPATH": str(Path(zoo.__file__).parents[2])},
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_exported_network_computes_the_same(name: str) -> None:
    made = zoo.network(name, seed=0)
    assert not any(m.training for m in made.module.modules())
    x = torch.randn(1, *made.input_shape)
    with torch.no_grad():
        expected = made.module(x)
        found = torch.export.export(made.module, (x,)).module()(x)
    assert expected.shape == (1, 1000 if made.input_shape[0] == 3 else 10)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_untrained_network_follows_its_seed_and_keeps_its_scale(name: str) -> None:
    before = torch.random.get_rng_state()
    one, same, other = (zoo.network(name, seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    a, b, c = (torch.cat([v.flatten().float() for v in n.module.state_dict().values()])
               for n in (one, same, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert one.history == ("untrained, seed 3",)
    assert one.dataset is None
    x = torch.randn(4, *one.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        spread = float(one.module(x).std())
    assert 1e-2 < spread < 1e2   # neither vanished nor blown up on the way through


def parameters(name: str, **options: object) -> int:
    return sum(p.numel() for p in zoo.network(name, seed=0, **options).module.parameters())


def test_published_parameter_counts() -> None:
    # torchvision documents 3,504,872 for mobilenet_v2; Keras 1,968,680 trainable at alpha=0.5
    assert parameters("mobilenet_v2") == 3_504_872
    assert parameters("mobilenet_v2", width=0.5, resolution=96) == 1_968_680
    # tensorflow/tpu: 4.7 M; the registry package's own state dict holds 4,652,008
    assert parameters("efficientnet_lite0") == 4_652_008


def test_options_change_the_network() -> None:
    assert zoo.network("mobilenet_v2", seed=0, resolution=96, classes=7).input_shape == (3, 96, 96)
    small = zoo.network("tiny_transformer", seed=0, input_shape=(3, 16, 12), patch=4, classes=5)
    assert small.module(torch.zeros(2, 3, 16, 12)).shape == (2, 5)


def test_mistakes_are_named() -> None:
    with pytest.raises(UnknownName, match="nearest: dsodenet"):
        zoo.network("dsodnet")
    with pytest.raises(UnknownName, match="nearest: steps"):
        zoo.network("dsodenet", step=4)
    with pytest.raises(UnknownName, match="dsodenet@fashion"):
        zoo.network("dsodenet@fashion-mist")
    with pytest.raises(BadInput, match="do not fit these options"):
        zoo.network("dsodenet", channels=(8, 16, 32))


def test_own_weights_shadow_the_shipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "weights"
    own.mkdir()
    for path in zoo.WEIGHTS.glob("dsodenet-digits.*"):
        (own / path.name.replace("-digits", "-usps")).write_bytes(path.read_bytes())
    monkeypatch.setenv("HWKIT_PATH", str(tmp_path))
    assert "dsodenet@usps" in zoo.trained()
    assert zoo.network("dsodenet@usps").dataset == "usps"
    weights = own / "dsodenet-usps.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BadModel, match="not a safetensors file"):
        zoo.network("dsodenet@usps")
    weights.with_suffix(".toml").write_text("shipped_seed = 1\n")
    with pytest.raises(BadDescription, match="not what a training writes"):
        zoo.network("dsodenet@usps")


@pytest.mark.parametrize("weights", sorted(zoo.WEIGHTS.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_weights_give_the_accuracy_they_state(weights: Path) -> None:
    result = train.load_result(weights)
    name = f"{result.recipe.network}@{result.recipe.dataset}"
    assert name in zoo.trained()
    network = zoo.network(name)
    assert network.dataset == result.recipe.dataset
    assert sum(p.numel() for p in network.module.parameters()) == result.parameters
    assert result.splits_sha256 == datasets.splits_sha256(result.recipe.dataset)
    stated = next(r for r in result.seeds if r.seed == result.shipped_seed)
    assert train.median_seed(result.seeds) == result.shipped_seed
    data = datasets.load(result.recipe.dataset, "validation")   # smaller than the test split
    found = train.accuracy(network.module, torch.from_numpy(data.images), torch.from_numpy(data.labels))
    assert found == pytest.approx(stated.validation, abs=2 / len(data))   # rounding may differ by machine


def test_shipped_networks_have_five_seeds() -> None:
    expected = {"dsodenet@fashion-mnist", "odenet@fashion-mnist", "resnet8@fashion-mnist",
                "ds_cnn@fashion-mnist", "tiny_transformer@digits", "dsodenet@digits"}
    assert set(zoo.trained()) == expected
    for weights in zoo.WEIGHTS.glob("*.toml"):
        assert len(train.load_result(weights).seeds) >= 5
