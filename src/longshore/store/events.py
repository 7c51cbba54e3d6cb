"""The log of events: one endless stream of lines that any number of processes write and read.

An event is one line of JSON, appended with one write(2) to a file opened with O_APPEND: the kernel
puts each at the end, whole, one after the other. Its number is its place in the stream, in bytes.
The stream is cut into *segments* of `SEGMENT` bytes, a file each. Nobody takes a lock to go from
one to the next; these rules do instead:

1. A line belongs to the segment in which it begins, wherever it ends; what begins after a segment's
   `SEGMENT` bytes is not part of the stream. A writer sees from the offset of its open file where
   its line has begun: too late, and it writes it once more, into the next segment. So a line counts
   exactly once, and everybody agrees on which do.
2. After these bytes a line names the next segment's file; the first that does is right. Who has
   seen a segment full makes an empty file of a name that nobody else has, appends that name, and
   reads which was first. So each segment has one successor, and what came before that line is
   complete. The file `FIRST` is never removed and names the first segment in this way.
3. Only who was led to a file by such a line writes to it. So a file that is not empty is a segment
   and no leftover, and whoever knows one finds the newest from there. A look at the directory only
   says where to begin: it need not be right (getdents(2) is no snapshot: it returns early for a
   signal, and goes on in what the directory is by then).
4. The newest `KEPT` segments are kept, and no name is ever used again: who writes to a file, or
   reads it, while it is removed has the right one and finds out by its end.

A line begins with a newline too: one that is torn (a full disk, a power cut, SIGKILL inside of a
write) spoils no other. Readers pass over what is no event.
"""

from __future__ import annotations

import errno
import json
import os

from longshore._value import is_table
from longshore.linux.files import remove_file
from longshore.models import Event, Gap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self

# Both are part of the format: a program that has others needs a directory of its own.
SEGMENT = 4 << 20  # bytes
KEPT = 4  # segments: some 50,000 events
FIRST = "first"
LONGEST = 1 << 16  # bytes of one line; a longer one is no event

_DIGITS = 20
_SUFFIX = ".jsonl"
_NAME_LENGTH = _DIGITS + len("-0123456789abcdef") + len(_SUFFIX)
_NEXT = b'{"next": "'  # how a line begins that names the next segment
_TIME = b'{"time_ns": '  # how an event begins, so that old ones need not be parsed
_CHUNK = 1 << 16
_LEEWAY = 60 * 10**9  # ns; a file's time is up to a tick too early, and clocks are set
_PATIENCE = 16  # looks at a directory in which the named segment is missing


