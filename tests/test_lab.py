"""The user's lab file: what it may say, and what it may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hwkit import board as boards
from hwkit import lab
from hwkit.errors import BadDescription, UnknownName

PI = '[boards.desk-pi]\nboard = "rpi4"\nhost = "pi.local"\nuser = "pi"\n'


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "lab.toml"
    monkeypatch.setenv("HWKIT_LAB", str(path))
    return path


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HWKIT_LAB", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert lab.path() == tmp_path / "hwkit" / "lab.toml"
    assert lab.entries() == {}


def test_a_board_of_the_lab_is_a_board(written: Path) -> None:
    write(written, PI + 'port = 2222\nkey = "~/.ssh/pi"\njump = "me@gate:22"\n')
    found = boards.board("desk-pi")
    assert (found.name, found.target, found.kind, found.runner) == ("desk-pi", "rpi4", "measured", "ssh")
    assert found.place is not None
    assert found.place.key == Path.home() / ".ssh/pi"
    assert found.place.text == "pi@pi.local:2222"
    assert "pi.local" in found.description
    assert "desk-pi" not in boards.names(), "names are those of boards/: a lab is nobody else's"
    assert "place" not in found.model_dump()


def test_unknown_names_tell_the_lab_s_too(written: Path) -> None:
    write(written, PI)
    with pytest.raises(UnknownName, match="desk-pi"):
        boards.board("desk-po")


@pytest.mark.parametrize(("text", "said"), [
    (PI + 'pasword = "x"\n', "boards.desk-pi.pasword: unknown key"),
    (PI + 'password = "x"\n', "boards.desk-pi.password: unknown key"),
    (PI + 'hots = "x"\n', "did you mean 'host'"),
    (PI + "port = 0\n", "boards.desk-pi.port"),
    (PI.replace('user = "pi"\n', ""), "boards.desk-pi.user: missing"),
    (PI + "port = [\n", "not valid TOML"),
    ("[board.desk-pi]\n", "did you mean 'boards'"),
    ('[boards."a b"]\n', "a b"),
    (PI + '[boards.desk-pi.meter]\npath = "/dev/ttyUSB0"\nat = "moon"\n', "meter.at"),
])
def test_mistakes_are_one_line_with_the_key(written: Path, text: str, said: str) -> None:
    write(written, text)
    with pytest.raises(BadDescription) as caught:
        boards.board("desk-pi")
    assert str(written) in caught.value.line()
    assert said in caught.value.line()
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o660])
def test_others_may_not_read_or_change_it(written: Path, mode: int) -> None:
    write(written, PI, mode)
    with pytest.raises(BadDescription, match=f"mode {mode:04o}.*") as caught:
        lab.entries()
    assert caught.value.hint == f"chmod 600 {written}"
    os.chmod(written, 0o600)
    assert set(lab.entries()) == {"desk-pi"}


def test_a_name_stands_for_one_thing(written: Path) -> None:
    write(written, PI.replace("desk-pi", "qemu-rpi4"))
    with pytest.raises(BadDescription, match="also the name of a file"):
        boards.board("qemu-rpi4")


def test_only_what_is_reached_over_ssh_stands_in_a_lab(written: Path) -> None:
    write(written, PI.replace('"rpi4"', '"qemu-rpi4"'))
    with pytest.raises(BadDescription, match="not reached over ssh but by qemu_user"):
        boards.board("desk-pi")
