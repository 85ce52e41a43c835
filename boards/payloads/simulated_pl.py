"""Runs ON the board: an on-chip engine's driver over images, and what went through the engine.

    python3 simulated_pl.py JOB.json

The layers before and after the engine run here; the engine is the board's own programmable logic, or its RTL that
is simulated somewhere else and reached over a socket. Needs numpy, and pynq for real logic. The job is

    driver       dsode_driver.py, in a folder as hwkit wrote it, with design.json and the files that it names
    inputs       .npy, float32 (n, C, H, W)
    out          folder for states.npy and results.npy (n, bytes: what went into the engine and what came out),
                 outputs.npy (n, classes) and result.json
    transport    "socket": with `host`, `port` and `timeout_s`;  "pynq": with `bitfile`
"""

import hashlib
import importlib
import json
import os
import platform
import socket
import struct
import sys

import numpy as np

GREETING, IN_USE = b"dsodePL1", b"inuse..."
DONE, NO_ANSWER, NO_REQUEST = 0, 1, 2            # an answer's status; anything else: the block broke a protocol
WORDS = struct.Struct("<3I")
MOST_BYTES = 1 << 25
MOST_POSTED = 1 << 16                            # bytes of writes that are kept until something is asked
TIMEOUT_S = 60.0


class LinkError(Exception):
    """The simulated logic is not there, or no longer: what happened, in one line."""


class SimulatedPl:
    """An engine whose RTL is simulated elsewhere, as a transport of dsode_driver.py.

    The protocol is in bus_server.cpp, which serves it.
    timeout_s      how long an answer may take on the way and there; LinkError after it
    limit_cycles   clock cycles a state and its answer may take, 0: as many as the simulation allows;
                   TimeoutError after them
    """

    def __init__(self, host, port, timeout_s=TIMEOUT_S, limit_cycles=0):
        self.limit_cycles, self.timeout_s = limit_cycles, timeout_s
        self.cycles = 0                          # of the last transfer, from its first beat to its answer's last
        self._where = f"the simulated logic at {host}:{port}"
        self._posted = b""
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as e:
            raise LinkError(f"{self._where} cannot be reached: {e}") from None
        greeting = self._receive(len(GREETING))
        if greeting != GREETING:
            self.close()
            why = "is in use by another" if greeting == IN_USE else f"does not speak as one: {greeting!r}"
            raise LinkError(f"{self._where} {why}")

    def read(self, offset):
        return self._ask("R", offset)[0]

    def write(self, offset, value):
        self._posted += WORDS.pack(ord("W"), offset, value)
        if len(self._posted) >= MOST_POSTED:
            self._send(b"")

    def transfer(self, data):
        self.cycles, answer = self._ask("T", len(data), self.limit_cycles, data)
        return answer

    def reset(self):
        self._ask("X")

    def close(self):
        self._socket.close()

    def _ask(self, operation, a=0, b=0, data=b""):
        """(value, data) of the answer."""
        self._send(WORDS.pack(ord(operation), a, b) + data)
        status, value, size = WORDS.unpack(self._receive(WORDS.size))
        if size > MOST_BYTES:
            self.close()
            raise LinkError(f"{self._where} announces an answer of {size} bytes")
        answer = self._receive(size)
        if status == NO_ANSWER:
            raise TimeoutError(f"{value} clock cycles")
        if status != DONE:
            self.close()
        if status == NO_REQUEST:
            raise LinkError(f"{self._where} does not take {operation} of {a:#x}")
        if status != DONE:
            raise LinkError(f"{self._where}: the block broke the protocol of its bus")
        return value, answer

    def _send(self, data):
        data, self._posted = self._posted + data, b""
        try:
            self._socket.sendall(data)
        except OSError as e:                     # of which a time-out is one
            self._lost(e)

    def _receive(self, size):
        parts = []
        while size:
            try:
                part = self._socket.recv(min(size, 1 << 16))
            except OSError as e:
                self._lost(e)
            if not part:
                self._lost("it ended the connection")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _lost(self, why):
        """After this nobody could tell which answer belongs to what: the connection is closed."""
        self.close()
        if isinstance(why, socket.timeout):
            why = f"nothing came for {self.timeout_s:g} s"
        raise LinkError(f"{self._where} was lost: {why}") from None


class Recorded:
    """A transport that keeps the bytes of every state and of its answer."""

    def __init__(self, transport, say):
        self._transport, self._say = transport, say
        self.sent, self.came = [], []

    def __getattr__(self, name):
        return getattr(self._transport, name)

    def transfer(self, data):
        answer = self._transport.transfer(data)
        self.sent.append(data)
        self.came.append(answer)
        self._say(f"{len(self.sent)} images")
        return answer


def say(text):
    print("progress: " + text, flush=True)


def transport_of(job, driver):
    if job["transport"] == "pynq":
        return driver.PynqTransport(job["bitfile"], *driver.sizes(folder_of(driver)))
    return SimulatedPl(job["host"], job["port"], job.get("timeout_s", TIMEOUT_S))


def folder_of(driver):
    return os.path.dirname(driver.__file__)


def execute(job, driver):
    """What result.json holds; the arrays are written before."""
    transport, folder = transport_of(job, driver), folder_of(driver)
    images = np.load(job["inputs"], allow_pickle=False)
    engine = driver.Dsode(folder, transport)
    say("the engine's tables")
    engine.load()
    stored = driver.check(engine, folder)
    engine.transport = kept = Recorded(transport, say)
    outputs = engine.infer(images)
    for name, array in (("outputs", outputs), ("states", rows(kept.sent)), ("results", rows(kept.came))):
        np.save(os.path.join(job["out"], name + ".npy"), array)
    return {"report": driver.report(engine, images), "check": stored}


def rows(states):
    """(n, bytes), int8."""
    return np.frombuffer(b"".join(states), np.int8).reshape(len(states), -1)


def main(words):
    if len(words) != 1:
        raise SystemExit(__doc__)
    with open(words[0]) as f:
        job = json.load(f)
    sys.path.insert(0, os.path.dirname(os.path.abspath(job["driver"])))
    driver = importlib.import_module(os.path.splitext(os.path.basename(job["driver"]))[0])
    with open(driver.__file__, "rb") as f:
        version = hashlib.sha256(f.read()).hexdigest()[:12]
    try:
        found = execute(job, driver)
    except (driver.DriverError, LinkError) as e:
        raise SystemExit(str(e)) from None
    found.update(runtime="dsode_driver", runtime_version=version, numpy=np.__version__,
                 python=platform.python_version(), machine=platform.machine())
    with open(os.path.join(job["out"], "result.json"), "w") as f:
        json.dump(found, f)


if __name__ == "__main__":
    main(sys.argv[1:])