class _Segment:
    """An open segment, or `FIRST` as the one before all (its ``index`` is −1)."""

    __slots__ = ("fd", "index", "log")

    def __init__(self, log: EventLog, index: int, fd: int) -> None:
        self.log = log
        self.index = index
        self.fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def successor(self) -> str:
        """Return the name of the next segment's file; "" when none is named yet."""
        at = self.log.limit(self.index)
        rest = b""
        while data := os.pread(self.fd, _CHUNK, at):
            at += len(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if name := self.log.named(line, self.index):
                    return name
        return ""

    def go(self, name: str, flags: int) -> bool:
        """Open the next segment in this one's place; whether it is there."""
        try:
            fd = os.open(f"{self.log.directory}/{name}", flags | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return False
        os.close(self.fd)
        self.fd = fd
        self.index += 1
        return True


class EventLog:
    """The events in one directory. It holds nothing, so it can be used from any thread."""

    __slots__ = ("directory", "kept", "segment")

    def __init__(self, directory: str, *, segment: int = SEGMENT, kept: int = KEPT) -> None:
        self.directory = directory
        self.segment = segment
        self.kept = kept

    def append(self, time_ns: int, fields: Mapping[str, object]) -> int:
        """Write one event down and return its number; OSError when that cannot be done.

        It is then in the log whatever happens to this process. ``fields`` are those of an `Event`.
        Its labels are left out if it is longer than `LONGEST` with them.
        """
        data = _line({"time_ns": time_ns, **fields})
        if len(data) > LONGEST:
            data = _line({"time_ns": time_ns, **fields, "labels": {}})
        flags = os.O_RDWR | os.O_APPEND
        missed = (-2, 0)  # the segment whose successor is missing, and how often it was
        while True:
            with self.newest(flags, make=True) as segment:
                while True:
                    index = segment.index
                    if index >= 0 and segment.size() < self.segment:
                        begin = self._write(segment.fd, data)
                        if begin < self.segment:
                            if begin == 1:
                                self._forget(index)
                            return index * self.segment + begin
                    name = segment.successor() or self._propose(segment)
                    if segment.go(name, flags):
                        continue
                    # It was filled and removed. If not, somebody has removed what was not theirs.
                    missed = (index, missed[1] + 1 if missed[0] == index else 1)
                    if missed[1] < _PATIENCE or not segment.go(name, flags | os.O_CREAT):
                        break

    def newest(self, flags: int, *, make: bool = False) -> _Segment:
        """Open the newest segment that can be seen, or `FIRST`; FileNotFoundError without one.

        There may be newer ones: its `successor` tells. ``make`` makes `FIRST` and its directory.
        """
        for index, name in reversed(self.segments()):
            try:
                fd = os.open(f"{self.directory}/{name}", flags | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            if os.fstat(fd).st_size:
                return _Segment(self, index, fd)
            os.close(fd)
        if make:
            try:
                os.mkdir(self.directory, 0o700)
            except FileExistsError:
                pass
            flags |= os.O_CREAT
        path = f"{self.directory}/{FIRST}"
        return _Segment(self, -1, os.open(path, flags | os.O_CLOEXEC, 0o600))

    def _write(self, fd: int, data: bytes) -> int:
        """Append ``data`` and return where it has begun, after its first byte."""
        written = os.write(fd, data)
        if written < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.directory)
        return os.lseek(fd, 0, os.SEEK_CUR) - written + 1

    def _propose(self, segment: _Segment) -> str:
        """Name the next segment, unless somebody is faster; return what it is called."""
        begin = (segment.index + 1) * self.segment
        name = f"{begin:0{_DIGITS}d}-{os.urandom(8).hex()}{_SUFFIX}"
        path = f"{self.directory}/{name}"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._write(segment.fd, b"\n" + _NEXT + name.encode() + b'"}\n')
        chosen = segment.successor()
        if chosen != name:  # after a failure above it stays: the line may yet be completed
            remove_file(path)
        return chosen

    def _forget(self, newest: int) -> None:
        for index, name in self.segments():
            if index <= newest - self.kept:
                remove_file(f"{self.directory}/{name}")

    def segments(self) -> list[tuple[int, str]]:
        """Return index and name of the segments there are, oldest first; leftovers are empty."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        return sorted((index, name) for name in names if (index := self._index(name)) >= 0)

    def _index(self, name: str) -> int:
        digits = name[:_DIGITS]
        if len(name) != _NAME_LENGTH or not (digits.isascii() and digits.isdecimal()):
            return -1
        return int(digits) // self.segment

    def limit(self, index: int) -> int:
        """Return where what belongs to the stream ends in a segment."""
        return self.segment if index >= 0 else 0

    def named(self, line: bytes, index: int) -> str:
        """Return what a line of a segment names as the next one; "" if it names nothing."""
        if not line.startswith(_NEXT):
            return ""
        name = line[len(_NEXT) : -2].decode("ascii", "replace")
        return name if self._index(name) == index + 1 and line.endswith(b'"}') else ""

    def end(self) -> int:
        """Return a number that is above that of every event there is, and of none to come."""
        try:
            with self.newest(os.O_RDONLY) as segment:
                while True:
                    name = segment.successor()
                    if not name or not segment.go(name, os.O_RDONLY):
                        filled = min(segment.size(), self.limit(segment.index))
                        return max(0, segment.index) * self.segment + filled
        except FileNotFoundError:
            return 0

    def since(self, time_ns: int) -> tuple[int, bool]:
        """Return a number that all events since a moment are above, and whether all are kept.

        ``time_ns`` is in nanoseconds since the epoch.
        """
        oldest = -1
        for index, name in self.segments():
            try:
                state = os.stat(f"{self.directory}/{name}")
            except FileNotFoundError:
                continue
            if state.st_size == 0:
                continue
            oldest = index if oldest < 0 else oldest
            if state.st_mtime_ns + _LEEWAY >= time_ns:  # or its last line is older than that
                whole = index == 0 or index > oldest or self._begins_before(index, time_ns)
                return index * self.segment, whole
        return self.end(), True

    def _begins_before(self, index: int, time_ns: int) -> bool:
        with self.reader(index * self.segment) as reader:
            for event in reader.read():
                return isinstance(event, Event) and event.time_ns < time_ns
        return True

    def reader(self, since: int | None, *, since_ns: int = 0) -> Reader:
        """Return what reads the events above a number; None begins at the end as it is now.

        Events older than ``since_ns`` are passed over.
        """
        return Reader(self, since, since_ns)


class Reader:
    """A place in the log, and what reads on from there; a context manager.

    It takes no lock, and holds one open file and at most one unfinished line.
    """

    __slots__ = (
        "_at", "_fd", "_gap", "_index", "_log", "_next", "_rest", "_since_ns", "_skipping",
        "_suspect", "seq",
    )  # fmt: skip

    def __init__(self, log: EventLog, since: int | None, since_ns: int) -> None:
        end = log.end()
        self._log = log
        self._since_ns = since_ns
        self._fd = -1
        self._gap: Gap | None = None
        self._next: str = ""  # the file to go on in
        if since is not None and since > end:
            self._gap = Gap(start=since, end=end)
        # What is read next has a higher number than this: who goes on later begins here.
        self.seq = end if since is None else max(0, min(since, end))
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the open file. Closing again does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def orphaned(self) -> bool:
        """Whether the log was removed while it was read."""
        return self._fd >= 0 and not os.path.lexists(f"{self._log.directory}/{FIRST}")

    def read(self) -> list[Event | Gap]:
        """Return some of what is there; nothing when no more is there now."""
        while True:
            if self._gap is not None:
                gap, self._gap = self._gap, None
                return [gap]
            if self._fd < 0:
                if not self._begin():
                    return []
                continue
            if self._next:
                if not self._open(self._index + 1, self._next) and not self._leap():
                    return []
                continue
            data = os.pread(self._fd, _CHUNK, self._at)
            if data:
                self._suspect = False
                found = self._parse(data)
                if found:
                    return found
            elif self._suspect:
                self._leap()  # a power cut has taken its end
            elif self._later(self._index) is None:
                return []
            else:
                self._suspect = True  # unless its successor was named since its end was read

    def _begin(self) -> bool:
        """Open the segment that has our place, or will lead there; whether there is a log."""
        wanted, at = divmod(self.seq, self._log.segment)
        while True:
            before = [*filter(lambda s: s[0] <= wanted, self._segments())]
            if before:
                index, name = before[-1]
                if self._open(index, name, at if index == wanted else self._log.segment):
                    return True
                continue
            later = self._later(wanted)
            if later is None:
                try:
                    fd = os.open(f"{self._log.directory}/{FIRST}", os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    return False
                self._set(fd, -1, 0)
                return True
            self._index = wanted
            if self._leap():
                return True

    def _segments(self) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        for index, name in self._log.segments():
            try:
                if os.stat(f"{self._log.directory}/{name}").st_size:
                    found.append((index, name))
            except FileNotFoundError:
                continue
        return found

    def _later(self, index: int) -> tuple[int, str] | None:
        """Return the oldest segment after one."""
        return next((one for one in self._segments() if one[0] > index), None)

    def _leap(self) -> bool:
        """Go on in the oldest segment after this one, across a gap; whether there is one."""
        while (later := self._later(self._index)) is not None:
            gap = Gap(start=self.seq, end=later[0] * self._log.segment)
            if self._open(*later):
                self.seq = gap.end
                self._gap = gap
                return True
        return False

    def _open(self, index: int, name: str, at: int = 0) -> bool:
        try:
            fd = os.open(f"{self._log.directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        self._set(fd, index, at)
        return True

    def _set(self, fd: int, index: int, at: int) -> None:
        """Read on in a file, after the first newline from here on."""
        self.close()
        self._fd = fd
        self._index = index
        self._at = at
        self._rest = b""
        self._skipping = True
        self._suspect = False
        self._next = ""

    def _parse(self, data: bytes) -> list[Event | Gap]:
        limit = self._log.limit(self._index)
        base = self._index * self._log.segment
        begin = self._at - len(self._rest)
        *lines, rest = (self._rest + data).split(b"\n")
        self._at += len(data)
        found: list[Event | Gap] = []
        for line in lines:
            if self._skipping:
                self._skipping = False
            elif begin >= limit:
                self._next = self._next or self._log.named(line, self._index)
            elif line:
                event = _event(line, base + begin, self._since_ns)
                if event is not None:
                    found.append(event)
            begin += len(line) + 1
            if begin <= limit:
                self.seq = base + begin - 1  # the newline
        if begin > limit:
            self.seq = max(self.seq, base + limit - 1)
        self._skipping = self._skipping or len(rest) > LONGEST
        self._rest = b"" if self._skipping else rest
        return found


def _line(entry: Mapping[str, object]) -> bytes:
    return b"\n" + json.dumps(entry).encode() + b"\n"


def _event(line: bytes, seq: int, since_ns: int) -> Event | None:
    """Return the event of a line; None if it is older than wanted, or none."""
    try:
        if since_ns and line.startswith(_TIME):
            written, _, _ = line[len(_TIME) : len(_TIME) + 24].partition(b",")
            if int(written) < since_ns:
                return None
        raw: Any = json.loads(line)
        return Event.from_json({**raw, "seq": seq}) if is_table(raw) else None
    except (ValueError, RecursionError):
        return None
