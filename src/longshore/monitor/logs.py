"""Read and follow a container's log, rotated files included, byte for byte.

What a log looks like, and what becomes of lines that do not, is told in `monitor.logformat`.
"""

from __future__ import annotations

import contextlib
import os
import time

from longshore.linux.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO, IN_ONLYDIR, Inotify
from longshore.linux.procs import poll_until
from longshore.monitor.logformat import HEAD, LogParser, OutputParser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from typing import Self, TypeVar

    from longshore.models import LogRecord

    _T = TypeVar("_T")

_SECOND = 1_000_000_000
_CHUNK = 1 << 16  # larger ones fall out of the CPU's cache: half the speed
_BLOCK = 1 << 16  # when going backwards
_SEARCH = 1 << 20  # how far back `tail` looks for the first piece of a line


def capture(path: str) -> tuple[bytes, bytes]:
    """Return everything that a container wrote to standard output and standard error.

    Files that were rotated away are part of it. A log that is not there is empty.
    """
    out: list[bytes] = []
    err: list[bytes] = []
    with _opened(path) as fds:
        for fd in fds:
            parser = OutputParser()
            while data := os.read(fd, _CHUNK):
                for stream, payload in parser.feed(data):
                    (err if stream == "stderr" else out).append(payload)
            for stream, payload in parser.finish():
                (err if stream == "stderr" else out).append(payload)
    return b"".join(out), b"".join(err)


def read_log(
    path: str,
    *,
    since_ns: int | None = None,
    until_ns: int | None = None,
    tail: int | None = None,
) -> Iterator[LogRecord]:
    """Yield the records that are there now, oldest first, those of rotated files before.

    ``since_ns`` and ``until_ns`` are nanoseconds since the epoch, both inclusive. ``tail`` gives
    the last lines only (of those until ``until_ns``), and reads no more of the log than it must:
    a line that is in pieces counts once, for as far as its pieces lie within 1 MiB of log.
    A log that is not there is empty.
    """
    with _opened(path) as fds:
        if tail is not None:
            spans = [_Span(fd) for fd in fds]
            yield from _last_lines(spans, tail, since_ns, until_ns)
            return
        for fd in fds:
            parser = LogParser()
            left = os.fstat(fd).st_size  # a fast writer would keep us for ever
            while left > 0 and (data := os.read(fd, min(left, _CHUNK))):
                left -= len(data)
                yield from _between(parser.feed(data), since_ns, until_ns)
            yield from _between(parser.finish(), since_ns, until_ns)


def follow(
    path: str,
    *,
    ended: Callable[[], bool],
    wake_fds: Sequence[int] = (),
    since_ns: int | None = None,
    until_ns: int | None = None,
    tail: int | None = None,
) -> Iterator[LogRecord]:
    """Yield the records that are there and then those that come, until no more will.

    ``ended`` says whether the log is complete; it is asked each time that something happened: the
    log grew, or one of ``wake_fds`` became readable (a pidfd of conmon, say). When it says so, the
    rest is read and the iterator ends. ``wake_fds`` is looked at anew each time: ``ended`` reads
    what made one readable, or takes it out when it has told all it can, as a pidfd has.

    The log need not be there yet, but its directory must. Rotations lose nothing and give nothing
    twice, as long as the rotated files stay beside the log under their numbers until they were
    read; ``--log-size-max`` throws lines away for good. The other arguments are as in `read_log`;
    with ``until_ns`` it ends at that moment.
    """
    parser = LogParser()
    with _Source(path) as source:
        if tail is not None:
            with _opened(path) as fds:
                spans = [_Span(fd) for fd in fds]
                if spans:
                    # what is being written now comes whole, as the first of what is followed
                    spans[-1].size = spans[-1].end
                    source.start_at(spans[-1].fd, spans[-1].end)
                yield from _last_lines(spans, tail, since_ns, until_ns)
        for records in _follow(source, parser.feed, parser.finish, ended, wake_fds, until_ns):
            yield from _between(records, since_ns, until_ns)


