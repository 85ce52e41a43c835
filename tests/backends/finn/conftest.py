"""What the FINN tests share. Those that need FINN's environment are marked `finn` and skipped without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwkit.backends.finn.driven import Driven, Reference
from hwkit.describe import load_json
from hwkit.target import Target, target
from hwkit.toolchains import finn

REPORTS = Path(__file__).with_name("reports")
CASES = ("cnn", "ode", "rolled")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "finn: runs FINN (needs hwkit toolchain install finn)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if finn.installed() is None:
        for item in items:
            if item.get_closest_marker("finn"):
                item.add_marker(pytest.mark.skip(reason="FINN is not installed: hwkit toolchain install finn"))


@pytest.fixture(scope="session")
def fpga() -> Target:
    return target("zcu104")


def told(case: str) -> tuple[Driven, Reference]:
    """What the driver and the job before it wrote in a real build; see reports/README.md."""
    folder = REPORTS / case
    return load_json(folder / "finn.json", Driven), load_json(folder / "reference.json", Reference)


def report(case: str, name: str) -> Any:
    """One of FINN's own reports of the same build."""
    return json.loads((REPORTS / case / f"{name}.json").read_text())
