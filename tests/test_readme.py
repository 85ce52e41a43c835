"""Every command in the README works, and prints what the README shows."""

from __future__ import annotations

import re

import pytest

from tests.readme import README, Command, commands, run, weights_table

UNIT = re.compile(r"(n|µ|m|k|M|G)?(s|B)|k|M|G")      # how large a number is may change, and so its prefix
NUMBER = re.compile(r"[-+]?\d[\d,.]*(?:e[-+]?\d+)?")


def shape(text: str) -> list[str]:
    """The words of an output without its numbers: what may not change from machine to machine."""
    text = re.sub(r"digest \w+", "digest", text)
    words = [NUMBER.sub("#", line).split() for line in text.splitlines()]
    return [" ".join(w for w in line if re.search(r"[A-Za-z]", w) and not UNIT.fullmatch(w))
            for line in words if any(line)]


def test_there_are_commands() -> None:
    assert len(commands()) >= 8


def test_the_table_of_weights_is_what_the_weights_say() -> None:
    assert weights_table() in README.read_text()


@pytest.mark.qemu
@pytest.mark.parametrize("command", [c for c in commands() if c.runs], ids=lambda c: c.text)
def test_command(command: Command) -> None:
    code, printed = run(command.text)
    assert code == (1 if "# exits with 1" in command.text else 0), printed
    if not command.expected:
        return
    shown, now = shape(command.expected), shape(printed)
    if "..." in command.expected:            # an excerpt: each of its lines is there
        now_set = set(now)
        assert [line for line in shown if line not in now_set and line != "..."] == []
    else:
        assert now == shown
