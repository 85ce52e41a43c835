"""A small engine's RTL behind its socket: what a client reads, how transfers fail, and clients that misbehave."""

from __future__ import annotations

import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit import process
from hwkit.data import shipped
from hwkit.eda import bus
from hwkit.errors import JobFailed
from tests import small_engine
from tests.payloads import loaded

SERVER = shipped("hls", "dsode", "sim", "bus_server.cpp")
PATIENCE_S = 0.3
REGISTERS = {"CONTROL": 0x00, "STATUS": 0x04, "MAGIC": 0x08, "DIGEST": 0x0C, "CYCLES": 0x10, "IMAGES": 0x14}
MISPLACED = 8

payload = loaded(shipped("boards", "payloads", "simulated_pl.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def bench(folder: Path) -> Any:
    return small_engine.design(folder)


@pytest.fixture(scope="module")
def port(folder: Path, bench: Any) -> Iterator[int]:
    with bus.serving(bench, folder, SERVER, lambda _: None, patience_s=PATIENCE_S) as found:
        yield found


@pytest.fixture(scope="module")
def driver(folder: Path, bench: Any) -> Any:
    return loaded(folder / "lab" / "driver" / "dsode_driver.py")


@pytest.fixture
def client(port: int) -> Iterator[Any]:
    found = payload.SimulatedPl("127.0.0.1", port, timeout_s=20.0)
    yield found
    found.close()


@pytest.fixture
def engine(client: Any, driver: Any, folder: Path) -> Any:
    """The driver, loaded, with the simulated engine behind it."""
    found = driver.Dsode(folder / "lab" / "driver", client)
    found.load()
    return found


def served(port: int, driver: Any, folder: Path) -> None:
    """A new client finds the block as new, and gets right answers."""
    fresh = payload.SimulatedPl("127.0.0.1", port, timeout_s=20.0)
    try:
        assert [fresh.read(REGISTERS[name]) for name in ("CONTROL", "STATUS", "IMAGES")] == [0, 0, 0]
        engine = driver.Dsode(folder / "lab" / "driver", fresh)
        engine.load()
        assert np.array_equal(engine.infer(small_engine.IMAGES), small_engine.NETWORK.logits(small_engine.IMAGES))
    finally:
        fresh.close()


def raw(port: int) -> socket.socket:
    """A client that speaks bytes; greeted already."""
    found = socket.create_connection(("127.0.0.1", port), 20.0)
    assert found.recv(8, socket.MSG_WAITALL) == b"dsodePL1"
    return found


def request(operation: str, a: int = 0, b: int = 0) -> bytes:
    return struct.pack("<3I", ord(operation), a, b)


# ------------------------------------------------------------------ what it is for

def test_states_and_answers_are_those_of_the_integer_reference(engine: Any, client: Any) -> None:
    states, results = small_engine.packed()
    assert client.read(REGISTERS["DIGEST"]) == small_engine.DIGEST
    for n, (state, result) in enumerate(zip(states, results, strict=True), 1):
        assert client.transfer(state) == result
        assert client.read(REGISTERS["CYCLES"]) == small_engine.CYCLES
        assert client.read(REGISTERS["IMAGES"]) == n
        assert small_engine.CYCLES < client.cycles < 2 * small_engine.CYCLES
    assert len(set(results)) == len(results), "the answers do not depend on the states"
    images = small_engine.IMAGES
    assert np.array_equal(engine.infer(images), small_engine.NETWORK.logits(images))
    assert engine.cycles == [small_engine.CYCLES] * len(images)


def test_it_listens_on_the_loopback_alone(port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), 1.0)


def test_it_ends_with_its_block(folder: Path, bench: Any) -> None:
    def ends_badly() -> None:
        with bus.serving(bench, folder, SERVER, lambda _: None) as port:
            stays.append(raw(port))                      # it does not hold the end up
            raise KeyboardInterrupt

    stays: list[socket.socket] = []
    with pytest.raises(KeyboardInterrupt):
        ends_badly()
    with stays[0], pytest.raises(ConnectionRefusedError):
        socket.create_connection(stays[0].getpeername(), 1.0)


def test_it_ends_when_its_owner_is_killed(folder: Path, bench: Any) -> None:
    script = ("import os, sys; from pathlib import Path; from hwkit.eda import bus, verilator\n"
              "bench = verilator.Bench.model_validate_json(sys.argv[1])\n"
              "with bus.serving(bench, Path(sys.argv[2]), Path(sys.argv[3]), lambda _: None) as port:\n"
              "    print(port, flush=True)\n"
              "    os.kill(os.getpid(), 9)\n")
    done = process.run([sys.executable, "-c", script, bench.model_dump_json(), str(folder), str(SERVER)],
                       timeout_s=60, what="owner", check=False)
    assert done.returncode == -9, done.stdout
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", int(done.stdout)), 1.0).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:                     # it was just ending
            continue
        time.sleep(0.05)
    pytest.fail("the simulator outlives its owner")


def test_a_simulator_that_does_not_start_is_one_error(folder: Path, bench: Any, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "simulator"
    monkeypatch.setattr(bus.verilator, "build", lambda *_: program)
    for source, said in (("echo no licence; exit 3", "exit code 3: no licence"), ("echo hello", "said 'hello'"),
                         ("true", "said ''")):
        program.write_text(f"#!/bin/sh\n{source}\n")
        program.chmod(0o755)
        with pytest.raises(JobFailed, match=said), bus.serving(bench, folder, SERVER, lambda _: None):
            pass


# ------------------------------------------------------------------ transfers that fail

def test_a_state_that_is_too_short_times_out_and_the_driver_says_why(engine: Any, client: Any,
                                                                     driver: Any) -> None:
    (state, *_), (result, *_) = small_engine.packed()
    transfer = client.transfer
    client.transfer = lambda data: transfer(data[:-2])
    with pytest.raises(driver.DriverError, match=r"no answer in time \(\d+ clock cycles\).*waits for the rest of "
                                                 r"a state.*TLAST came at the wrong beat"):
        engine.infer(small_engine.IMAGES)
    client.transfer = transfer
    engine.load()
    assert client.transfer(state) == result


def test_a_state_that_is_too_long_is_told_from_tlast(engine: Any, client: Any, driver: Any) -> None:
    transfer = client.transfer
    client.transfer = lambda data: transfer(data + b"\0\0")
    with pytest.raises(driver.DriverError, match="TLAST came at the wrong beat"):
        engine.infer(small_engine.IMAGES)
    client.transfer = transfer
    engine.load()
    assert np.array_equal(engine.infer(small_engine.IMAGES), small_engine.NETWORK.logits(small_engine.IMAGES))


def test_an_odd_number_of_bytes_is_padded_to_a_beat(engine: Any, client: Any) -> None:
    (state, *_), (result, *_) = small_engine.packed()
    padded = np.frombuffer(state, np.int8).copy()
    padded[-1] = 0
    wanted = client.transfer(padded.tobytes())
    assert client.transfer(state[:-1]) == wanted
    assert len(wanted) == len(result)


def test_beats_that_nobody_took_stay_until_a_reset(client: Any, engine: Any) -> None:
    (state, *_), (result, *_) = small_engine.packed()
    client.write(REGISTERS["CONTROL"], 0)
    client.limit_cycles = 200
    with pytest.raises(TimeoutError, match="200 clock cycles"):
        client.transfer(state)
    client.write(REGISTERS["CONTROL"], 1)                # the one beat on offer is now taken, and no others come
    client.limit_cycles = 0
    with pytest.raises(TimeoutError, match=r"^0 clock cycles"):
        client.transfer(state)
    client.reset()
    engine.load()
    assert client.transfer(state) == result


def test_a_limit_below_what_a_run_takes_is_kept(engine: Any, client: Any, bench: Any) -> None:
    (state, *_), _ = small_engine.packed()
    client.limit_cycles = small_engine.CYCLES
    with pytest.raises(TimeoutError, match=f"{small_engine.CYCLES} clock cycles"):
        client.transfer(state)
    assert client.read(REGISTERS["STATUS"]) & 1          # it runs still: no cycle is simulated behind one's back
    client.reset()
    client.write(REGISTERS["CONTROL"], 2)
    client.limit_cycles = 2**32 - 1                      # more than the server allows
    with pytest.raises(TimeoutError, match=f"{bench.limit_cycles} clock cycles"):
        client.transfer(state)


# ------------------------------------------------------------------ clients that misbehave

HALVES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda state: b"",
    "half a request": lambda state: request("R", 8)[:7],
    "a request and a half": lambda state: request("W", 0, 1) + request("R")[:4],
    "half of a state": lambda state: request("W", 0, 1) + request("T", len(state)) + state[:50],
    "an answer that is not read": lambda state: request("W", 0, 1) + request("T", len(state)) + state,
    "a transfer that fails": lambda state: request("W", 0, 1) + request("T", 8) + state[:8],
}


@pytest.mark.parametrize("sent", HALVES.values(), ids=HALVES)
def test_a_client_that_leaves_in_the_middle_leaves_nothing(sent: Callable[[bytes], bytes], port: int, driver: Any,
                                                           folder: Path) -> None:
    (state, *_), _ = small_engine.packed()
    with raw(port) as leaving:
        leaving.sendall(sent(state))
    served(port, driver, folder)


def test_half_a_request_is_waited_for_only_so_long(port: int, driver: Any, folder: Path) -> None:
    for sent in (request("R", 8)[:5], request("T", 100) + b"abc"):
        with raw(port) as slow:
            started = time.monotonic()
            slow.sendall(sent)
            assert slow.recv(1) == b""
            assert time.monotonic() - started >= PATIENCE_S
        served(port, driver, folder)


def test_silence_between_requests_is_not_held_against_a_client(client: Any) -> None:
    assert client.read(REGISTERS["MAGIC"]) == 0x64736F64
    time.sleep(3 * PATIENCE_S)
    assert client.read(REGISTERS["MAGIC"]) == 0x64736F64


def test_a_second_client_is_told_that_it_is_in_use(client: Any, engine: Any, port: int) -> None:
    for _ in range(3):
        with pytest.raises(payload.LinkError, match=f"127.0.0.1:{port} is in use by another"):
            payload.SimulatedPl("127.0.0.1", port, timeout_s=5.0)
    assert np.array_equal(engine.infer(small_engine.IMAGES), small_engine.NETWORK.logits(small_engine.IMAGES))


@pytest.mark.parametrize("wrong", [request("Q"), request("R", 6), request("R", 256), request("W", 3, 1),
                                   request("T", 0), request("T", 2**32 - 1), b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_no_request_ends_the_connection(wrong: bytes, port: int, driver: Any, folder: Path) -> None:
    with raw(port) as other:
        other.sendall(wrong[:12])
        assert other.recv(12, socket.MSG_WAITALL) == struct.pack("<3I", payload.NO_REQUEST, 0, 0)
        assert other.recv(1) == b""
    served(port, driver, folder)


def test_a_register_that_is_none_is_one_line(client: Any) -> None:
    with pytest.raises(payload.LinkError, match=r"does not take R of 0x6$"):
        client.read(6)
    with pytest.raises(payload.LinkError, match="was lost"):
        client.read(8)


def test_noise_does_not_stop_it(port: int, driver: Any, folder: Path) -> None:
    """Valid and wrong requests with random arguments, cut anywhere, answers read or not."""
    chance = random.Random(1)
    for _ in range(60):
        with raw(port) as other:
            sent = b""
            for _ in range(chance.randrange(1, 12)):
                operation = chance.choice("RWTXWRQ\0")
                a = chance.choice([chance.randrange(64) * 4, chance.randrange(300), chance.getrandbits(32)])
                sent += request(operation, a, chance.choice([0, 1, 2, 500, chance.getrandbits(32)]))
                sent += chance.randbytes(min(a, 400) if operation == "T" and chance.random() < 0.8 else 0)
            other.sendall(sent[:chance.randrange(len(sent) + 1)])
            if chance.random() < 0.5:
                other.shutdown(socket.SHUT_WR)
                try:
                    while other.recv(4096):
                        pass
                except ConnectionResetError:             # it ended while more was on its way
                    pass
    served(port, driver, folder)


# ------------------------------------------------------------------ servers that misbehave, played by a stand-in

def standin(*answers: bytes, stays_s: float = 0.0) -> int:
    """The port of a server that sends one of these at a time, after each bit that its client sends."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as other:
            for n, answer in enumerate(answers):
                if n:
                    other.recv(65536)
                other.sendall(answer)
            time.sleep(stays_s)

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


@pytest.mark.parametrize(("answers", "stays_s", "said"), [
    ([b"SSH-2.0-"], 0, "does not speak as one: b'SSH-2.0-'"),
    ([b"dso"], 0, "was lost: it ended the connection"),
    ([b""], 1.0, "was lost: nothing came for 0.2 s"),
    ([b"dsodePL1", struct.pack("<3I", 0, 7, 0)[:9]], 0, "was lost: it ended the connection"),
    ([b"dsodePL1", struct.pack("<3I", 0, 7, 50) + b"abc"], 0, "was lost"),
    ([b"dsodePL1", struct.pack("<3I", 0, 7, 50) + b"abc"], 1.0, "was lost: nothing came for 0.2 s"),
    ([b"dsodePL1", struct.pack("<3I", 0, 7, 2**32 - 1)], 0, "announces an answer of 4294967295 bytes"),
    ([b"dsodePL1", struct.pack("<3I", 3, 0, 0)], 0, "the block broke the protocol of its bus"),
    ([b"dsodePL1", struct.pack("<3I", 99, 0, 0)], 0, "the block broke the protocol of its bus"),
])
def test_a_server_that_misbehaves_is_one_line(answers: list[bytes], stays_s: float, said: str) -> None:
    port = standin(*answers, stays_s=stays_s)
    with pytest.raises(payload.LinkError) as caught:
        payload.SimulatedPl("127.0.0.1", port, timeout_s=0.2).read(0)
    assert said in str(caught.value)
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_server_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(payload.LinkError, match=f"127.0.0.1:{port} cannot be reached: .*refused"):
        payload.SimulatedPl("127.0.0.1", port)


def test_a_lost_answer_is_not_a_timeout_of_the_engine(driver: Any, folder: Path, bench: Any) -> None:
    """The driver would go on after a TimeoutError, and take a late answer for that to its next question."""
    assert not issubclass(payload.LinkError, TimeoutError)
    client = payload.SimulatedPl("127.0.0.1", standin(b"dsodePL1", b"", stays_s=1.0), timeout_s=0.2)
    with pytest.raises(payload.LinkError):
        driver.Dsode(folder / "lab" / "driver", client).load()
