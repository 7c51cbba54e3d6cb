"""Bytes into a container, or into a session: standard input, by way of conmon."""

from __future__ import annotations

import os
import time

from longshore.errors import InvalidArgument, OperationTimeout
from longshore.linux.processes import open_pidfd
from longshore.linux.procs import poll_until
from longshore.monitor.attach import END_OF_INPUT, StdinSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from longshore.engine.machinery import Machinery
    from longshore.linux.processes import ProcessId

_CHUNK = 1 << 16
_ENDED = "the program has ended, or nobody passes its input on any more"


class Input:
    """The standard input of one program that conmon looks after; a context manager.

    ``path`` is conmon's attach socket, ``process`` the program. Leaving ends the input, unless it
    is a terminal (``tty``). One thread at a time.
    """

    __slots__ = ("_end", "_mid_line", "_over", "_socket", "_tty")

    def __init__(self, path: str, process: ProcessId | None, *, tty: bool) -> None:
        """Connect. BrokenPipeError when the program has ended."""
        self._tty = tty
        self._over = False  # `end` was called
        self._mid_line = False
        end = open_pidfd(process)
        if end is None:
            raise BrokenPipeError(_ENDED)
        self._end = end
        try:
            self._socket = StdinSocket(path)
        except BaseException as err:
            os.close(end)
            if isinstance(err, (FileNotFoundError, ConnectionRefusedError)):
                raise BrokenPipeError(_ENDED) from err
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ended(self) -> int:
        """A descriptor that is readable when the program has ended."""
        return self._end

    def close(self) -> None:
        """Leave. Closing it again does nothing."""
        if self._end >= 0:
            os.close(self._end)
            self._end = -1
            self._socket.close()

    def write(
        self, data: bytes, *, until: Sequence[int] = (), deadline: float | None = None
    ) -> None:
        """Write all bytes, at the pace at which the program reads them; none at all do nothing.

        BrokenPipeError at once when the program has ended or when ``until`` is readable, ValueError
        after `end`, OperationTimeout at ``deadline`` (`time.monotonic`), with a part written.
        """
        if not data:
            return
        if self._over or self._end < 0:
            raise ValueError("this standard input was closed")
        if not self._socket.send(data, until=(self._end, *until), deadline=deadline):
            self._fail(until, deadline)
        self._mid_line = data[-1:] != b"\n"

    def end(self, *, until: Sequence[int] = (), deadline: float | None = None) -> None:
        """Say that no more will come: the program reads what is still to be read, then the end.

        To a terminal the key for it (Ctrl-D) is sent, twice within a line: a program that reads
        lines takes it for the end. Ending it again, or of what has ended, does nothing.
        """
        if self._over or self._end < 0:
            return
        self._over = True
        fds = (self._end, *until)
        if self._tty:
            key = END_OF_INPUT * (2 if self._mid_line else 1)
            self._socket.send(key, until=fds, deadline=deadline)
        else:
            self._socket.end(until=fds, deadline=deadline)

    def leave(self, patience: float) -> None:
        """End it and leave, as soon as conmon knows of the end, or after some seconds.

        Who leaves earlier may lose the end: see `monitor.attach`.
        """
        if self._end >= 0:
            deadline = time.monotonic() + patience
            if not self._tty:
                self.end(deadline=deadline)
            self._socket.taken(until=(self._end,), deadline=deadline)
            self.close()

    def _fail(self, until: Sequence[int], deadline: float | None) -> None:
        gone = poll_until([self._end, *until], 0.0)
        if not gone and deadline is not None and time.monotonic() >= deadline:
            raise OperationTimeout("the program has not read its input in time")
        raise BrokenPipeError(_ENDED)


def feed(
    machinery: Machinery,
    container_id: str,
    source: object,
    deadline: float | None = None,
) -> None:
    """Write a container's whole standard input and stay until it has ended, or the deadline came.

    ``source`` is a descriptor that is read to its end, or the bytes themselves. What the container
    does not read is nobody's loss, as for a pipe whose reader has gone.
    """
    if isinstance(source, bool) or not isinstance(source, (int, bytes)):
        raise InvalidArgument(f"input: {source!r} is neither bytes nor a descriptor")
    record = machinery.store.peek(container_id)
    path = machinery.paths(container_id).attach_socket
    process = record.run.init if record.run is not None else None
    try:
        with Input(path, process, tty=record.config.tty) as stdin:
            if isinstance(source, bytes):
                stdin.write(source, deadline=deadline)
            else:
                _copy(source, stdin, deadline)
            stdin.end(deadline=deadline)
            poll_until([stdin.ended], deadline)
    except (BrokenPipeError, OperationTimeout):
        return


def _copy(source: int, stdin: Input, deadline: float | None) -> None:
    """Copy a descriptor until its end."""
    while True:
        ready = poll_until([source, stdin.ended], deadline)
        if not ready:
            raise OperationTimeout("there is no more time for input")
        if stdin.ended in ready:
            raise BrokenPipeError(_ENDED)
        data = os.read(source, _CHUNK)
        if not data:
            return
        stdin.write(data, deadline=deadline)
