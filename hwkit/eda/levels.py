"""Logic levels between registers: what a netlist can say about the clock. A proxy: no delay is known here.

A level is a LUT, an asynchronous read of a LUTRAM or shift register (a LUT too), a whole carry chain, or a DSP
block passed through without a register. Wide multiplexers (MUXF7 to 9) and inverters are none. Outputs of
registers and block RAMs, and top-level inputs, start at 0; outputs of LUTRAMs and SRLs at 1, for the read.
Carry chains are followed bit by bit: a low sum bit may feed the high bits of its own chain without being a loop.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hwkit.describe import Frozen
from hwkit.eda import _arcs as parts
from hwkit.eda import resources
from hwkit.eda._arcs import NOTHING, Bit, Weight
from hwkit.errors import BadInput

OUTPUT = "output"
Owner = str | int            # a cell by its name, or a net
_CLOCKS = frozenset({"C", "G", "CLK", "WCLK", "CLKARDCLK", "CLKBWRCLK"})
_FLIP_FLOPS = {"D": "FF.D", "CE": "FF.CE", "GE": "FF.CE", "R": "FF.R", "S": "FF.R", "CLR": "FF.R", "PRE": "FF.R"}
_BLOCKS = {**dict.fromkeys(resources.LUT_RAMS, "LUTRAM"), **dict.fromkeys(resources.SHIFT_REGISTERS, "SRL"),
           **dict.fromkeys(resources.BRAMS_18K, "BRAM"), **dict.fromkeys(resources.URAMS, "URAM"),
           **dict.fromkeys(resources.DSPS, "DSP")}


class Step(Frozen):
    """One cell of a path and the net that it drives; for the last one, the pin and its cell or register."""

    cell: str
    net: str


class LongPath(Frozen):
    """`levels` of logic, of which `chains` are carry chains and `dsps` unregistered DSPs; `muxes` come on top."""

    levels: int
    chains: int
    dsps: int
    muxes: int
    steps: tuple[Step, ...]

    @property
    def luts(self) -> int:
        return self.levels - self.chains - self.dsps

    def text(self) -> str:
        """e.g. "u.count[0] (FDRE) -> LUT4 -> CARRY4 -> u.sum[7] (FDRE.D)": a carry chain is shown once."""
        cells = [s.cell for s in self.steps[1:-1]]
        shown = [c for i, c in enumerate(cells) if not (c in resources.CARRIES and i and cells[i - 1] == c)]
        first, last = self.steps[0], self.steps[-1]
        return " -> ".join([f"{first.net} ({first.cell})", *shown, f"{last.net} ({last.cell})"])


class Levels(Frozen):
    """Longest paths of a netlist, one per type of endpoint.

    by_endpoint   "FF.D", "FF.CE", "FF.R" (set or reset), "BRAM", "URAM", "DSP", "SRL", "LUTRAM" and "output", the
                  last being a top-level port: what follows it is not known
    endpoints     levels -> number of endpoint bits, output ports included
    """

    by_endpoint: dict[str, LongPath]
    endpoints: dict[int, int]

    @property
    def worst(self) -> LongPath:
        """From a register or input port to a register; to an output port only where there is no register."""
        inside = [path for name, path in self.by_endpoint.items() if name != OUTPUT]
        return max(inside or self.by_endpoint.values(), key=lambda p: (p.levels, p.chains, p.dsps, p.muxes))


def longest(netlist: Path, top: str) -> Levels:
    """Levels of module `top` of a flat netlist as Yosys' write_json writes it.

    Raises BadInput for a combinational loop, a cell type that is not in the table of resources, no endpoint.
    """
    try:
        module = json.loads(netlist.read_bytes())["modules"][top]
        cells, ports, nets = module["cells"], module["ports"], module["netnames"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BadInput(f"{netlist} is not a netlist of {top}: {e}") from None
    resources.require_known(Counter(c["type"] for c in cells.values() if c["type"] != "$scopeinfo"))
    return _Graph(cells, ports, nets).levels()


class _Graph:
    """Nets as nodes. Arcs with many sources and many sinks go through a node of their own, numbered below 0."""

    def __init__(self, cells: Mapping[str, Any], ports: Mapping[str, Any], nets: Mapping[str, Any]) -> None:
        self.nets = nets
        self.drivers: dict[int, str] = {}
        self.into: dict[int, list[tuple[int, Weight]]] = {}
        self.ends: list[tuple[str, str, Owner, int]] = []       # type of endpoint, pin, cell, net
        self.reads: set[int] = set()                            # outputs of LUTRAMs and SRLs
        self._hub = 0
        listed = [c for c in cells.values() if c["type"] != "$scopeinfo"]
        chained = {bit for c in listed if c["type"] in resources.CARRIES
                   for bit in parts.carry_outputs(c["connections"])}
        for name, cell in cells.items():
            if cell["type"] != "$scopeinfo":
                self._add(name, cell, chained)
        for name, port in ports.items():
            if port["direction"] == "input":
                self.drivers.update({bit: "input" for bit in port["bits"] if isinstance(bit, int)})
            else:
                self._end(OUTPUT, "port", name, port["bits"])

    def _add(self, name: str, cell: Mapping[str, Any], chained: set[Bit]) -> None:
        kind, pins = cell["type"], cell["connections"]
        driven = (bit for pin, bits in pins.items() if cell["port_directions"][pin] != "input" for bit in bits)
        owner: Owner = name
        if cell.get("hide_name"):       # a register is known by what it drives
            owner = next((bit for bit in driven if isinstance(bit, int)), name)
        for pin, bits in pins.items():
            if cell["port_directions"][pin] != "input":
                self.drivers.update({bit: kind for bit in bits if isinstance(bit, int)})
                if kind in parts.READS:
                    self.reads.update(bit for bit in bits if isinstance(bit, int))
            elif pin not in _CLOCKS:
                end = _BLOCKS.get(kind) or (_FLIP_FLOPS.get(pin) if kind[:2] in ("FD", "LD") else None)
                if end:
                    self._end(end, f"{kind}.{pin}", owner, bits)
        for arc in parts.arcs(kind, pins, cell["parameters"]):
            sources = {bit for bit in arc.sources if isinstance(bit, int)}
            sinks = [bit for bit in arc.sinks if isinstance(bit, int)]
            weighed = [(bit, NOTHING if arc.joins and bit in chained else arc.weight) for bit in sources]
            if len(weighed) > 1 and len(sinks) > 1:
                self._hub -= 1
                self.drivers[self._hub] = ""
                self.into[self._hub] = weighed
                weighed = [(self._hub, NOTHING)]
            for sink in sinks:
                self.into.setdefault(sink, []).extend(weighed)

    def _end(self, end: str, pin: str, owner: Owner, bits: list[Bit]) -> None:
        wide = len(bits) > 1
        self.ends += [(end, f"{pin}[{i}]" if wide else pin, owner, bit)
                      for i, bit in enumerate(bits) if isinstance(bit, int)]

    def levels(self) -> Levels:
        if not self.ends:
            raise BadInput("the netlist has neither registers nor outputs: it has no paths")
        self._arrive()
        worst: dict[str, tuple[Weight, str, Owner, int]] = {}
        spread: Counter[int] = Counter()
        for end, pin, owner, net in self.ends:
            at = self.arrival.get(net, NOTHING)
            spread[at.levels] += 1
            if end not in worst or at > worst[end][0]:
                worst[end] = (at, pin, owner, net)
        named = _Names(self.nets)
        return Levels(by_endpoint={end: self._path(*found, named) for end, found in sorted(worst.items())},
                      endpoints=dict(sorted(spread.items())))

    def _arrive(self) -> None:
        """Longest way to every node, in topological order."""
        self.arrival: dict[int, Weight] = {}
        self.before: dict[int, int] = {}
        waiting = {node: len(sources) for node, sources in self.into.items()}
        out: dict[int, list[tuple[int, Weight]]] = {}
        for node, sources in self.into.items():
            for source, weight in sources:
                out.setdefault(source, []).append((node, weight))
        for node in self.reads:
            self.arrival[node] = parts.LUT
        ready = deque(node for node in out if not waiting.get(node))
        while ready:
            source = ready.popleft()
            start = self.arrival.get(source, NOTHING)
            for node, weight in out.get(source, ()):
                at = Weight(*(a + b for a, b in zip(start, weight, strict=True)))
                if at > self.arrival.get(node, NOTHING) or (node not in self.before and node not in self.reads):
                    self.arrival[node], self.before[node] = at, source
                waiting[node] -= 1
                if not waiting[node]:
                    ready.append(node)
        stuck = {node for node, left in waiting.items() if left}
        if stuck:
            raise BadInput(f"combinational loop: {' -> '.join(self._loop(stuck))}",
                           "put a register into it, or find the signal that depends on itself")

    def _loop(self, stuck: set[int]) -> Iterator[str]:
        """Names of the nets of one loop among nodes that never became ready."""
        seen: dict[int, int] = {}
        walk: list[int] = []
        node = min(stuck)
        while node not in seen:
            seen[node] = len(walk)
            walk.append(node)
            node = next(source for source, _ in self.into[node] if source in stuck)
        loop = [n for n in reversed(walk[seen[node]:]) if n >= 0]
        named = _Names(self.nets)
        yield from (named[n] for n in [*loop[:8], loop[0]])

    def _path(self, at: Weight, pin: str, owner: Owner, net: int, named: _Names) -> LongPath:
        steps = [Step(cell=pin, net=owner if isinstance(owner, str) else named[owner])]
        node: int | None = net
        while node is not None:
            if node >= 0:
                steps.append(Step(cell=self.drivers.get(node, "undriven"), net=named[node]))
            node = self.before.get(node)
        return LongPath(**at._asdict(), steps=tuple(reversed(steps)))


class _Names:
    """Net number -> its name in the sources with the fewest dots; Yosys' own name when it has no other."""

    def __init__(self, nets: Mapping[str, Any]) -> None:
        self._best: dict[int, tuple[int, int, int, str]] = {}
        for name, net in nets.items():
            rank = (net.get("hide_name", 0), name.count("."), len(name))
            wide = len(net["bits"]) > 1
            first = net.get("offset", 0)
            for i, bit in enumerate(net["bits"]):
                if isinstance(bit, int) and (bit not in self._best or rank < self._best[bit][:3]):
                    self._best[bit] = (*rank, f"{name}[{first + i}]" if wide else name)

    def __getitem__(self, net: int) -> str:
        return self._best[net][3] if net in self._best else f"net {net}"
