"""The streams of a live process, as file objects over the pipes themselves."""

from __future__ import annotations

import errno
import io
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from longshore.engine.process import Way


class Output(io.RawIOBase):
    """Standard output or error, unbuffered. At its end what the program left running may go on.

    ``vetted``: the runtime's own words could come on it, in the place of a program that could not
    be run; they are not shown.
    """

    def __init__(self, way: Way, name: str, *, vetted: bool) -> None:
        super().__init__()
        self._way = way
        self._name = name
        self._vetted = vetted
        self.touched = False

    def fileno(self) -> int:
        """Return the descriptor of the pipe."""
        fd: int = getattr(self._way, self._name)
        if fd < 0:
            raise ValueError("the stream is closed")
        return fd

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read what there is, at least a byte; 0 at the end."""
        self.touched = True
        view = memoryview(buffer).cast("B")
        size = os.readv(self.fileno(), [view])
        if size and self._vetted:
            self._vetted = False
            if not self._way.is_genuine(bytes(view[:size])):
                self.close()
                return 0
        return size

    def close(self) -> None:
        """Close the pipe; closed already is fine."""
        close_stream(self._way, self._name)
        super().close()


class Input(io.BufferedIOBase):
    """Standard input. Nothing is kept back: each write is in the pipe when it returns."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self._way = way

    def fileno(self) -> int:
        """Return the descriptor of the pipe."""
        if self._way.stdin < 0:
            raise ValueError("the stream is closed")
        return self._way.stdin

    def writable(self) -> bool:
        return True

    def write(self, buffer: ReadableBuffer) -> int:
        """Write all of it and return its length. BrokenPipeError when nobody will read it.

        Nothing (b"") is nothing. A process that has ended reads no more, even if others that it has
        left running hold its end of the pipe.
        """
        view = memoryview(buffer).cast("B")
        fd = self.fileno()
        if not view:
            return 0
        if self._way.ended():
            raise BrokenPipeError(errno.EPIPE, "the process has ended")
        left = view
        blocking = os.get_blocking(fd)
        os.set_blocking(fd, False)
        try:
            while left:
                try:
                    left = left[os.write(fd, left) :]
                except BlockingIOError:
                    self._await_room(fd)
        finally:
            if blocking and fd == self._way.stdin:
                os.set_blocking(fd, True)
        return len(view)

    def _await_room(self, fd: int) -> None:
        # asleep on the program too: others may hold the pipe, full, when it has ended, and keep a
        # runtime that stays in between from ending
        program = self._way.open_program()
        ends = [self._way.fileno()]
        if program is not None and program >= 0:
            ends.append(program)
        try:
            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            for end in ends:
                poller.register(end, select.POLLIN)
            over = program == -1 or any(ready in ends for ready, _ in poller.poll())
        finally:
            if len(ends) > 1:
                os.close(ends[1])
        if over:
            raise BrokenPipeError(errno.EPIPE, "the process has ended")

    def close(self) -> None:
        """Close the pipe, so that the process reads its end; closed already is fine."""
        close_stream(self._way, "stdin")
        super().close()


def close_stream(way: Way, name: str) -> None:
    """Close our end of one stream."""
    fd: int = getattr(way, name)
    if fd >= 0:
        setattr(way, name, -1)
        os.close(fd)
