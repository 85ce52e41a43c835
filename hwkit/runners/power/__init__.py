"""Power while a network runs: what a board's sensors said, and the energy of one inference.

boards/payloads/sense.py writes down raw text on the board; `read` makes samples of it, with the parser of each
sensor: a module here, found by its name, that has `sample(Reading) -> Sample`. `idle` and `energy` make
measurements of samples, `accounts` all that a run says of power.
"""

from hwkit.runners.power._accounts import Accounts, accounts, clocks, energies_of_operators
from hwkit.runners.power._clocks import Conditions
from hwkit.runners.power._differential import Differential, operator_energies
from hwkit.runners.power._energy import Account, energy, idle
from hwkit.runners.power._recording import Recording, Window, names, read, sensor
from hwkit.runners.power._samples import Reading, Sample, Total, total, total_w
from hwkit.runners.power._throttling import cpu_throttling, throttling

__all__ = ["Account", "Accounts", "Conditions", "Differential", "Reading", "Recording", "Sample", "Total",
           "Window", "accounts", "clocks", "cpu_throttling", "energies_of_operators", "energy", "idle", "names",
           "operator_energies", "read", "sensor", "throttling", "total", "total_w"]
