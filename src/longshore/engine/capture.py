"""Feed a process and take all that it prints, in the calling thread: one poll loop, no other."""

from __future__ import annotations

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.process import Way

_CHUNK = 1 << 16
_WORDS = 4096  # bytes; what a runtime says when it cannot run a program is shorter
_QUIET = 0.1  # seconds without anything
_LATEST = 0.5  # seconds after a program's end
_LONGEST = 1e6  # seconds; poll(2) takes milliseconds in an int


class Stream:
    """What came on one stream: its beginning, and how much more there was."""

    __slots__ = ("_chunks", "_head", "_kept", "_limit", "dropped")

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self._head = b""
        self._kept = 0
        self.dropped = 0  # bytes

    def add(self, data: bytes) -> None:
        """Take what was read; what is over the limit is counted and forgotten."""
        if len(self._head) <= _WORDS:
            self._head += data[: _WORDS + 1]
        if self._limit is not None and self._kept + len(data) > self._limit:
            whole = len(data)
            data = data[: self._limit - self._kept]
            self.dropped += whole - len(data)
        if data:
            self._chunks.append(data)
            self._kept += len(data)

    @property
    def empty(self) -> bool:
        """Whether nothing came."""
        return not self._head

    @property
    def words(self) -> bytes:
        """All that came, if that was little; else nothing."""
        return self._head if len(self._head) <= _WORDS else b""

    @property
    def data(self) -> bytes:
        """All that was kept."""
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0] if self._chunks else b""


