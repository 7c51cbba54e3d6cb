"""The files that a log consists of: the log itself, and those that were rotated away before.

``ctr.log`` is being written, ``ctr.log.1`` was before it, ``ctr.log.2`` before that. They move
while they are read, so a file is known by what it is and not by its name. Who follows a log holds a
shared flock on the file that it reads (`pin`): whoever rotates throws that file and the younger
ones away only when it must (`monitor.rotation`).
"""

from __future__ import annotations

import binascii
import contextlib
import fcntl
import os

from longshore.errors import InvalidArgument
from longshore.linux.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO, IN_ONLYDIR, Watch
from longshore.monitor.logformat import HEAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from typing import Self

CHUNK = 1 << 16  # larger ones fall out of the CPU's cache: half the speed
_TRIES = 100  # to see a log as it is between two rotations
_SEARCH = 1 << 16  # a record is shorter: conmon reads 8 KiB at a time


class Source:
    """The raw bytes of a log as it grows, across rotations; a context manager."""

    __slots__ = (
        "_directory", "_fd", "_name", "_path", "_watch", "_wd", "at", "lost", "switched",
    )  # fmt: skip

    def __init__(self, path: str) -> None:
        self._path = path
        self._directory = os.path.dirname(path) or "."
        self._name = os.path.basename(path)
        self._fd = -1
        self._wd = -1
        self.at = 0  # how far into the file has been read
        self.switched = False  # set when what is read next lies in another file
        self.lost = False  # set when something may be missing before what is read next
        # Watch first, look then. The directory tells of a new file, the file of new bytes.
        self._watch = Watch()
        try:
            self._watch.add(self._directory, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR)
        except BaseException:
            self._watch.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.close()
        if self._fd >= 0:
            _unpin(self._fd)
            self._fd = -1

    def fileno(self) -> int:
        """Return the descriptor that is readable when there may be more."""
        return self._watch.fileno()

    def clear(self) -> None:
        """Forget what was told so far; what it was about is read next."""
        self._watch.take()

    def hold(self) -> None:
        """Open a log that was not there yet: it can be read then, whoever removes it."""
        if self._fd >= 0:
            return
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            self.start_at(fd, 0)
        finally:
            os.close(fd)

    def start_at(self, fd: int, offset: int) -> None:
        """Begin in this open file, at this place."""
        mine = os.dup(fd)
        pin(mine)
        self._switch(mine)
        self.at = os.lseek(self._fd, offset, os.SEEK_SET)

    def file_id(self) -> str:
        """Return what tells the file that is read from others; see `file_id`."""
        return file_id(self._fd)

    def read(self) -> Iterator[bytes | None]:
        """Yield all bytes that are there; None where one file ends and the next begins."""
        if self._fd < 0 and not self._open_oldest():
            return
        while True:
            yield from self._rest()
            if os.fstat(self._fd).st_size < self.at:  # truncated in place
                self.at = os.lseek(self._fd, 0, os.SEEK_SET)
                self.lost = self.switched = True
                yield None
                continue
            successor = self._successor()
            if successor < 0:
                return
            # conmon had closed this file before the next one took its name, so it is complete now;
            # it was not yet known to be when its end was read above.
            try:
                yield from self._rest()
                yield None
            except BaseException:
                _unpin(successor)
                raise
            self._switch(successor)

    def _rest(self) -> Iterator[bytes]:
        while data := os.read(self._fd, CHUNK):
            self.at += len(data)
            yield data

    def _switch(self, fd: int) -> None:
        if self._fd >= 0:
            self._watch.remove(self._wd)
            _unpin(self._fd)
        self._fd, self.at = fd, 0
        self.switched = True
        self._wd = self._watch.add(fd, IN_MODIFY)

    def _open_oldest(self) -> bool:
        with opened(self._path) as fds:
            if not fds:
                return False
            # one that has just been thrown away would leave the next unprotected
            kept = next((fd for fd in fds if os.fstat(fd).st_nlink and pin(fd)), fds[0])
            self.start_at(kept, 0)
        return True

    def _successor(self) -> int:
        """Open and pin the file that conmon wrote after this one; −1 when there is none."""
        mine = os.fstat(self._fd)
        try:
            # the usual case, and the cheap one
            if _identity(os.stat(self._path)) == _identity(mine):
                return -1
            moved = False
        except FileNotFoundError:
            moved = True  # and not reopened yet: conmon still writes to it
        with opened(self._path) as fds:
            states = [os.fstat(fd) for fd in fds]
            identities = [_identity(state) for state in states]
            lost = mine.st_nlink == 0  # whether another one after it was, too, cannot be seen
            if _identity(mine) in identities:
                following = identities.index(_identity(mine)) + 1
            else:
                # It is not there any more. What was written to later is later; the log itself is
                # the last in any case.
                later = [state.st_mtime_ns >= mine.st_mtime_ns for state in states]
                if not moved and later:
                    later[-1] = True
                following = later.index(True) if True in later else len(fds)
            for fd in fds[following:]:
                if pin(fd):
                    self.lost = self.lost or lost
                    return os.dup(fd)
                lost = True  # and this one is being thrown away
            return -1


