"""Figures hwkit promises to reach, measured side by side in one run: `make bench`, or `python -m bench`.

They are no tests: several depend on the machine. Each file is one subject and runs alone, e.g.
`python -m bench.peers`.
"""
