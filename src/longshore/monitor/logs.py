"""Read and follow a container's log, rotated files included, byte for byte.

What a log looks like, and what becomes of lines that do not, is told in `monitor.logformat`; of
which files it consists, in `monitor.logfiles`.
"""

from __future__ import annotations

import os
import time

from longshore import _log
from longshore.errors import InvalidArgument
from longshore.linux.steps import Sleep, slept
from longshore.models import LogRecord
from longshore.monitor.logfiles import CHUNK, Source, file_id, head_of_line, locate, opened
from longshore.monitor.logformat import HEAD, LogParser, OutputParser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from typing import TypeVar

    _T = TypeVar("_T")

_SECOND = 1_000_000_000
_BLOCK = 1 << 16  # when going backwards
_BURST, _NAP = 0.0005, 0.002  # seconds
_SEARCH = 1 << 20  # how far back `tail` looks for the first piece of a line


def capture(path: str) -> tuple[bytes, bytes]:
    """Return everything that a container wrote to standard output and standard error.

    Files that were rotated away are part of it. A log that is not there is empty.
    """
    out: list[bytes] = []
    err: list[bytes] = []
    with opened(path) as fds:
        for fd in fds:
            parser = OutputParser()
            while data := os.read(fd, CHUNK):
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
    after: str = "",
) -> Iterator[LogRecord]:
    """Yield the records that are there now, oldest first, those of rotated files before.

    ``since_ns`` and ``until_ns`` are nanoseconds since the epoch, both inclusive. ``tail`` gives
    the last lines only (of those until ``until_ns``), and reads no more of the log than it must:
    a line that is in pieces counts once, for as far as its pieces lie within 1 MiB of log.
    ``after`` is a record's cursor: it goes on right behind it, and says so first (`LogRecord.gap`)
    if that was thrown away. A log that is not there is empty. InvalidArgument for what is no
    cursor, and for ``after`` with ``tail``.
    """
    check(tail, after)
    return _read(path, since_ns, until_ns, tail, after)


def check(tail: int | None, after: str) -> None:
    """Refuse what `read_log` would: InvalidArgument."""
    if after:
        locate((), after)
        if tail is not None:
            raise InvalidArgument("a log is read from its end (tail) or from a cursor, not both")


def _read(
    path: str, since_ns: int | None, until_ns: int | None, tail: int | None, after: str
) -> Iterator[LogRecord]:
    with opened(path) as fds:
        if tail is not None:
            yield from _last_lines([_Span(fd) for fd in fds], tail, since_ns, until_ns)
            return
        begin, offset = 0, 0
        if after:
            place = locate(fds, after)
            if place is None:
                yield _gap()
            else:
                begin, offset = place
        for fd in fds[begin:]:
            parser = LogParser()
            left = os.fstat(fd).st_size - offset  # a fast writer would keep us for ever
            _resume(parser, fd, offset)
            os.lseek(fd, offset, os.SEEK_SET)
            offset = 0
            while left > 0 and (data := os.read(fd, min(left, CHUNK))):
                left -= len(data)
                yield from _between(parser.feed(data), since_ns, until_ns)
            yield from _between(parser.finish(), since_ns, until_ns)


def _resume(parser: LogParser, fd: int, offset: int) -> None:
    """Let a parser go on at this place, also if it is within a line that was cut short then."""
    head = head_of_line(fd, offset)
    parser.begin(offset - len(head), file_id(fd))
    parser.feed(head)


def _gap() -> LogRecord:
    return LogRecord(stream="stdout", time_ns=time.time_ns(), data=b"", partial=True, gap=True)


def follow(
    path: str,
    *,
    ended: Callable[[], bool],
    wake_fds: Sequence[int] = (),
    since_ns: int | None = None,
    until_ns: int | None = None,
    tail: int | None = None,
    after: str = "",
) -> Iterator[LogRecord]:
    """Yield the records that are there and then those that come, until no more will.

    ``ended`` says whether the log is complete; it is asked each time that something happened: the
    log grew, or one of ``wake_fds`` became readable (a pidfd of conmon, say). When it says so, the
    rest is read and the iterator ends. ``wake_fds`` is looked at anew each time: ``ended`` reads
    what made one readable, or takes it out when it has told all it can, as a pidfd has.

    The log need not be there yet, but its directory must. Rotations lose nothing and give nothing
    twice; where a file was thrown away all the same, or emptied, a record says so
    (`LogRecord.gap`). The other arguments are as in `read_log`; with ``until_ns`` it ends at that
    moment.
    """
    steps = follow_steps(
        path,
        ended=ended,
        wake_fds=wake_fds,
        since_ns=since_ns,
        until_ns=until_ns,
        tail=tail,
        after=after,
    )
    for records in slept(steps):
        yield from records


