"""The streams of an exec session: of a `Process`, and of somebody who sits at its terminal."""

from __future__ import annotations

import errno
import io
import os
import sys
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any, Self

    from longshore.engine.sessionway import Session
    from longshore.engine.streams import Input


_PATIENCE = 2.0  # seconds; a program that reads late hears of the end from its conmon


class SessionOutput(io.RawIOBase):
    """Streams of a session's log: all from the beginning, then what comes, to the session's end."""

    def __init__(self, session: Session, streams: tuple[str, ...]) -> None:
        super().__init__()
        self._streams = streams
        self._session = session
        self._source: Generator[list[tuple[str, bytes]]] | None = None
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what there is, at least a byte; 0 at the end."""
        view = memoryview(buffer).cast("B")
        if self._source is None:
            self._source = self._session.output(follow=True)
        while not self._rest:
            pieces = next(self._source, None)
            if pieces is None:
                return 0
            wanted = [data for stream, data in pieces if stream in self._streams]
            self._rest = memoryview(b"".join(wanted))
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def close(self) -> None:
        """Read no more."""
        source, self._source = self._source, None
        if source is not None:
            try:
                source.close()
            except ValueError:
                pass  # another thread is just reading: it lets go when it comes back
        super().close()


class SessionInput(io.BufferedIOBase):
    """A session's standard input. Each write has been taken over by conmon when it returns."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._way: Input | None = None

    def writable(self) -> bool:
        return True

    def write(self, buffer: Any) -> int:
        """Write all of it and return its length. BrokenPipeError when the session has ended.

        Nothing (b"") is nothing.
        """
        if self.closed:
            raise ValueError("the stream is closed")
        data = bytes(buffer)
        if data:
            self._connected().write(data)
        return len(data)

    def _connected(self) -> Input:
        if self._way is None:
            self._way = self._session.attach()
        return self._way

    @property
    def connected(self) -> bool:
        """Whether something was written, so that leaving ends the input."""
        return self._way is not None

    def leave(self) -> None:
        """Close this object and its connection, if there is one."""
        super().close()
        way, self._way = self._way, None
        if way is not None:
            way.leave(_PATIENCE)

    def close(self) -> None:
        """Let its program read the end of its input; a terminal gets the key for it."""
        if not self.closed:
            try:
                self._connected().end()
            except BrokenPipeError:
                pass  # it has ended
            finally:
                self.leave()

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.leave()  # an end that nobody has asked for is none


class Attached:
    """What somebody who sits at a session's terminal has of it; a context manager.

    Iterating gives (stream, data) until its end. `close` may be called by any thread, and ends
    that.
    """

    def __init__(self, session: Session, *, stdin: bool) -> None:
        self._session = session
        self._stdin = stdin
        self._input: Input | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._found = session.output(follow=True, stop=self._wake)
        self._writing, self._iterating = allocate_lock(), allocate_lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        while True:
            with self._iterating:
                pieces = None if self._closed else next(self._found, None)
            if pieces is None:
                return
            yield from pieces

    def write(self, data: bytes) -> None:
        """Write all of it to its input. BrokenPipeError when it has ended, or after `close`."""
        with self._writing:
            if data:
                self._connected().write(data, until=(self._wake,))

    def close_stdin(self) -> None:
        """Say that no more will come; a terminal gets the key for it."""
        with self._writing:
            self._connected().end(until=(self._wake,))

    def _connected(self) -> Input:
        if self._closed or not self._stdin:
            raise BrokenPipeError(errno.EPIPE, "nothing can be written to it")
        if self._input is None:
            self._input = self._session.attach()
        return self._input

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal."""
        self._session.resize(rows, columns)

    def close(self) -> None:
        """Leave. Closing it again does nothing."""
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._wake, 1)
        with self._writing:
            if self._input is not None:
                self._input.leave(_PATIENCE)
        with self._iterating:
            self._found.close()
            os.close(self._wake)
