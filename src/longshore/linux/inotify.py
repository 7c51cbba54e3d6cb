"""Be told by the kernel when a file changes or appears: inotify(7).

Whoever waits for a file watches first and looks then; so nothing is missed and nothing is polled.
"""

from __future__ import annotations

import _thread
import errno
import os
import sys

from longshore._value import Value
from longshore.errors import HostUnsupported
from longshore.linux.libc import call
from longshore.linux.procs import poll_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

# inotify(7); the same on every architecture
IN_MODIFY = 0x2
IN_CLOSE_WRITE = 0x8
IN_CLOSE_NOWRITE = 0x10
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000  # the watch is gone: removed, or what it watched is
IN_ONLYDIR = 0x1000000
IN_ISDIR = 0x40000000

_HEADER = 16  # struct inotify_event: int wd; uint32_t mask, cookie, len
_BUFFER = 1 << 16
_ORDER = sys.byteorder

_LIMITS = {
    errno.EMFILE: ("an inotify instance", "fs.inotify.max_user_instances"),
    errno.ENOSPC: ("an inotify watch", "fs.inotify.max_user_watches"),
}


class Event(Value):
    """One change. ``name`` is the entry of a watched directory; empty for the watched itself."""

    wd: int
    mask: int
    name: str = ""
    cookie: int = 0

    @property
    def overflow(self) -> bool:
        """Whether the kernel dropped events before this one: look at everything again."""
        return bool(self.mask & IN_Q_OVERFLOW)


class _Closer:
    """Close inotify descriptors in the background.

    The kernel waits for an SRCU grace period in that close (fsnotify_destroy_group), which takes
    15 ms while other processes come and go: longer than anything else that a wait does. Closes
    that happen at the same time share one period, and the end of a process waits for them too, so
    there are a few threads. They live only while there is something to close.
    """

    _MOST = 3  # threads

    __slots__ = ("_busy", "_done", "_fds", "_lock")

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._done = _thread.allocate_lock()  # held while any thread lives
        self._fds: list[int] = []
        self._busy = 0

    def close(self, fd: int) -> None:
        """Close a descriptor soon; at once where no thread can be started."""
        with self._lock:
            self._fds.append(fd)
            if self._busy == self._MOST:
                return
            if self._busy == 0:
                self._done.acquire()
            self._busy += 1
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError:  # no more threads, or the interpreter is about to end
            self._run()

    def settle(self) -> None:
        """Wait until everything is closed."""
        with self._done:
            pass

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._fds:
                    self._busy -= 1
                    if self._busy == 0:
                        self._done.release()
                    return
                fd = self._fds.pop()
            os.close(fd)

    def _after_fork(self) -> None:
        """In the child the threads are not: close what they had left, with locks of our own."""
        fds = self._fds
        self._lock = _thread.allocate_lock()
        self._done = _thread.allocate_lock()
        self._fds = []
        self._busy = 0
        for fd in fds:
            os.close(fd)


_closer = _Closer()
settle = _closer.settle
os.register_at_fork(after_in_child=_closer._after_fork)


class Inotify:
    """One inotify instance; a context manager. Its descriptor is never inherited and never blocks.

    HostUnsupported names the sysctl when this user's instances (128 by default, for all of the
    user's processes together) or watches are used up.
    """

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = -1
        flags = os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._fd = call("inotify_init1", flags)
        except OSError:
            settle()  # those that are being closed count until they are
            self._fd = _limited("inotify_init1", flags)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            import warnings

            warnings.warn("unclosed Inotify", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def close(self) -> None:
        """Close the instance, and all of its watches with it. Closing it again does nothing.

        The descriptor itself may be open for some milliseconds more: see `_Closer`.
        """
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _closer.close(fd)

    def fileno(self) -> int:
        """Return the descriptor, which is readable when there are events."""
        if self._fd < 0:
            raise ValueError("this Inotify is closed")
        return self._fd

    def add(self, path: str | int, mask: int) -> int:
        """Watch a path, or the file that a descriptor has open; return the watch's number.

        OSError with the path when it cannot be watched.
        """
        name = f"/proc/self/fd/{path}" if isinstance(path, int) else path
        try:
            return _limited("inotify_add_watch", self.fileno(), os.fsencode(name), mask)
        except OSError as err:
            raise OSError(err.errno, err.strerror, name) from None

    def remove(self, wd: int) -> None:
        """End one watch. One that has ended by itself (its file was deleted) is fine."""
        try:
            call("inotify_rm_watch", self.fileno(), wd)
        except OSError as err:
            if err.errno != errno.EINVAL:
                raise

    def read(self) -> list[Event]:
        """Return the events that are there, oldest first; an empty list when there are none.

        The event of an overflow has the watch number −1 and `Event.overflow`.
        """
        try:
            data = os.read(self.fileno(), _BUFFER)
        except BlockingIOError:
            return []
        events: list[Event] = []
        at = 0
        while at < len(data):
            wd = int.from_bytes(data[at : at + 4], _ORDER, signed=True)
            mask = int.from_bytes(data[at + 4 : at + 8], _ORDER)
            cookie = int.from_bytes(data[at + 8 : at + 12], _ORDER)
            end = at + _HEADER + int.from_bytes(data[at + 12 : at + 16], _ORDER)
            name = os.fsdecode(data[at + _HEADER : end].rstrip(b"\0"))
            events.append(Event(wd=wd, mask=mask, name=name, cookie=cookie))
            at = end
        return events

    def drain(self) -> None:
        """Throw away what is there: for callers that look at the file itself after any event."""
        try:
            while len(os.read(self.fileno(), _BUFFER)) > _BUFFER // 2:
                pass
        except BlockingIOError:
            pass


def wait_for(path: str, *, deadline: float | None, also_fds: Sequence[int] = ()) -> bool:
    """Wait until a path exists (True), or a descriptor is readable or time is over (False).

    ``deadline`` is a `time.monotonic` moment, or None for no end. The path is looked at once more
    after a descriptor became readable, so a process that makes the file and then ends gives True.
    FileNotFoundError when the path's directory is not there, or goes.
    """
    if os.path.lexists(path):
        return True
    directory = os.path.dirname(path) or "."
    with Inotify() as inotify:
        inotify.add(directory, IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)
        while not os.path.lexists(path):
            ready = poll_until([inotify.fileno(), *also_fds], deadline)
            if not ready or any(fd in ready for fd in also_fds):
                return os.path.lexists(path)
            gone = IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED
            if any(event.mask & gone for event in inotify.read()):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
    return True


def _limited(function: str, *arguments: int | bytes) -> int:
    try:
        return call(function, *arguments)
    except OSError as err:
        if err.errno not in _LIMITS:
            raise
        what, sysctl = _LIMITS[err.errno]
        raise HostUnsupported(
            f"waiting needs {what}, and this user has no more",
            f"{err.strerror} ({sysctl} = {_sysctl(sysctl)})",
            hint=f"allow more of them: sysctl {sysctl}=8192",
        ) from err


def _sysctl(name: str) -> str:
    try:
        with open(f"/proc/sys/{name.replace('.', '/')}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"
