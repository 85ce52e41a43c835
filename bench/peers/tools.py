"""The peers: their converters for this machine, their runtimes for the emulated one. All are wheels."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hwkit.jobs import Say
from hwkit.process import run
from hwkit.runners import _userland
from hwkit.runners._made import Recipe, ensure

NUMPY = "numpy==2.4.6"
VERSIONS = {"onnxruntime": "1.32.0", "ncnn": "1.0.20261020", "MNN": "3.6.1", "IREE": "3.13.0"}
OURS = next(w for w in _userland.TFLITE if "litert" in w).partition("==")[2]
HOST = (f"onnxruntime=={VERSIONS['onnxruntime']}", f"ncnn=={VERSIONS['ncnn']}", f"MNN=={VERSIONS['MNN']}",
        f"iree-base-compiler=={VERSIONS['IREE']}", "onnx==1.21.0", "sympy==1.14.0", NUMPY)
HOST_ALONE = ("pnnx==20261020",)     # a program; its wheel asks for torch only for its Python wrapper
GUEST = {
    "onnxruntime": (f"onnxruntime=={VERSIONS['onnxruntime']}", NUMPY),
    "ncnn": (f"ncnn=={VERSIONS['ncnn']}", NUMPY),
    "MNN": (f"MNN=={VERSIONS['MNN']}", NUMPY),
    "IREE": (f"iree-base-runtime=={VERSIONS['IREE']}", "ml_dtypes==0.6.0", NUMPY),
}
INSTALL_S = 900.0


def host_site(say: Say) -> Path:
    """A folder for PYTHONPATH with the peers' converters, made if need be. Raises JobFailed."""
    recipe: Recipe = {"requirements": list(HOST), "alone": list(HOST_ALONE), "python": [sys.version.split()[0]]}

    def fill(folder: Path) -> dict[str, str]:
        say("installing the peers' converters")
        for extra, requirements in (([], HOST), (["--no-deps"], HOST_ALONE)):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
            run([*pip, *extra, *requirements], timeout_s=INSTALL_S, what="installing the peers' converters",
                hint="check the network and pip's settings, then run it again")
        return {}

    return ensure("bench-peers", recipe, fill)


def guest_sites(say: Say) -> dict[str, Path]:
    """Runtime -> folder for the guest's PYTHONPATH, made if need be. Raises JobFailed."""
    return {name: _userland.site(f"bench-{name.lower()}", wheels, say) for name, wheels in GUEST.items()}


def host_run(site: Path, program: Sequence[str], *, cwd: Path, what: str, timeout_s: float = 900.0) -> str:
    """Run one of the peers' tools and return what it printed. Raises JobFailed.

    program   "python" as the first word is this Python with the peers' packages and no others
    """
    python = [sys.executable, "-S", "-P"]     # no site packages: ours may clash with theirs
    argv = [*(python if program[0] == "python" else [program[0]]), *program[1:]]
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/"),
                   "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0",
                   "PYTHONDONTWRITEBYTECODE": "1"}
    return run(argv, cwd=cwd, env=environment, timeout_s=timeout_s, what=what).stdout
