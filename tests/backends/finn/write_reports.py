"""Write reports/ anew: python -m tests.backends.finn.write_reports (FINN must be installed)."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from hwkit.target import target
from tests.backends.finn.building import build, exported
from tests.backends.finn.nets import SHAPE, Cnn, Ode

CASES = {"cnn": (Cnn, {}, {"fps": "10000"}), "ode": (Ode, {"steps": 2, "powers_of_two": True}, {"fps": "10000"}),
         "rolled": (Ode, {"steps": 4}, {"fps": "20000", "ode": "rolled"})}
KEPT = ("estimate_layer_cycles", "estimate_layer_resources", "estimate_network_performance", "op_and_param_counts")


def main() -> None:
    for case, (make, how, options) in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            model = exported(make, Path(scratch), SHAPE, **how)
            built = build(model, target("zcu104"), Path(scratch) / "build", options)
            place = Path(__file__).with_name("reports") / case
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            for file in ("finn", "reference", *(f"report/{name}" for name in KEPT)):
                if (built / f"{file}.json").is_file():
                    value = json.loads((built / f"{file}.json").read_text())
                    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
                    (place / f"{Path(file).name}.json").write_text(text)


if __name__ == "__main__":
    main()
