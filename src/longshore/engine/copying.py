"""Pass on what a process prints, byte for byte, to descriptors of the caller."""

from __future__ import annotations

import errno
import os

from longshore.engine.capture import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.process import Way


class Copied(Stream):
    """A stream that is written to a descriptor as it comes, and not kept.

    ``vetted``: the runtime's own words could come on it, in the place of a program that could not
    be run; they are not passed on.
    """

    __slots__ = ("_fd", "_silent", "_vetted", "_way")

    def __init__(self, fd: int, way: Way, *, vetted: bool) -> None:
        super().__init__(0)
        self._fd = fd
        self._way = way
        self._vetted = vetted
        self._silent = False

    def add(self, data: bytes) -> None:
        """Write all of it. BrokenPipeError when nobody will read it."""
        super().add(data)
        if self._vetted:
            self._vetted = False
            self._silent = not self._way.is_genuine(data)
        if not self._silent:
            write_all(self._fd, data)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it, however little the descriptor takes at a time.

    BrokenPipeError when nobody will read it: a pipe's reader, or a terminal, is gone.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody gave us a non-blocking descriptor
            import select

            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()
        except OSError as err:
            if err.errno == errno.EIO and os.isatty(fd):
                raise BrokenPipeError(err.errno, err.strerror) from err
            raise
