"""What a Python file defines, read without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from hwkit.errors import BadModel


def callables(path: Path) -> list[str]:
    """Names of the functions, then of the classes, at the top of the file. Raises BadModel."""
    body = _parsed(path).body
    return [node.name for kind in (ast.FunctionDef, ast.ClassDef) for node in body if isinstance(node, kind)]


def names(path: Path) -> set[str] | None:
    """Every name that the file may have once it has run, None where that cannot be known. Raises BadModel."""
    found: set[str] = set()
    for node in ast.walk(_parsed(path)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                found |= {alias.asname or alias.name.split(".")[0] for alias in aliases}
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Call(func=ast.Name(id="globals" | "exec" | "setattr")):
                return None
    return None if "*" in found or "__getattr__" in found else found


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), str(path))
    except SyntaxError as e:
        raise BadModel(f"{path}:{e.lineno}: {e.msg}: {(e.text or '').strip()}", "mend the file") from None
    except (OSError, ValueError, RecursionError) as e:
        raise BadModel(f"{path} cannot be read as Python: {e}", "mend the file") from None


def top_level_line(path: Path, name: str) -> int:
    """Line where a function or class is defined; 1 when it is made some other way."""
    lines: Iterator[int] = (n.lineno for n in _parsed(path).body
                            if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name)
    return next(lines, 1)
