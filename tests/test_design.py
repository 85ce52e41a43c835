"""The rules of the design that only reading the source can check."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwkit import board, target

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hwkit"
FILES = sorted(PACKAGE.rglob("*.py"))
STAGES = ("sources", "compress", "backends", "runners")


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of every module a file imports, in whatever place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def relative(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("stage", STAGES)
def test_stages_never_import_each_other_nor_the_pipeline(stage: str) -> None:
    others = (*(f"hwkit.{s}" for s in STAGES if s != stage), "hwkit.pipeline", "hwkit.cli", "hwkit.report")
    for path in (PACKAGE / stage).rglob("*.py"):
        wrong = [m for m in imported(ast.parse(path.read_text())) if m.startswith(others)]
        assert wrong == [], relative(path)


def test_only_the_process_modules_start_processes() -> None:
    """hwkit.process runs programs, hwkit.fork copies a job; everything else calls them."""
    starters = {relative(p) for p in FILES
                if {"subprocess", "multiprocessing", "pty"} & set(imported(ast.parse(p.read_text())))}
    assert starters == {"process.py"}
    forkers = {relative(p) for p in FILES
               for node in ast.walk(ast.parse(p.read_text()))
               if isinstance(node, ast.Attribute) and node.attr in ("fork", "system", "posix_spawn", "popen")
               and isinstance(node.value, ast.Name) and node.value.id == "os"}
    assert forkers == {"fork.py"}


def test_nothing_is_unpickled() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text())
        assert not {"pickle", "dill", "joblib", "cloudpickle", "marshal"} & set(imported(tree)), relative(path)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), \
                    relative(path)
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                assert any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords), \
                    relative(path)


def test_no_boards_or_targets_name_in_the_code() -> None:
    """Adding a board is one file: nothing in the package may know one by name, "host" and "cuda" apart."""
    names = {*board.names(), *target.names()} - {"host", "cuda"}
    assert len(names) >= 6
    for path in FILES:
        tree = ast.parse(path.read_text())
        docstrings = {id(node.body[0].value) for node in ast.walk(tree)
                      if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
                      and isinstance(node.body[0], ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                assert not [n for n in names if n in node.value], f"{relative(path)}:{node.lineno}"


def test_payloads_need_nothing_of_hwkit() -> None:
    for path in (ROOT / "boards" / "payloads").glob("*.py"):
        assert not [m for m in imported(ast.parse(path.read_text())) if m.split(".")[0] == "hwkit"]


def test_files_stay_short() -> None:
    long = {relative(p): n for p in FILES if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}
