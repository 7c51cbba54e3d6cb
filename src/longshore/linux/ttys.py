"""Terminals: how large one is, and raw mode for a while.

In raw mode (cfmakeraw(3)) a terminal passes every byte on as it is: no echo, no lines, no signals
from keys, no carriage return put before a newline.
"""

from __future__ import annotations

import os
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Self

# where tcgetattr(3) of Python's termios puts them
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


def size(fds: Sequence[int]) -> tuple[int, int] | None:
    """Return (rows, columns) of the first descriptor that is a terminal and has a size."""
    for fd in fds:
        try:
            columns, rows = os.get_terminal_size(fd)
        except OSError:
            continue
        if rows > 0 and columns > 0:
            return rows, columns
    return None


class RawMode:
    """A terminal in raw mode while this is entered; then it is as it was, whatever came between.

    With ``keys=False`` only its output is raw: keys still make lines and signals. Settings change
    at once; what was typed and not read yet stays. `restore` and `resume` may be called from a
    signal handler.
    """

    __slots__ = ("_before", "_fd", "_keys")

    def __init__(self, fd: int, *, keys: bool = True) -> None:
        self._fd = fd
        self._keys = keys
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        """Raises OSError when the descriptor is no terminal."""
        try:
            before = termios.tcgetattr(self._fd)
        except termios.error as err:
            raise OSError(*err.args) from None
        self._before = before  # first: a signal that comes from here on can take it back
        self.resume()
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()
        self._before = None

    def resume(self) -> None:
        """Set raw mode, or set it again after somebody else had the terminal."""
        if self._before is None:
            return
        mode = [*self._before]
        mode[_OFLAG] &= ~termios.OPOST
        if self._keys:
            mode[_IFLAG] &= ~(
                termios.IGNBRK
                | termios.BRKINT
                | termios.PARMRK
                | termios.ISTRIP
                | termios.INLCR
                | termios.IGNCR
                | termios.ICRNL
                | termios.IXON
            )
            mode[_LFLAG] &= ~(
                termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN
            )
            mode[_CFLAG] = mode[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
            characters = [*mode[_CC]]
            characters[termios.VMIN], characters[termios.VTIME] = 1, 0
            mode[_CC] = characters
        self._set(mode)

    def restore(self) -> None:
        """Set the terminal to what it was; doing it again changes nothing."""
        if self._before is not None:
            self._set(self._before)

    def _set(self, mode: list[Any]) -> None:
        try:
            # not TCSADRAIN: a terminal that somebody has stopped (Ctrl-S) would hold us here
            termios.tcsetattr(self._fd, termios.TCSANOW, mode)
        except termios.error:
            return  # it is gone, and what it is set to with it
