"""Things that are found by their file's name: one module each in a package, no registry."""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path
from types import ModuleType


def about(package: ModuleType) -> list[tuple[str, str]]:
    """(name, first line of its docstring) of each module, read without importing it."""
    found = []
    for info in pkgutil.iter_modules(package.__path__):
        if info.name.startswith("_"):
            continue
        for root in package.__path__:
            path = Path(root) / (f"{info.name}/__init__.py" if info.ispkg else f"{info.name}.py")
            if path.is_file():
                text = ast.get_docstring(ast.parse(path.read_text())) or ""
                found.append((info.name, text.splitlines()[0] if text else ""))
                break
    return sorted(found)
