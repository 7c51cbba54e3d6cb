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

from longshore.linux.inotify import IN_CLOSE_NOWRITE, IN_CLOSE_WRITE, IN_MODIFY, Watch
from longshore.linux.steps import Sleep, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from longshore.linux.steps import Steps

# Locks that this process holds or waits for, by descriptor. A fork in another thread would carry
# the open file on, and with it the lock, for as long as the child lives; the child lets go at once.
_held: dict[int, FileLock | Lease] = {}


def _release_in_child() -> None:
    for fd in tuple(_held):
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_release_in_child)


class LockBusy(Exception):
    """The deadline came first. ``holder`` says who has it and what for, ``since`` since when."""

    def __init__(self, note: str) -> None:
        """``note`` is what the holder wrote, or an empty string."""
        super().__init__(note)
        pid, _, rest = note.partition(" ")
        moment, _, purpose = rest.partition(" ")
        try:
            self.since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(moment)))
            self.holder = f"process {pid} ({purpose})"
        except ValueError:
            self.holder, self.since = "another process", "a moment ago"


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
        if self._fd < 0:  # else it was taken before its ``with`` block, and is released by it
            run(self.take_steps())
        return self

    def __exit__(self, *_: object) -> None:
        fd, self._fd = self._fd, -1
        self._let_go(fd)

    def take_steps(self) -> Steps[None]:
        """Take the lock, in steps; LockBusy at the deadline."""
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        _held[fd] = self
        try:
            if not _try(fd):
                yield from self._wait(fd)
            if os.fstat(fd).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._path)
            note = f"{os.getpid()} {time.time():.3f} {self._purpose}".encode()
            try:
                os.pwrite(fd, note, 0)
                os.ftruncate(fd, len(note))
            except OSError as err:
                # on a full disk it is held all the same: what makes room needs it
                if err.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
        except BaseException:
            self._let_go(fd)
            raise
        self._fd = fd

    def _wait(self, fd: int) -> Steps[None]:
        self._check(fd)
        with Watch() as watch:
            # Through the descriptor: the path may name another file by now, or none.
            try:
                watch.add(fd, IN_CLOSE_WRITE | IN_CLOSE_NOWRITE | IN_MODIFY)
            except PermissionError:
                # SELinux has a permission of its own for that (watch_reads), which Debian 12's
                # policy gives to nobody. Who holds a lock here has it open for writing.
                watch.add(fd, IN_CLOSE_WRITE | IN_MODIFY)
            while not _try(fd):
                self._check(fd)
                # A holder that dies closes without unlocking; its pidfd fires when all is done.
                holder = _holder_pidfd(fd)
                try:
                    fds = (watch.fileno(),) if holder is None else (watch.fileno(), holder)
                    yield Sleep(fds=fds, deadline=self._deadline)
                finally:
                    if holder is not None:
                        os.close(holder)
                watch.take()

    def _check(self, fd: int) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise LockBusy(_note(fd))

    def _let_go(self, fd: int) -> None:
        if _held.get(fd) is self:  # not in a child of fork, which has let go already
            del _held[fd]
            _unlock(fd)


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


def _unlock(fd: int) -> None:
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
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # so that its close is one of a writer
    except FileNotFoundError:
        return False
    try:
        return not _try(fd)
    finally:
        _unlock(fd)


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
        _held[fd] = self
        self._fd = fd

    def release(self) -> None:
        """Let go; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if _held.get(fd) is self:
            del _held[fd]
            os.close(fd)