def follow_output(
    path: str, *, ended: Callable[[], bool], wake_fds: Sequence[int] = ()
) -> Iterator[tuple[str, bytes]]:
    """Yield the whole output as (stream, data) as it comes; otherwise like `follow`, and faster."""
    parser = OutputParser()
    with _Source(path) as source:
        for outputs in _follow(source, parser.feed, parser.finish, ended, wake_fds, None):
            yield from outputs


def _between(
    records: list[LogRecord], since_ns: int | None, until_ns: int | None
) -> list[LogRecord]:
    if since_ns is not None:
        records = [r for r in records if r.time_ns >= since_ns]
    if until_ns is not None:
        records = [r for r in records if r.time_ns <= until_ns]
    return records


def _follow(
    source: _Source,
    feed: Callable[[bytes], list[_T]],
    finish: Callable[[], list[_T]],
    ended: Callable[[], bool],
    wake_fds: Sequence[int],
    until_ns: int | None,
) -> Iterator[list[_T]]:
    deadline: float | None = None
    if until_ns is not None:
        deadline = time.monotonic() + (until_ns - time.time_ns()) / _SECOND
    while True:
        # Asked before the log is read, so that "yes" means that this reading sees the end.
        complete = ended() or (deadline is not None and time.monotonic() >= deadline)
        for data in source.read():
            yield finish() if data is None else feed(data)
        if complete:
            yield finish()
            return
        poll_until([source.fileno(), *wake_fds], deadline)
        source.clear()


class _Source:
    """The raw bytes of a log as it grows, across rotations; a context manager."""

    __slots__ = ("_at", "_directory", "_fd", "_inotify", "_name", "_path", "_watch")

    def __init__(self, path: str) -> None:
        self._path = path
        self._directory = os.path.dirname(path) or "."
        self._name = os.path.basename(path)
        self._fd = -1
        self._at = 0
        self._watch = -1
        # Watch first, look then. The directory tells of a new file, the file of new bytes.
        self._inotify = Inotify()
        try:
            self._inotify.add(self._directory, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR)
        except BaseException:
            self._inotify.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inotify.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def fileno(self) -> int:
        """Return the descriptor that is readable when there may be more."""
        return self._inotify.fileno()

    def clear(self) -> None:
        """Forget what was told so far; what it was about is read next."""
        self._inotify.drain()

    def start_at(self, fd: int, offset: int) -> None:
        """Begin in this open file, at this place."""
        self._switch(os.dup(fd))
        self._at = os.lseek(self._fd, offset, os.SEEK_SET)

    def read(self) -> Iterator[bytes | None]:
        """Yield all bytes that are there; None where one file ends and the next begins."""
        if self._fd < 0 and not self._open_oldest():
            return
        while True:
            while data := os.read(self._fd, _CHUNK):
                self._at += len(data)
                yield data
            if os.fstat(self._fd).st_size < self._at:  # truncated in place
                self._at = os.lseek(self._fd, 0, os.SEEK_SET)
                yield None
                continue
            successor = self._successor()
            if successor < 0:
                return
            # conmon had closed this file before the next one took its name, so it is complete now;
            # it was not yet known to be when its end was read above.
            try:
                while data := os.read(self._fd, _CHUNK):
                    yield data
            except BaseException:
                os.close(successor)
                raise
            yield None
            self._switch(successor)

    def _switch(self, fd: int) -> None:
        if self._fd >= 0:
            self._inotify.remove(self._watch)
            os.close(self._fd)
        self._fd, self._at = fd, 0
        self._watch = self._inotify.add(fd, IN_MODIFY)

    def _open_oldest(self) -> bool:
        with _opened(self._path) as fds:
            if not fds:
                return False
            self.start_at(fds[0], 0)
        return True

    def _successor(self) -> int:
        """Open the file that conmon wrote after the current one; −1 when there is none."""
        mine = os.fstat(self._fd)
        try:
            # the usual case, and the cheap one
            if _identity(os.stat(self._path)) == _identity(mine):
                return -1
            moved = False
        except FileNotFoundError:
            moved = True  # and not reopened yet: conmon still writes to it
        with _opened(self._path) as fds:
            states = [os.fstat(fd) for fd in fds]
            names = [_identity(state) for state in states]
            if _identity(mine) in names:
                following = names.index(_identity(mine)) + 1
            else:
                # It is not there any more. What was written to later is later; the log itself is
                # the last in any case.
                later = [state.st_mtime_ns > mine.st_mtime_ns for state in states]
                if not moved and later:
                    later[-1] = True
                following = later.index(True) if True in later else len(fds)
            return os.dup(fds[following]) if following < len(fds) else -1


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


