"""Fixtures that many tests share. Each expensive thing is made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwkit.artifact import Artifact, Built, Finding, Operator, StageFile, pack
from hwkit.measurement import Measurement

# Files that take longest, first: a worker that gets one of them last works on when all others are done.
LONGEST = ("test_readme.py", "backends/finn/test_build.py", "test_pipeline.py", "virtual/test_guest_board.py",
           "runners/test_virtual.py", "fuzz/test_mutated_models.py", "backends/tflite/test_slices.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all else in the order it has; tests of one file stay together."""
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        name = str(item.path.relative_to(here))
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=rank)


@pytest.fixture
def small_artifact(tmp_path: Path) -> Artifact:
    """An artifact folder whose files are not real models: for what only packs, opens and reports."""
    build = tmp_path / "build"
    (build / "golden").mkdir(parents=True)
    (build / "net.tflite").write_bytes(b"\0" * 100)
    (build / "golden" / "inputs.npy").write_bytes(b"in")
    operators = (Operator(index=0, name="CONV_2D", stage="net", macs=1000, weight_bytes=60, delegate="xnnpack"),
                 Operator(index=1, name="ADD", stage="net", repeat=4))
    figures = (Measurement(quantity="flash", unit="bytes", kind="measured", samples=(100,)),
               Measurement(quantity="accuracy_float", unit="1", kind="measured", samples=(0.9,), n=500),
               Measurement(quantity="accuracy", unit="1", kind="measured", samples=(0.89,), n=500))
    built = Built(files=("net.tflite", "golden/inputs.npy"), stages=(StageFile(name="net", file="net.tflite"),),
                  operators=operators, figures=figures, tool_versions={"tool": "1.0"},
                  findings=(Finding(name="shared weights", ok=True, text="stored once"),))
    return pack(build, tmp_path / "artifact", built, name="net", target="rpi4", backend="tflite",
                precision="int8", dataset="digits", input_shape=(1, 8, 8), history=("trained",))
