"""Build a network of nets.py with FINN, through the backend's own plan."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from hwkit.artifact import Command
from hwkit.backends import finn
from hwkit.model import Model
from hwkit.target import Target
from tests.backends.finn.nets import export, prepared


def exported(make: type[nn.Module], folder: Path, shape: tuple[int, ...], **how: object) -> Model:
    """The network as a QONNX model."""
    path = export(prepared(make, shape, **how), folder / "net.onnx", shape)
    return Model(name="net", path=path, format="qonnx", input_shape=shape)


class Imported:
    """The driver with FINN imported, which takes longer than a small build; each build runs in a fork of it."""

    SERVE = """
import os, sys
import finn_start
finn_start.start()
import finn_driver.flow
from finn_driver.__main__ import main
for line in sys.stdin:
    folder, spec, result = line.split()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.chdir(folder)
        os._exit(main(spec, result))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

    def __init__(self, command: Command, home: Path) -> None:
        """`command`: any build's own; FINN finds an empty `home` while it is imported."""
        start = command.argv[:command.argv.index("-m")]
        self.process = subprocess.Popen(
            [*start, "-c", self.SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "HOME": str(home), "FINN_BUILD_DIR": str(home)})

    def run(self, folder: Path, spec: str = finn.SPEC, result: str = finn.DRIVEN) -> None:
        """What `python -m finn_driver spec result` does in `folder`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(folder, spec, result, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "0\n"

    def end(self) -> None:
        self.process.communicate(timeout=60)


def build(model: Model, target: Target, folder: Path, given: Mapping[str, str],
          imported: Imported | None = None) -> Path:
    """Execute the plan in a new folder, its driver in a process of its own or in a fork; the folder."""
    folder.mkdir(parents=True)
    plan = finn.plan(model, target, finn.options(given, target))
    if imported is None:
        plan.execute(folder, lambda text: None)
        return folder
    at = plan.commands.index(driver(model, target, given))
    plan.model_copy(update={"commands": plan.commands[:at]}).execute(folder, lambda text: None)
    imported.run(folder)
    plan.model_copy(update={"files": {}, "commands": plan.commands[at + 1:]}).execute(folder, lambda text: None)
    return folder


def driver(model: Model, target: Target, given: Mapping[str, str]) -> Command:
    """The plan's own command that runs FINN."""
    plan = finn.plan(model, target, finn.options(given, target))
    (command,) = [c for c in plan.commands if "finn_driver" in c.argv]
    return command
