"""Engines: their names, and why one may not be loaded. The board decides as the build machine does."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hwkit.errors import BoardError
from hwkit.gpu.engine import SUFFIX, Sidecar, Wanted, engine_name, platform_name, read_sidecar, refusal
from tests.payloads import loaded

PAYLOAD = Path(__file__).parents[2] / "boards" / "payloads" / "tensorrt.py"
WANTED = Wanted(model_sha256="a" * 64, flags=("--int8", "--fp16"), gpu="Orin", sm="8.7", multiprocessors=8,
                tensorrt="10.3.0")
BUILT = Sidecar(**WANTED.model_dump(), engine_sha256="e" * 64, engine_bytes=1000)
FOREIGN: list[tuple[dict[str, Any], str]] = [
    ({"gpu": "Xavier"}, "it was built on Xavier, this GPU is Orin"),
    ({"sm": "7.2"}, "it was built for SM 7.2, this GPU has SM 8.7"),
    ({"multiprocessors": 16}, "it was built on a GPU with 16 multiprocessors, this one has 8"),
    ({"tensorrt": "8.6.2"}, "it was built by TensorRT 8.6.2, this is 10.3.0"),
    ({"model_sha256": "b" * 64}, "it was built from another ONNX file"),
    ({"flags": ("--fp16",)}, "it was built with --fp16, not --int8 --fp16"),
]


@pytest.fixture(scope="module")
def board() -> ModuleType:
    """The payload as a module."""
    return loaded(PAYLOAD)


def plain(value: Wanted) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(value.model_dump_json())
    return found


def test_the_engine_of_this_board_may_be_loaded(board: ModuleType) -> None:
    assert refusal(BUILT, WANTED) is None
    assert refusal(BUILT, WANTED, "e" * 64) is None
    assert board.refusal(plain(BUILT), plain(WANTED), "e" * 64) is None


@pytest.mark.parametrize(("change", "why"), FOREIGN, ids=[next(iter(change)) for change, _ in FOREIGN])
def test_a_foreign_engine_is_refused(change: dict[str, Any], why: str, board: ModuleType) -> None:
    sidecar = BUILT.model_copy(update=change)
    assert refusal(sidecar, WANTED) == why
    assert board.refusal(plain(sidecar), plain(WANTED)) == why
    assert engine_name("net", sidecar) != engine_name("net", WANTED)


def test_a_damaged_engine_is_refused(board: ModuleType) -> None:
    for why in (refusal(BUILT, WANTED, "f" * 64), board.refusal(plain(BUILT), plain(WANTED), "f" * 64)):
        assert why == "the file is damaged: it is not the one that was built"


@pytest.mark.parametrize("sidecar", [None, [], {}, {"gpu": 3}, {**plain(BUILT), "flags": "--int8 --fp16"},
                                     {**plain(BUILT), "engine_sha256": None}])
def test_without_a_readable_description_it_is_refused(sidecar: object, board: ModuleType) -> None:
    assert board.refusal(sidecar, plain(WANTED)) == refusal(None, WANTED)


def test_names_are_the_same_on_the_board(board: ModuleType) -> None:
    for wanted in (WANTED, WANTED.model_copy(update={"multiprocessors": None, "gpu": "NVIDIA A100 80GB PCIe"})):
        assert board.engine_name("net", plain(wanted)) == engine_name("net", wanted)
        assert board.platform_name(plain(wanted)) == platform_name(wanted)
    assert engine_name("net", WANTED).startswith("net.orin-sm87x8.trt10.3.0.")
    assert engine_name("net", BUILT) == engine_name("net", WANTED)       # its own bytes are no part of it


def test_the_description_beside_an_engine(tmp_path: Path) -> None:
    engine = tmp_path / "net.engine"
    (tmp_path / f"net.engine{SUFFIX}").write_text(BUILT.model_dump_json())
    assert read_sidecar(engine) == BUILT


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"gpu": "Orin"}'])
def test_a_description_that_cannot_be_read_is_one_line(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / f"net.engine{SUFFIX}").write_text(text)
    with pytest.raises(BoardError) as caught:
        read_sidecar(tmp_path / "net.engine")
    assert "\n" not in caught.value.line()