class Capture:
    """Writes ``data`` to a process and reads its pipes until it has ended.

    What is in the pipes at its end is read; who else still holds them then is not waited for.
    ``limit`` is in bytes for each stream. `run` can be called again after it was interrupted.
    """

    __slots__ = (
        "_input", "_look_at", "_over_since", "_poller", "_program", "_streams", "_wait", "_way",
        "stderr", "stdout",
    )  # fmt: skip

    def __init__(
        self,
        way: Way,
        data: bytes = b"",
        *,
        limit: int | None = None,
        into: tuple[Stream, Stream] | None = None,
    ) -> None:
        """``into`` takes both streams instead of keeping them here."""
        self._way = way
        self._input = memoryview(data)
        self._poller = select.poll()
        self._poller.register(way.fileno(), select.POLLIN)
        self.stdout, self.stderr = into or (Stream(limit), Stream(limit))
        self._streams: dict[int, Stream] = {}
        for fd, stream in ((way.stdout, self.stdout), (way.stderr, self.stderr)):
            if fd >= 0:
                os.set_blocking(fd, False)
                self._streams[fd] = stream
                self._poller.register(fd, select.POLLIN)
        if way.stdin >= 0:
            os.set_blocking(way.stdin, False)
            if self._input:
                self._poller.register(way.stdin, select.POLLOUT)
            else:
                self._close("stdin")
        # For runtimes that stay in between: a pidfd of the program, and when it was seen to end.
        self._program = -1
        self._over_since: float | None = None
        self._wait = _QUIET
        self._look_at = time.monotonic() + _QUIET

    def run(self, deadline: float | None = None) -> bool:
        """Go on until the process has ended (True) or a `time.monotonic` moment has come (False).

        Whatever happens, what was read until then is kept.
        """
        try:
            while True:
                ready = self._poll(deadline)
                if self._take(ready):
                    return True
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                self._look_after(bool(ready))
        finally:
            self._forget_program()

    # For event loops: `step`, sleep for its `interests`, `look` when their time is over, `forget`.

    def step(self) -> bool:
        """Do what can be done without waiting; whether the process has ended."""
        return self._take([fd for fd, _ in self._poller.poll(0)])

    def look(self) -> None:
        """Look after the program itself: the time of `interests` is over. Reads /proc."""
        self._look_after(False)

    def interests(self) -> tuple[tuple[int, ...], tuple[int, ...], float | None]:
        """Return what `step` sleeps for: descriptors to read, to write, and until when."""
        readers = [self._way.fileno(), *self._streams]
        if self._program >= 0 and self._over_since is None:
            readers.append(self._program)
        writers = (self._way.stdin,) if self._input and self._way.stdin >= 0 else ()
        left = self._patience()
        return tuple(readers), writers, None if left is None else time.monotonic() + left

    def forget(self) -> None:
        """Let go of what `step` has kept open."""
        self._forget_program()

    def _take(self, ready: list[int]) -> bool:
        way = self._way
        for fd in ready:
            if fd in self._streams:
                self._read(fd)
            elif fd == way.stdin:
                self._write()
        if way.fileno() in ready:
            self._finish()
            return True
        if self._program in ready:
            self._poller.unregister(self._program)
            self._over_since = time.monotonic()
        return False

    def _poll(self, deadline: float | None) -> list[int]:
        left = _LONGEST if deadline is None else deadline - time.monotonic()
        patience = self._patience()
        left = left if patience is None else min(left, patience)
        # poll(2) counts whole milliseconds: round up, or the last one is spent spinning
        wait = int(min(left, _LONGEST) * 1000) + 1 if left > 0 else 0
        return [fd for fd, _ in self._poller.poll(wait)]

    def _patience(self) -> float | None:
        """Return after how many quiet seconds to look after the program; None is never."""
        if self._over_since is not None:
            return _QUIET
        return self._wait if self._program < 0 else None

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        try:
            if data:
                self._streams[fd].add(data)
                return
        except BrokenPipeError:
            pass  # nobody wants more of it, and the program is to know
        self._close("stdout" if fd == self._way.stdout else "stderr")

    def _write(self) -> None:
        try:
            written = os.write(self._way.stdin, self._input[:_CHUNK])
        except BlockingIOError:
            return
        except BrokenPipeError:  # it does not want to read any more of it
            written = len(self._input)
        self._input = self._input[written:]
        if not self._input:
            self._close("stdin")

    def _close(self, name: str) -> None:
        fd: int = getattr(self._way, name)
        setattr(self._way, name, -1)
        try:
            self._poller.unregister(fd)
        except KeyError:
            pass
        self._streams.pop(fd, None)
        os.close(fd)

    def _finish(self) -> None:
        """Read what is in the pipes now, and no more: others may go on writing for ever."""
        for fd in tuple(self._streams):
            left = _waiting(fd)
            while left > 0 and fd in self._streams:
                left -= _CHUNK
                self._read(fd)
        for name in ("stdin", "stdout", "stderr"):
            if getattr(self._way, name) >= 0:
                self._close(name)
        if self.stdout.empty:
            self._way.words = self.stderr.words

    # A runtime that stays in between does not end as long as anybody holds the streams: what its
    # program has left running, too. So the program itself is watched, if it does not end soon.

    def _look_after(self, active: bool) -> None:
        if self._over_since is not None:
            # what the runtime has copied has come when it is quiet
            if not active or time.monotonic() >= self._over_since + _LATEST:
                for fd in tuple(self._streams):
                    self._close("stdout" if fd == self._way.stdout else "stderr")
                self._way.free_runtime()
                self._over_since = time.monotonic() + _LATEST
        elif self._program < 0 and time.monotonic() >= self._look_at:
            program = self._way.open_program()
            if program is None:  # the runtime is slow: look again, ever more rarely
                self._wait *= 2
                self._look_at = time.monotonic() + self._wait
            elif program < 0:
                self._over_since = time.monotonic()
            else:
                self._program = program
                self._poller.register(program, select.POLLIN)

    def _forget_program(self) -> None:
        if self._program >= 0:
            try:
                self._poller.unregister(self._program)
            except KeyError:
                pass
            os.close(self._program)
            self._program = -1


def _waiting(fd: int) -> int:
    """Return how many bytes are in a pipe."""
    import fcntl
    import struct
    import termios

    answer: bytes = fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0")
    count: int = struct.unpack("i", answer)[0]
    return count
