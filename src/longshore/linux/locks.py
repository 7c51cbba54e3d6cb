"""flock(2) with a deadline and a holder's name, and without polling.

Who waits watches the lock file with inotify: the kernel reports it when the holder closes its
descriptor, which a holder's death does too. The holder writes who it is and since when into the
file, so that a refusal can say so.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from longshore.linux.inotify import IN_CLOSE_NOWRITE, IN_CLOSE_WRITE, IN_MODIFY, Inotify
from longshore.linux.procs import poll_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

# Locks held by this process. A fork in another thread would carry the open file on, and with it
# the lock, for as long as the child lives; the child lets go at once.
_held: set[int] = set()


def _release_in_child() -> None:
    for fd in tuple(_held):
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_release_in_child)


class LockBusy(Exception):
    """The deadline came first. ``holder`` is what the holder wrote, or an empty string."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class FileLock:
    """An exclusive lock on a file that exists; used as ``with FileLock(...):``.

    Threads exclude each other like processes do, because each use opens the file anew.
    FileNotFoundError: the file is not there, or was removed while we waited.
    """

    __slots__ = ("_deadline", "_fd", "_path", "_purpose")

    def __init__(self, path: str, *, purpose: str, deadline: float | None = None) -> None:
        """``deadline`` is a `time.monotonic` moment, None for no end."""
        self._path = path
        self._purpose = purpose
        self._deadline = deadline
        self._fd = -1

    def __enter__(self) -> Self:
        if self._fd >= 0:
            return self  # taken before its ``with`` block, and released by it
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if not _try(fd):
                self._wait(fd)
            if os.fstat(fd).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._path)
            note = f"{os.getpid()} {time.time():.3f} {self._purpose}".encode()
            os.pwrite(fd, note, 0)
            os.ftruncate(fd, len(note))
        except BaseException:
            _let_go(fd)
            raise
        _held.add(fd)
        self._fd = fd
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd in _held:  # not in a child of fork, which has let go already
            _held.discard(self._fd)
            _let_go(self._fd)
        self._fd = -1

    def _wait(self, fd: int) -> None:
        with Inotify() as watch:
            # Through the descriptor: the path may name another file by now, or none.
            watch.add(f"/proc/self/fd/{fd}", IN_CLOSE_WRITE | IN_CLOSE_NOWRITE | IN_MODIFY)
            while not _try(fd):
                # A holder that dies closes without unlocking; its pidfd fires when all is done.
                holder = _holder_pidfd(fd)
                try:
                    fds = [watch.fileno()] if holder is None else [watch.fileno(), holder]
                    if not poll_until(fds, self._deadline):
                        raise LockBusy(_note(fd))
                finally:
                    if holder is not None:
                        os.close(holder)
                watch.read()


def _note(fd: int) -> str:
    return os.pread(fd, 4096, 0).decode("utf-8", "replace")


def _holder_pidfd(fd: int) -> int | None:
    pid = _note(fd).partition(" ")[0]
    if not pid.isdigit() or int(pid) == os.getpid():
        return None
    try:
        return os.pidfd_open(int(pid))
    except OSError:  # gone; its close was reported already or will be
        return None


def _let_go(fd: int) -> None:
    # Unlock before the close: the kernel reports a close before it drops the lock
    # (fs/file_table.c, __fput), and a waiter that looked in between would sleep for ever.
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: str) -> bool:
    """Whether somebody holds the lock now. A moment later it may be different."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try(fd)
    finally:
        _let_go(fd)


class Lease:
    """A shared lock on a directory, held while this process promises to clean up after something.

    conmon's exit command waits for it (flock(1) on the same directory) before it does the work
    itself; see `engine.exitcmd`. Unlike a `FileLock` it excludes nobody here.
    """

    __slots__ = ("_fd",)

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
        except BaseException:
            os.close(fd)
            raise
        _held.add(fd)
        self._fd = fd

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._fd in _held:
            _held.discard(self._fd)
            os.close(self._fd)
        self._fd = -1
