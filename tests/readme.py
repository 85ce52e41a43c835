"""The README's console blocks: read, run, compared, and rewritten with real output.

    python -m tests.readme          rewrite README.md with what its commands print now
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
TABLE = re.compile(r"<!-- weights -->\n.*?<!-- end -->", re.DOTALL)
SKIPPED = ("git clone", "cd hwkit", "make test", "make bench")   # what cannot run inside the tests


@dataclass(frozen=True)
class Command:
    """One `$ command` of a console block; `expected` is what stands below it."""

    text: str
    expected: str

    @property
    def runs(self) -> bool:
        return not self.text.startswith(SKIPPED)


def commands() -> list[Command]:
    found = []
    for block in BLOCK.findall(README.read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            text, _, expected = part.partition("\n")
            found.append(Command(text, expected.rstrip("\n")))
    return found


def run(text: str) -> tuple[int, str]:
    """Exit code and stdout of one command in the checkout, with this environment's hwkit first on PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=900,
                          env={**os.environ, "PATH": path, "COLUMNS": "120"})
    if done.returncode not in (0, 1):
        print(done.stderr, file=sys.stderr)
    return done.returncode, "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip("\n")


def weights_table() -> str:
    """What the shipped weights are worth, from the files beside them."""
    rows = ["| weights | parameters | trained on | test accuracy, mean ± sd | seeds |",
            "| --- | ---: | --- | ---: | ---: |"]
    for path in sorted((ROOT / "hwkit" / "zoo" / "weights").glob("*.toml")):
        found = tomllib.loads(path.read_text())
        recipe = found["recipe"]
        images = f", {recipe['train_images']:,} images" if "train_images" in recipe else ""
        rows.append(f"| `{recipe['network']}@{recipe['dataset']}` | {found['parameters']:,} "
                    f"| {recipe['dataset']}{images}, {recipe['epochs']} epochs "
                    f"| {100 * found['test_mean']:.2f} ± {100 * found['test_sd']:.2f} % | {len(found['seeds'])} |")
    return "\n".join(rows)


def rewrite() -> None:
    text = README.read_text()
    text = TABLE.sub(lambda _: f"<!-- weights -->\n{weights_table()}\n<!-- end -->", text)
    for command in commands():
        if not command.runs or not command.expected:
            continue
        _, printed = run(command.text)
        text = text.replace(f"$ {command.text}\n{command.expected}\n", f"$ {command.text}\n{printed}\n")
        print(f"$ {command.text}")
    README.write_text(text)


if __name__ == "__main__":
    rewrite()