@contextlib.contextmanager
def _opened(path: str) -> Generator[list[int]]:
    """Open a log and its rotated siblings; the descriptors are in the order they were written."""
    with contextlib.ExitStack() as stack:
        fds: list[int] = []
        seen: set[tuple[int, int]] = set()
        # The newest first: files move to higher numbers, so a rotation that comes in between shows
        # a file twice rather than never.
        numbers = [0]
        while numbers:
            for number in numbers:
                name = f"{path}.{number}" if number else path
                try:
                    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
                stack.callback(os.close, fd)
                identity = _identity(os.fstat(fd))
                if identity not in seen:
                    seen.add(identity)
                    fds.append(fd)
            highest = numbers[-1]
            numbers = [n for n in _rotated(path) if n > highest]
        yield fds[::-1]


def _rotated(path: str) -> list[int]:
    prefix = os.path.basename(path) + "."
    try:
        names = os.listdir(os.path.dirname(path) or ".")
    except FileNotFoundError:
        return []
    numbers = (name[len(prefix) :] for name in names if name.startswith(prefix))
    # "0" is never made, and a leading zero is another program's numbering
    return sorted(int(n) for n in numbers if n.isdecimal() and n.isascii() and n[0] != "0")


class _Span:
    """How much of an open log is looked at: its size now, and the end of its last whole line."""

    __slots__ = ("end", "fd", "size")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self.end = self.size
        while self.end > 0:
            start = max(0, self.end - _BLOCK)
            at = os.pread(fd, self.end - start, start).rfind(b"\n")
            if at >= 0:
                self.end = start + at + 1
                break
            self.end = start


def _lines_backward(fd: int, end: int) -> Iterator[bytes]:
    """Yield the lines of a file that lie before an offset, the last one first, without newline."""
    if end > 0 and os.pread(fd, 1, end - 1) == b"\n":
        end -= 1
    rest: list[bytes] = []  # the pieces of a line whose beginning was not seen yet, last first
    while end > 0:
        start = max(0, end - _BLOCK)
        head, *lines = os.pread(fd, end - start, start).split(b"\n")
        if lines:
            yield lines.pop() + b"".join(reversed(rest))
            rest.clear()
            yield from reversed(lines)
        rest.append(head)
        end = start
    if rest:
        yield b"".join(reversed(rest))


def _last_lines(
    spans: list[_Span], count: int, since_ns: int | None, until_ns: int | None
) -> Iterator[LogRecord]:
    found: list[LogRecord] = []  # the newest first
    streams: dict[str, bool] = {}  # whether earlier pieces of the stream's line are still wanted
    over = 0  # bytes looked at since the first line too many
    if count > 0:
        for record in _records_backward(spans):
            if until_ns is not None and record.time_ns > until_ns:
                continue
            if since_ns is not None and record.time_ns < since_ns:
                break
            stream = record.stream
            if record.partial and stream in streams:
                wanted = streams[stream]
            else:  # the end of a line, or an unfinished one at the end of the log
                wanted = streams[stream] = count > 0
                count -= wanted
            if wanted:
                found.append(record)
            if count == 0:
                over += 0 if wanted else len(record.data) + HEAD
                if over > _SEARCH or (not wanted and not any(streams.values())):
                    break
    yield from reversed(found)


def _records_backward(spans: list[_Span]) -> Iterator[LogRecord]:
    parser = LogParser()
    for span in reversed(spans):
        parser.feed(os.pread(span.fd, span.size - span.end, span.end))
        yield from parser.finish()
        for line in _lines_backward(span.fd, span.end):
            yield from parser.feed(line + b"\n")
