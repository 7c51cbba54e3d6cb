"""Be told by the kernel when a file changes or appears: inotify(7), for any number of waiters.

Whoever waits for a file watches first and looks then; so nothing is missed and nothing is polled.

A process has one inotify instance, made when it is first needed and kept. A user may have 128 of
them in all, and closing one that has watches waits for a grace period of the kernel, 5–20 ms. Each
waiter has a `Watch`, which is readable when there is something for it. No thread stands by for
that: whoever sleeps on a `Watch` reads the instance for everybody, and of those who sleep the
kernel wakes one (EPOLLEXCLUSIVE, epoll_ctl(2)). A thread would be one in somebody else's process,
would make its forks unsafe, and could not be started any more when the interpreter is about to end.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import time
from _thread import RLock

from longshore.errors import HostUnsupported
from longshore.linux.libc import call
from longshore.linux.procs import poll_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

# inotify(7); the same on every architecture
IN_ACCESS = 0x1
IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_CLOSE_NOWRITE = 0x10
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000  # the watch is gone, because what it watched is
IN_ONLYDIR = 0x1000000
_IN_MASK_ADD = 0x20000000  # keep what others want to know of the same file

_HEADER = 16  # struct inotify_event: int wd; uint32_t mask, cookie, len
_BUFFER = 1 << 16
_ONE_EVENT = _HEADER + 256  # the largest: with a name of 255 bytes
_ORDER = sys.byteorder
_UNASKED = IN_IGNORED | IN_UNMOUNT
_LONGEST_SLEEP = 1e6  # seconds; epoll_wait(2) takes milliseconds in an int

_LIMITS = {
    errno.EMFILE: ("an inotify instance", "fs.inotify.max_user_instances"),
    errno.ENOSPC: ("an inotify watch", "fs.inotify.max_user_watches"),
}


class _Instance:
    """The inotify instance of this process, and who wants to know what from it.

    A *bell* is the eventfd of a `Watch`. The lock is reentrant: a garbage collection or a signal
    handler may close a `Watch` in the middle of any method here, in the same thread.
    """

    __slots__ = ("_removals", "fd", "lock", "told", "watchers")

    def __init__(self) -> None:
        self.fd = -1
        self.lock = RLock()
        self.told: dict[int, int] = {}  # bell -> what has happened since it was asked last
        # Watch number -> bell -> mask. Numbers count up: one that has ended does not come again.
        self.watchers: dict[int, dict[int, int]] = {}
        self._removals = 0

    def open(self) -> int:
        """Return the descriptor of the instance, which is made by the first call."""
        with self.lock:
            if self.fd < 0:
                self.fd = _limited("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
            return self.fd

    def add_bell(self) -> int:
        bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self.open()
        except BaseException:
            os.close(bell)
            raise
        self.told[bell] = 0
        return bell

    def remove_bell(self, bell: int) -> None:
        with self.lock:
            if self.told.pop(bell, None) is not None:  # not in a child of fork, where all are gone
                os.close(bell)

    def add_watch(self, bell: int, path: str, mask: int) -> int:
        # Under the lock, or the last one who watches the same file could end this watch as well.
        with self.lock:
            while True:
                removals = self._removals
                wd = _limited("inotify_add_watch", self.fd, os.fsencode(path), mask | _IN_MASK_ADD)
                bells = self.watchers.setdefault(wd, {})
                bells[bell] = bells.get(bell, 0) | mask
                if self._removals == removals:  # not so when this thread was interrupted for one
                    return wd

    def remove_watch(self, bell: int, wd: int) -> None:
        with self.lock:
            bells = self.watchers.get(wd, {})
            if bells.pop(bell, None) is None or bells:
                return
            del self.watchers[wd]
            self._removals += 1
            try:
                call("inotify_rm_watch", self.fd, wd)
            except OSError as err:
                if err.errno != errno.EINVAL:  # it has ended by itself, which was not read yet
                    raise

    def take(self, bell: int) -> int:
        """Return what a bell was rung for, and silence it."""
        self.dispatch()
        with self.lock:
            mask, self.told[bell] = self.told[bell], 0
            try:
                os.eventfd_read(bell)
            except BlockingIOError:
                pass
            return mask

    def dispatch(self) -> None:
        """Read what the kernel has to tell, and ring for those whom it concerns."""
        if self.fd < 0:
            return
        try:
            while self._read():
                pass
        except BlockingIOError:
            return
        except BaseException:  # a Ctrl-C, say: what was read cannot be read again
            self._ring(tuple(self.told), IN_Q_OVERFLOW)
            raise

    def _read(self) -> bool:
        """Read once; whether there was more than room. What comes later wakes somebody else."""
        data = os.read(self.fd, _BUFFER)
        at = 0
        with self.lock:
            while at < len(data):
                wd = int.from_bytes(data[at : at + 4], _ORDER, signed=True)
                mask = int.from_bytes(data[at + 4 : at + 8], _ORDER)
                at += _HEADER + int.from_bytes(data[at + 12 : at + 16], _ORDER)
                if mask & IN_Q_OVERFLOW:
                    self._ring(tuple(self.told), mask)
                    continue
                # What nobody watches any more may still have been in the queue.
                bells = tuple(self.watchers.get(wd, {}).items())
                self._ring((bell for bell, wanted in bells if mask & (wanted | _UNASKED)), mask)
                if mask & IN_IGNORED:
                    self.watchers.pop(wd, None)
        return len(data) + _ONE_EVENT > _BUFFER

    def _ring(self, bells: Iterable[int], mask: int) -> None:
        with self.lock:
            for bell in bells:
                before = self.told.get(bell)
                if before is None:
                    continue
                self.told[bell] = before | mask  # first: the ring may be heard at once
                if not before:
                    os.eventfd_write(bell, 1)

    def abandon(self) -> None:
        """Close everything, in a child of fork: it is the parent's."""
        self.lock = RLock()  # another thread may have held it
        fds = [*self.told]
        if self.fd >= 0:
            fds.append(self.fd)
        self.fd = -1
        self.told.clear()
        self.watchers.clear()
        for fd in fds:
            os.close(fd)