def pin(fd: int) -> bool:
    """Keep an open file of a log, and those after it, from being thrown away while it is read.

    False when that happens just now.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks: a reader that is slow may miss something, and is told
    return True


def _unpin(fd: int) -> None:
    # A fork may have carried the descriptor on: the lock must not live as long as that.
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


def file_id(fd: int) -> str:
    """Return what tells an open file of a log from all others, whatever its name is.

    Its inode, which another file may have when it is gone, and the head of its first record, with
    a time in nanoseconds. "" as long as that is not there.
    """
    begin = os.pread(fd, HEAD, 0)
    head, newline, _ = begin.partition(b"\n")
    if not newline and len(begin) < HEAD:
        return ""
    return f"{os.fstat(fd).st_ino:x}.{binascii.crc32(head):08x}"


def locate(fds: Sequence[int], cursor: str) -> tuple[int, int] | None:
    """Return the number of the file, and the offset in it, that a cursor means; None: it is gone.

    InvalidArgument when it is no cursor.
    """
    file, _, place = cursor.rpartition(".")
    if not (file.count(".") == 1 and place.isascii() and place.isdecimal() and len(place) < 20):
        raise InvalidArgument(
            f"{cursor!r} is not a place in a log", hint="it is the cursor of a LogRecord"
        )
    offset = int(place)
    for number, fd in enumerate(fds):
        if file_id(fd) == file and os.fstat(fd).st_size >= offset:
            return number, offset
    return None


def head_of_line(fd: int, offset: int) -> bytes:
    """Return the head of the record that an offset lies within; b"" for one between records."""
    before = os.pread(fd, min(offset, _SEARCH), max(0, offset - _SEARCH))
    return before[before.rfind(b"\n") + 1 :][:HEAD]


@contextlib.contextmanager
def opened(path: str) -> Generator[list[int]]:
    """Open a log and its rotated siblings; the descriptors are in the order they were written."""
    with contextlib.ExitStack() as stack:
        fds: dict[int, int] = {}
        for _ in range(_TRIES):
            stack.close()
            fds.clear()
            for number in (0, *rotated(path)):
                try:
                    fd = os.open(numbered(path, number), os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
                stack.callback(os.close, fd)
                fds[number] = fd
            found = {number: _identity(os.fstat(fd)) for number, fd in fds.items()}
            # Files that are being moved while they are opened may be overlooked. What has its name
            # before and after had it in between, so these are all that there were then.
            if found == _names(path):
                break
        yield [fds[number] for number in sorted(fds, reverse=True)]


def _names(path: str) -> dict[int, tuple[int, int]]:
    """Return which file a log is now, as number 0, and which its rotated siblings are."""
    found: dict[int, tuple[int, int]] = {}
    for number in (0, *rotated(path)):
        try:
            found[number] = _identity(os.stat(numbered(path, number)))
        except FileNotFoundError:
            continue
    return found


def numbered(path: str, number: int) -> str:
    """Return the name of a rotated file; number 0 is the log itself."""
    return f"{path}.{number}" if number else path


def rotated(path: str) -> list[int]:
    """Return the numbers of a log's rotated files, the youngest first."""
    prefix = os.path.basename(path) + "."
    try:
        names = os.listdir(os.path.dirname(path) or ".")
    except FileNotFoundError:
        return []
    numbers = (name[len(prefix) :] for name in names if name.startswith(prefix))
    # "0" is never made, and a leading zero is another program's numbering
    return sorted(int(n) for n in numbers if n.isdecimal() and n.isascii() and n[0] != "0")
