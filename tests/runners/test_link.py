"""The link and the agent, over real ssh to a stand-in for a board: this machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwkit.errors import BadInput, BoardFault
from hwkit.faults import Fault
from hwkit.runners._link import BOOTSTRAP, MAGIC, Link, connect
from tests import sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    with sshd.running(tmp_path_factory.mktemp("board")) as found:
        yield found


@pytest.fixture
def link(server: sshd.Sshd) -> Iterator[Link]:
    with connect(server.place(), lambda text: None) as found:
        yield found
    assert os.listdir(server.folder / "scratch") == [], "something was left on the board"


def test_what_the_board_tells(link: Link) -> None:
    hello = link.hello
    assert (hello.machine, hello.system) == (platform.machine(), "Linux")
    assert hello.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    room = os.statvfs(hello.folder)
    assert hello.free_bytes == pytest.approx(room.f_bavail * room.f_frsize, rel=0.1)
    assert stat.S_IMODE(os.stat(hello.folder).st_mode) == 0o700


def test_files_go_there_and_come_back(link: Link, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "sent").write_bytes(content)
    link.put(tmp_path / "sent", "deep/down/file")
    link.put(b"", "empty")
    assert link.paths(".") == ["deep/down/file", "empty"]
    link.get("deep/down/file", tmp_path / "back" / "file")
    assert (tmp_path / "back" / "file").read_bytes() == content


def test_the_agent_refuses_what_is_not_what_was_sent(tmp_path: Path) -> None:
    """ssh would notice damage on its way; this is the check from end to end, the agent spoken to without ssh."""
    source = (Path(__file__).parents[2] / "boards/payloads/agent.py").read_bytes()
    hello = {"op": "hello", "scratch": str(tmp_path), "lock": str(tmp_path / "lock"), "silence_s": 60,
             "beat_s": 60, "who": "me", "sites": [], "packages": []}
    digest = hashlib.sha256(b"abc").hexdigest()
    puts = [{"op": "put", "path": name, "bytes": 3, "sha256": digest} for name in ("good", "bad")]
    said = b"%d\n%s" % (len(source), source) + json.dumps(hello).encode() + b"\n"
    for put, body in zip(puts, (b"abc", b"abd"), strict=True):
        said += json.dumps(put).encode() + b"\n" + body
    said += b'{"op": "list", "path": "."}\n'
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", BOOTSTRAP], **pipes) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        agent.stdin.write(said)
        agent.stdin.flush()
        told = [agent.stdout.readline() for _ in range(5)]
        agent.stdin.close()
    assert told[0] == MAGIC
    _, good, bad, listed = map(json.loads, told[1:])
    assert good["ok"]
    assert (bad["error"], "bad" in bad["text"]) == ("corrupt-transfer", True)
    assert listed["paths"] == ["good"]


def test_the_host_refuses_what_is_not_what_was_sent(link: Link, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    async def damaged(header: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        return {"sha256": hashlib.sha256(b"abc").hexdigest()}, b"abd"

    monkeypatch.setattr(link, "_ask", damaged)
    with pytest.raises(BoardFault) as caught:
        link.get("file", tmp_path / "file")
    assert caught.value.fault is Fault.CORRUPT_TRANSFER
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b"])
def test_nothing_is_written_outside_the_folder(link: Link, path: str) -> None:
    with pytest.raises(BoardFault, match="not inside the folder"):
        link.put(b"x", path)


def test_a_file_that_is_not_there(link: Link, tmp_path: Path) -> None:
    with pytest.raises(BoardFault) as caught:
        link.get("nothing", tmp_path / "x")
    assert caught.value.fault is Fault.MISSING


def test_a_program_runs_in_the_folder(link: Link) -> None:
    seen: list[str] = []
    done = link.run(["python", "-c", "import os; print(os.getcwd()); print(os.environ['A']); print('\\u00e9')"],
                    timeout_s=20, env={"A": "b c", "PYTHONIOENCODING": "utf-8"}, on_line=seen.append)
    assert seen == [link.hello.folder, "b c", "é"]
    assert done.output.splitlines() == seen
    assert 0 < done.seconds < 20


def test_what_a_program_starts_ends_with_it(link: Link) -> None:
    done = link.run(["/bin/sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"], timeout_s=20)
    state = Path(f"/proc/{done.output}/stat")
    deadline = time.monotonic() + 5
    while state.exists() and state.read_text().split()[2] != "Z":       # ended, whoever collects it
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.01)


def test_archives_are_kept_where_that_is_allowed(link: Link, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    from hwkit.files import sha256

    archive = tmp_path / "one-1.0.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        wheel.writestr("one/__init__.py", "VALUE = 41\n")
    into = link.unzip(archive, "wheels/one-1.0")
    assert into.startswith(link.hello.folder)
    done = link.run(["python", "-c", "import one; print(one.VALUE + 1)"], timeout_s=20, env={"PYTHONPATH": into})
    assert done.output == "42"
    digest = sha256(archive)
    name = f"~/.cache/hwkit/wheels/test-{os.getpid()}"
    home = Path(name).expanduser()
    try:
        assert link.kept(name, digest) is None
        assert link.unzip(archive, name) == str(home)
        assert link.kept(name, digest) == str(home)
        assert link.kept(name, "0" * 64) is None
    finally:
        for path in sorted(home.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        home.rmdir()


def test_a_port_leads_to_the_host(link: Link) -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:
        def once() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(connection.recv(100)[::-1])

        thread = threading.Thread(target=once)
        thread.start()
        port = link.forward(listener.getsockname()[1])
        told = link.run(["python", "-c", f"import socket; s = socket.create_connection(('127.0.0.1', {port})); "
                         "s.sendall(b'abc'); print(s.recv(9).decode())"], timeout_s=20)
        thread.join(10)
    assert told.output == "cba"


def test_behind_a_jump_host(server: sshd.Sshd, tmp_path: Path) -> None:
    """Both machines are stand-ins; the second is reached through the first, whose key is known too."""
    with sshd.running(tmp_path) as gate:
        (gate.folder / "authorized_keys").write_bytes((server.folder / "authorized_keys").read_bytes())
        known = tmp_path / "both"
        known.write_text((server.folder / "known_hosts").read_text() + (gate.folder / "known_hosts").read_text())
        place = server.place(known_hosts=known, jump=f"someone@127.0.0.1:{gate.port}")
        with connect(place, lambda text: None) as link:
            assert link.run(["echo", "there"], timeout_s=20).output == "there"
        assert len(gate.connections) == 1


def test_a_jump_host_that_is_none(server: sshd.Sshd) -> None:
    with pytest.raises(BadInput, match="not user@host:port"), \
            connect(server.place(jump="a@b:c"), lambda text: None):
        pass


def test_the_agent_runs_on_old_pythons() -> None:
    """Boards have Python 3.6 (JetPack 4). None is here; what this parser can be asked for is its grammar."""
    import ast

    for name in ("agent.py", "sense.py"):
        source = (Path(__file__).parents[2] / "boards/payloads" / name).read_text()
        tree = ast.parse(source, feature_version=(3, 6))
        later = {node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call)
                 and isinstance(node.func, ast.Attribute)} & {"removeprefix", "removesuffix", "perf_counter_ns"}
        assert later == set(), (name, sys.version)