_instance = _Instance()


def _after_fork() -> None:
    global _instance
    parents, _instance = _instance, _Instance()
    parents.abandon()


os.register_at_fork(after_in_child=_after_fork)


def descriptor() -> int:
    """Return the descriptor that an event loop watches, to call `dispatch` when it is readable.

    Only for loops that sleep on a `Watch` by themselves: `poll` needs no such help. HostUnsupported
    as for `Watch`.
    """
    return _instance.open()


def dispatch() -> None:
    """Read the instance: every `Watch` that something happened for is readable then."""
    _instance.dispatch()


class Watch:
    """What one waiter wants to be told of, in any number of files; a context manager.

    Its descriptor (`fileno`) is readable when something has happened, for who sleeps by `poll`, or
    in an event loop that looks after `descriptor` too; with another poll(2) nobody might read what
    the kernel has to tell. It is of no use in a child of fork.

    HostUnsupported names the sysctl when this user's instances (128 by default, for all of the
    user's processes together) or watches are used up.
    """

    __slots__ = ("_bell", "_instance", "_wds")

    def __init__(self) -> None:
        self._bell = -1
        self._wds: set[int] = set()
        self._instance = _instance
        self._bell = _instance.add_bell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_bell", -1) in self._instance.told:
            import warnings

            warnings.warn("unclosed Watch", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def close(self) -> None:
        """Watch nothing any more. Closing it again does nothing."""
        bell, self._bell = self._bell, -1
        for wd in tuple(self._wds):
            self._instance.remove_watch(bell, wd)
        self._instance.remove_bell(bell)

    def fileno(self) -> int:
        """Return the descriptor that is readable once something has happened; see `poll`."""
        if self._bell not in self._instance.told:
            raise ValueError("this Watch is closed, or of the parent of a fork")
        return self._bell

    def add(self, path: str | int, mask: int) -> int:
        """Watch a path, or the file that a descriptor has open; return the watch's number.

        The number is the file's: of one that is watched already, the masks are united. OSError with
        the path when it cannot be watched.
        """
        bell = self.fileno()
        if isinstance(path, int):
            return self._add(bell, path, f"/proc/self/fd/{path}", mask)
        # A file system that hangs does so here, and not where others wait for us.
        only = os.O_DIRECTORY if mask & IN_ONLYDIR else 0
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC | only)
        try:
            return self._add(bell, fd, path, mask)
        finally:
            os.close(fd)

    def _add(self, bell: int, fd: int, name: str, mask: int) -> int:
        try:
            wd = self._instance.add_watch(bell, f"/proc/self/fd/{fd}", mask)
        except OSError as err:
            raise OSError(err.errno, err.strerror, name) from None
        self._wds.add(wd)
        return wd

    def remove(self, wd: int) -> None:
        """End one watch. One that has ended by itself (its file was deleted) is fine."""
        self._wds.discard(wd)
        self._instance.remove_watch(self._bell, wd)

    def take(self) -> int:
        """Return what has happened since it was asked last, as a mask, and forget it; 0 is nothing.

        IN_Q_OVERFLOW means that the kernel dropped events, so that anything may have happened.
        IN_IGNORED and IN_UNMOUNT come unasked, when something cannot be watched any more.
        """
        return self._instance.take(self.fileno())


def poll(fds: Sequence[int], deadline: float | None) -> list[int]:
    """Wait as `procs.poll_until` does, for descriptors among which there are those of a `Watch`."""
    instance = _instance
    if not any(fd in instance.told for fd in fds):
        return poll_until(fds, deadline)
    with select.epoll() as poller:
        poller.register(instance.fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        for fd in {*fds}:
            poller.register(fd, select.EPOLLIN)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            found: list[tuple[int, int]] = []
            try:
                found = poller.poll(None if left is None else min(left, _LONGEST_SLEEP))
            finally:
                instance.dispatch()  # the kernel may have woken nobody but us for it
            readable = {fd for fd, _ in found}
            ready = [fd for fd in fds if fd in readable or instance.told.get(fd)]
            if ready or (deadline is not None and time.monotonic() >= deadline):
                return ready


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
