"""Pass on what a process prints, byte for byte, to descriptors of the caller."""

from __future__ import annotations

from longshore.engine.capture import Stream
from longshore.linux.files import write_all

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