def follow_steps(
    path: str,
    *,
    ended: Callable[[], bool],
    wake_fds: Sequence[int] = (),
    since_ns: int | None = None,
    until_ns: int | None = None,
    tail: int | None = None,
    after: str = "",
) -> Generator[Sleep | list[LogRecord]]:
    """Do what `follow` does, in steps: yield what was found, and what the next step waits for."""
    check(tail, after)
    parser = LogParser()
    with Source(path) as source:
        if tail is not None:
            with opened(path) as fds:
                spans = [_Span(fd) for fd in fds]
                if spans:
                    # what is being written now comes whole, as the first of what is followed
                    spans[-1].size = spans[-1].end
                    source.start_at(spans[-1].fd, spans[-1].end)
                yield [*_last_lines(spans, tail, since_ns, until_ns)]
        elif after:
            with opened(path) as fds:
                place = locate(fds, after)
                if place is not None:
                    number, offset = place
                    source.start_at(fds[number], offset)
                    _resume(parser, fds[number], offset)
                    source.switched = False
            if place is None:
                yield [_gap()]

        def feed(data: bytes) -> list[LogRecord]:
            if source.switched:
                source.switched = False
                parser.begin(source.at - len(data))
            if not parser.file:
                parser.file = source.file_id()
            return parser.feed(data)

        def finish() -> list[LogRecord]:
            found = parser.finish()
            if source.lost:
                source.lost = False
                found.append(_gap())
            return found

        for found in _follow(source, feed, finish, ended, wake_fds, until_ns):
            yield found if isinstance(found, Sleep) else _between(found, since_ns, until_ns)


def follow_output(
    path: str, *, ended: Callable[[], bool], wake_fds: Sequence[int] = ()
) -> Iterator[tuple[str, bytes]]:
    """Yield the whole output as (stream, data) as it comes; otherwise like `follow`, and faster."""
    for outputs in slept(follow_output_steps(path, ended=ended, wake_fds=wake_fds)):
        yield from outputs


def source_at_end(path: str) -> Source:
    """Return a log's bytes from here on, the line that is being written now included.

    A log that is not there yet will be read from its beginning.
    """
    source = Source(path)
    try:
        with opened(path) as fds:
            if fds:
                source.start_at(fds[-1], _Span(fds[-1]).end)
    except BaseException:
        source.__exit__()
        raise
    return source


def follow_output_steps(
    path: str,
    *,
    ended: Callable[[], bool],
    wake_fds: Sequence[int] = (),
    source: Source | None = None,
) -> Generator[Sleep | list[tuple[str, bytes]]]:
    """Do what `follow_output` does, in steps; a ``source`` that is given is closed."""
    parser = OutputParser()
    with source or Source(path) as source:

        def finish() -> list[tuple[str, bytes]]:
            if source.lost:
                source.lost = False
                _log.warn(f"a part of the output is missing: {path} was rotated before it was read")
            return parser.finish()

        yield from _follow(source, parser.feed, finish, ended, wake_fds, None)


def _between(
    records: list[LogRecord], since_ns: int | None, until_ns: int | None
) -> list[LogRecord]:
    if since_ns is not None:
        records = [r for r in records if r.time_ns >= since_ns or r.gap]
    if until_ns is not None:
        records = [r for r in records if r.time_ns <= until_ns or r.gap]
    return records


def _follow(
    source: Source,
    feed: Callable[[bytes], list[_T]],
    finish: Callable[[], list[_T]],
    ended: Callable[[], bool],
    wake_fds: Sequence[int],
    until_ns: int | None,
) -> Generator[Sleep | list[_T]]:
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
        before = time.monotonic()
        yield Sleep(fds=(source.fileno(), *wake_fds), deadline=deadline)
        now = time.monotonic()
        if now - before < _BURST:
            # It is written to without a pause, 8 KiB at a time: let there be more to read at once.
            yield Sleep(fds=(), deadline=now + _NAP)
        source.clear()


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
        file = file_id(span.fd)
        parser.begin(span.end, file)
        parser.feed(os.pread(span.fd, span.size - span.end, span.end))
        yield from parser.finish()
        start = span.end
        for line in _lines_backward(span.fd, span.end):
            start -= len(line) + 1
            parser.begin(start, file)
            yield from parser.feed(line + b"\n")
