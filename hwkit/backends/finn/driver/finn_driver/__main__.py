"""python -m finn_driver SPEC.json RESULT.json

Exit 0: RESULT holds the result, or {"refused": ...} where the model is at fault. Otherwise the last line of
stdout says what went wrong and where FINN's log is.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import random
import sys
import traceback
from pathlib import Path
from typing import Any

from ._telling import Refused, say


def _flow(spec: dict[str, Any], log: Any) -> dict[str, Any]:
    scratch = Path(spec["build"]) / "scratch"
    for name in ("home", "tmp"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    os.environ.update(HOME=str(scratch / "home"), FINN_BUILD_DIR=str(scratch / "tmp"))
    random.seed(0)      # qonnx draws the names of new tensors
    say("starting FINN")
    importlib.import_module("finn_start").start()
    logging.basicConfig(stream=log, level=logging.INFO, force=True)
    logging.captureWarnings(True)
    from .flow import Flow

    result: dict[str, Any] = Flow(spec).run()
    return result


def main(spec_file: str, result_file: str) -> int:
    spec = json.loads(Path(spec_file).read_text())["finn"]
    spec["build"] = os.getcwd()
    log_path = Path(spec["log"])
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("w", buffering=1) as log:
        try:
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                result = _flow(spec, log)
        except Refused as e:
            log.write(traceback.format_exc())
            result = {"refused": {"message": e.message, "hint": e.hint}}
        except Exception as e:
            log.write(traceback.format_exc())
            print(f"{type(e).__name__}: {' '.join(str(e).split())[:200]}; FINN's log is {log_path}", flush=True)
            return 1
    Path(result_file).write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
