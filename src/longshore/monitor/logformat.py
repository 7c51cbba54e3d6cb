"""The format of the log that conmon keeps of a container's output, and parsers for it.

The format is k8s-file: one record a line (conmon 2.1.6, measured; ctr_logging.c)::

    2026-11-23T22:43:52.331253555+00:00 stdout F hello

- The head is always 45 bytes: nine digits of a second, the zone as a number (that of conmon's TZ),
  ``stdout`` or ``stderr``, and F for a line with its newline or P for a piece without one.
- conmon reads up to 8 KiB at a time and never joins two reads: what has no newline at the end of a
  read is P, then the line goes on in the stream's next record; an F with no data is a newline that
  came alone. Nothing is added when a stream ends without a newline, so its last record is a P.
- All records of one read have the same time. Other bytes (NUL, CR, not UTF-8) are as written.
- ``--log-size-max`` starts an empty file over the old one (rename), also in the middle of a read:
  only the newest lines are kept. A file moved aside before conmon reopens its log (``2 0 0`` on its
  ctl fifo, or its own rotation from 2.2) is complete: ``ctr.log.1`` is the youngest of those.

What does not begin like this is not dropped: such a line counts as a line of standard output with
the time of the record before it. A line without its newline, at the end of a file, is a write cut
short (disk full, conmon killed): the data that it has is a partial record.
"""

from __future__ import annotations

from longshore.models import LogRecord

_STAMP = 35  # 2026-11-23T22:43:52.331253555+00:00
HEAD = 45  # and " stdout F "
_OUT = b"stdout F "
_TAGS = {
    b"stdout F ": ("stdout", False),
    b"stderr F ": ("stderr", False),
    b"stdout P ": ("stdout", True),
    b"stderr P ": ("stderr", True),
}
_SECOND = 1_000_000_000


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar."""
    # Years that begin in March have the leap day at their end; 719468 is 1970-01-01 so counted.
    year -= month < 3
    in_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return 365 * year + year // 4 - year // 100 + year // 400 + in_year - 719468


class _Clock:
    """Turn conmon's times into nanoseconds, remembering what the last minute was."""

    __slots__ = ("_base", "_minute", "ns")

    def __init__(self) -> None:
        self._minute = b""
        self._base = 0
        self.ns = 0  # of the last time that could be read

    def read(self, stamp: bytes) -> int:
        """Return the nanoseconds since the epoch; of the stamp before when it is no time."""
        try:
            minute = stamp[:17] + stamp[29:]
            if minute != self._minute:
                self._base = self._minute_ns(stamp)
                self._minute = minute
            self.ns = self._base + int(stamp[17:19]) * _SECOND + int(stamp[20:29])
        except ValueError:
            pass
        return self.ns

    @staticmethod
    def _minute_ns(stamp: bytes) -> int:
        days = _days(int(stamp[:4]), int(stamp[5:7]), int(stamp[8:10]))
        zone = int(stamp[30:32]) * 60 + int(stamp[33:35])
        if stamp[29:30] == b"-":
            zone = -zone
        minutes = days * 1440 + int(stamp[11:13]) * 60 + int(stamp[14:16]) - zone
        return minutes * 60 * _SECOND


class LogParser:
    """Turn the bytes of a log, in pieces of any size, into records."""

    __slots__ = ("_clock", "_end", "_stamp", "_tail", "file")

    def __init__(self) -> None:
        self._clock = _Clock()
        self._stamp = b""
        self._tail = b""
        self._end = 0  # where the last whole line ends in its file
        self.file = ""  # which file it is; the cursors of the records say so

    def begin(self, offset: int, file: str = "") -> None:
        """Say where in which file the bytes lie that come next; those before were finished."""
        self._end = offset
        self.file = file

    def feed(self, data: bytes) -> list[LogRecord]:
        """Return the records that are complete now; the rest is kept for the next call."""
        lines = (self._tail + data).split(b"\n")
        self._tail = lines.pop()
        return self._records(lines)

    def finish(self) -> list[LogRecord]:
        """Return what the last line had, if the log ends in the middle of one."""
        line, self._tail = self._tail, b""
        if len(line) <= HEAD:  # not one byte of output is in it
            return []
        (record,) = self._records([line])
        data = record.data.removesuffix(b"\n")
        cut = LogRecord(stream=record.stream, time_ns=record.time_ns, data=data, partial=True)
        self._end -= 1  # the newline that it has not
        cut.__dict__.update(_file=self.file, _end=self._end)
        return [cut]

    def _records(self, lines: list[bytes]) -> list[LogRecord]:
        clock = self._clock
        last, ns = self._stamp, clock.ns
        tags = _TAGS
        new = LogRecord.__new__
        file, end = self.file, self._end
        records: list[LogRecord] = []
        for line in lines:
            end += len(line) + 1
            stamp = line[:_STAMP]
            tag = tags.get(line[_STAMP + 1 : HEAD])
            if tag is None:
                stream, partial, payload = "stdout", False, line + b"\n"
            else:
                if stamp != last:
                    last = stamp
                    ns = clock.read(stamp)
                stream, partial = tag
                payload = line[HEAD:] if partial else line[HEAD:] + b"\n"
            record = new(LogRecord)
            # Past the constructor, which looks at each keyword: a log has millions of records.
            record.__dict__.update(
                stream=stream, time_ns=ns, data=payload, partial=partial, _file=file, _end=end
            )
            records.append(record)
        self._stamp = last
        self._end = end
        return records


class OutputParser:
    """Turn the bytes of a log into (stream, data), joining the records of a stream that follow
    each other. The same bytes as from `LogParser`, many times faster.
    """

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Return the output that is complete now; the rest is kept for the next call."""
        lines = (self._tail + data).split(b"\n")
        self._tail = lines.pop()
        return _outputs(lines)

    def finish(self) -> list[tuple[str, bytes]]:
        """Return what the last line had, if the log ends in the middle of one."""
        return [(r.stream, r.data) for r in self._as_parser().finish()]

    def _as_parser(self) -> LogParser:
        parser = LogParser()
        parser.feed(self._tail)
        self._tail = b""
        return parser


def _outputs(lines: list[bytes]) -> list[tuple[str, bytes]]:
    if not lines:
        return []
    if {line[_STAMP + 1 : HEAD] for line in lines} == {_OUT}:  # by far the most common
        return [("stdout", b"\n".join([line[HEAD:] for line in lines]) + b"\n")]
    outputs: list[tuple[str, bytes]] = []
    tags = _TAGS
    parts: list[bytes] = []
    current = ""
    for line in lines:
        tag = tags.get(line[_STAMP + 1 : HEAD])
        stream = "stdout" if tag is None else tag[0]
        if stream != current:
            if parts:
                outputs.append((current, b"".join(parts)))
                parts = []
            current = stream
        if tag is None:
            parts.append(line)
            parts.append(b"\n")
        else:
            parts.append(line[HEAD:])
            if not tag[1]:
                parts.append(b"\n")
    outputs.append((current, b"".join(parts)))
    return outputs
