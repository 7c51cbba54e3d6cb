"""Terminals, on a real pseudo-terminal."""

from __future__ import annotations

import os
import termios
from collections.abc import Iterator

import pytest

from longshore.linux import ttys


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both sides of a new one: the window, the program."""
    window, program = os.openpty()
    yield window, program
    for fd in (window, program):
        try:
            os.close(fd)
        except OSError:
            pass  # a test has closed it


def test_size(terminal: tuple[int, int]) -> None:
    window, program = terminal
    reader, writer = os.pipe()
    try:
        assert ttys.size([program]) is None  # 0 by 0 is none
        termios.tcsetwinsize(window, (33, 101))
        assert ttys.size([reader, 1 << 20, program]) == (33, 101)
        assert ttys.size([reader]) is None
        assert ttys.size([]) is None
    finally:
        os.close(reader)
        os.close(writer)


def test_raw_mode_passes_every_byte_on(terminal: tuple[int, int]) -> None:
    window, program = terminal
    before = termios.tcgetattr(program)
    with ttys.RawMode(program):
        typed = bytes(range(256))  # Ctrl-C, Ctrl-D, Ctrl-S, Ctrl-Z and return among them
        os.write(window, typed)
        got = b""
        while len(got) < len(typed):
            got += os.read(program, 1000)
        assert got == typed
        os.write(program, b"a\nb\r\n")
        assert os.read(window, 100) == b"a\nb\r\n"  # neither changed nor an echo before it
    assert termios.tcgetattr(program) == before


def test_only_output(terminal: tuple[int, int]) -> None:
    window, program = terminal
    before = termios.tcgetattr(program)
    with ttys.RawMode(program, keys=False):
        os.write(program, b"a\n")
        assert os.read(window, 100) == b"a\n"
        after = termios.tcgetattr(program)
        assert (after[0], *after[2:]) == (before[0], *before[2:])
    assert termios.tcgetattr(program) == before


def test_it_is_put_back_when_something_goes_wrong(terminal: tuple[int, int]) -> None:
    _, program = terminal
    before = termios.tcgetattr(program)
    with pytest.raises(KeyError), ttys.RawMode(program):
        raise KeyError
    assert termios.tcgetattr(program) == before


def test_put_back_and_taken_again(terminal: tuple[int, int]) -> None:
    _, program = terminal
    before = termios.tcgetattr(program)
    with ttys.RawMode(program) as raw:
        inside = termios.tcgetattr(program)
        raw.restore()
        raw.restore()
        assert termios.tcgetattr(program) == before
        raw.resume()
        assert termios.tcgetattr(program) == inside
    raw.resume()  # it has been left: nothing happens
    assert termios.tcgetattr(program) == before


def test_what_is_no_terminal() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(OSError, match="ioctl"), ttys.RawMode(reader):
            pass
    finally:
        os.close(reader)
        os.close(writer)


def test_a_terminal_that_goes_away(terminal: tuple[int, int]) -> None:
    window, program = terminal
    with ttys.RawMode(program):
        os.close(window)
        os.close(program)
