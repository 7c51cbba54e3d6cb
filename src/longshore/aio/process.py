"""The handle of a live process in a container for asyncio: `longshore.Process`, awaited."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
import os
import time
from typing import Any, AnyStr, Generic, Self

from longshore.aio.loop import call, go_on, ready, take
from longshore.engine.capture import Capture
from longshore.engine.sessionway import Session
from longshore.errors import LongshoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from longshore.engine.process import Process as SyncProcess
    from longshore.models import ExitInfo

_CHUNK = 1 << 16
_PIECE = 4096  # PIPE_BUF of pipe(7): a pipe that can be written to takes as much at once


class Process(Generic[AnyStr]):
    """A process that `Container.popen` has begun. For one event loop.

    ``stdin``, ``stdout`` and ``stderr`` are streams whose methods are awaited, or None. As an
    asynchronous context manager it waits at the end; an exception or a cancellation kills it and
    all that it has begun.
    """

    __slots__ = ("_ending", "_sync", "_text", "stderr", "stdin", "stdout")

    _sync: SyncProcess[bytes]
    stdin: Writer[AnyStr] | None
    stdout: Reader[AnyStr] | None
    stderr: Reader[AnyStr] | None

    def __init__(self, sync: SyncProcess[bytes], text: tuple[str, str] | None) -> None:
        """Private: use `Container.popen`. ``text`` is (encoding, errors)."""
        self._sync = sync
        self._text = text
        self._ending: asyncio.Task[None] | None = None
        ends = sync.fileno()
        stdin: Any = sync.stdin
        self.stdin = Writer(stdin, ends, text) if stdin is not None else None
        self.stdout = self._reader(sync.stdout)
        self.stderr = self._reader(sync.stderr)

    def _reader(self, file: Any) -> Reader[AnyStr] | None:
        if file is None:
            return None
        # what is buffered in a thread could not be seen from here
        return Reader(getattr(file, "raw", file), self._text)

    def __repr__(self) -> str:
        return repr(self._sync)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when it ends."""
        return self._sync.fileno()

    @property
    def args(self) -> tuple[str, ...]:
        """Its command."""
        return self._sync.args

    @property
    def exit(self) -> ExitInfo | None:
        """How it ended, as the last look has seen."""
        return self._sync.exit

    @property
    def id(self) -> str | None:
        """The id with which `Container.get_exec` finds it again; None unless it is a session."""
        return self._sync.id

    @property
    def pid(self) -> int | None:
        """Its pid on this host; None before the runtime has made it, and after its end."""
        return self._sync.pid

    @property
    def returncode(self) -> int | None:
        """The exit code that the last `poll` or `wait` has seen; None if it ran."""
        return self._sync.returncode

    async def poll(self) -> ExitInfo | None:
        """Return how it ended; None while it runs."""
        return await call(self._sync.poll)

    async def wait(self, timeout: float | None = None) -> ExitInfo:
        """Wait until its program has ended and return how; errors are those of the sync one.

        Cancelled, or after OperationTimeout, nothing has changed. No thread waits.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._end()
        except TimeoutError:
            return await call(self._sync.wait, 0)  # it raises, or it has just ended
        return await call(self._sync.wait)

    async def _end(self) -> None:
        """Sleep until it has ended. Many may: one of them has the descriptor."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._watch())
        await asyncio.shield(self._ending)

    async def _watch(self) -> None:
        if self._sync.exit is not None:
            return
        way = self._sync._way
        if isinstance(way, Session):  # its conmon ends after its exit command, and that is later
            with contextlib.suppress(LongshoreError):  # said by the call that follows
                await take(way.exit_steps())
        else:
            with _duplicate(self._sync.fileno()) as own:
                await ready((own,))

    async def communicate(
        self,
        input: AnyStr | None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> tuple[AnyStr | None, AnyStr | None]:
        """Write ``input``, close stdin, read both streams to their end, wait; return what was read.

        Cancelled, or after OperationTimeout, it can be called again, without input, and nothing is
        lost. No thread waits, except for a session, of which all goes on if it is cancelled.
        """
        data = None if input is None else _encoded(input, self._text)
        if self._sync.id is not None:
            out, err = await go_on(self._sync.communicate, data, timeout)
            return self._decoded(out), self._decoded(err)
        from longshore.aio.inside import captured

        deadline = None if timeout is None else time.monotonic() + timeout
        capture = await call(self._sync._capturing, data)
        if not await captured(capture, deadline):
            raise self._sync._timed_out(timeout)
        out, err = await call(self._sync._captured, capture)
        return self._decoded(out), self._decoded(err)

    def _decoded(self, data: bytes | None) -> Any:
        if data is None or self._text is None:
            return data
        return data.decode(*self._text).replace("\r\n", "\n").replace("\r", "\n")

    async def copy_to(self, stdout: int, stderr: int) -> ExitInfo:
        """Write what it prints to descriptors as it comes, until it has ended; return how.

        Cancelled, it goes on until the process ends; a thread is busy meanwhile.
        """
        return await go_on(self._sync.copy_to, stdout, stderr)

    async def send_signal(self, signal: str | int) -> None:
        """Send a signal to its program, by name or number; one that has ended is fine."""
        await call(self._sync.send_signal, signal)

    async def terminate(self) -> None:
        """Ask its program to end: SIGTERM."""
        await call(self._sync.terminate)

    async def kill(self) -> None:
        """Kill its program and all that it has begun, and wait until they are gone."""
        await call(self._sync.kill)

    async def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal. InvalidArgument when it has none."""
        await call(self._sync.resize, rows, columns)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self._run_out()
        if self._ending is not None:
            self._ending.cancel()
        await call(self._sync.__exit__, kind, None, None)

    async def _run_out(self) -> None:
        """Wait for its end; killed if that is cancelled."""
        from longshore.aio.inside import captured

        process = self._sync
        if process.exit is not None:
            return
        try:
            if process.id is None:
                await captured(Capture(process._way, limit=0))
            else:
                await self._end()
        except BaseException:
            await call(process.kill)
            raise


class Writer(Generic[AnyStr]):
    """Standard input of a process."""

    __slots__ = ("_ends", "_file", "_text", "_turn")

    def __init__(self, file: io.BufferedIOBase, ends: int, text: tuple[str, str] | None) -> None:
        self._file = file
        self._ends = ends  # readable when the process has ended
        self._text = text
        self._turn = asyncio.Lock()

    async def write(self, data: AnyStr) -> int:
        """Write all of it and return its length. BrokenPipeError when nobody will read it.

        Cancelled, a part may have been written. No thread waits for a slow reader, except of a
        session.
        """
        raw = _encoded(data, self._text)
        async with self._turn:
            fd = _descriptor(self._file)
            if fd is None:
                await go_on(self._file.write, raw)
                return len(data)
            for start in range(0, len(raw), _PIECE):
                with _duplicate(self._ends) as ended, _duplicate(fd) as own:
                    await ready((ended,), (own,))
                await call(self._file.write, raw[start : start + _PIECE])
        return len(data)

    async def close(self) -> None:
        """Close it, so that the process reads its end; closed already is fine."""
        await call(self._file.close)


class Reader(Generic[AnyStr]):
    """Standard output or error of a process; iterate it for lines. Cancelled, it loses nothing.

    No thread waits for what is yet to come, except of a session.
    """

    __slots__ = ("_buffer", "_decoder", "_file", "_over", "_text", "_turn")

    def __init__(self, file: io.RawIOBase, text: tuple[str, str] | None) -> None:
        self._file = file
        self._text = text
        self._decoder = None
        if text is not None:
            decoder = codecs.getincrementaldecoder(text[0])(text[1])
            self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._buffer: Any = b"" if text is None else ""
        self._over = False
        self._turn = asyncio.Lock()

    async def read(self, size: int = -1) -> AnyStr:
        """Read ``size`` bytes or characters, or all until the end; fewer only at the end."""
        async with self._turn:
            while (size < 0 or len(self._buffer) < size) and await self._more():
                pass
            return self._cut(len(self._buffer) if size < 0 else size)

    async def read1(self, size: int = 1 << 16) -> AnyStr:
        """Read what there is, at least one byte or character, at most ``size``."""
        async with self._turn:
            while not self._buffer and await self._more():
                pass
            return self._cut(size)

    async def readline(self) -> AnyStr:
        """Read a line with its newline; nothing at the end."""
        newline: Any = b"\n" if self._text is None else "\n"
        async with self._turn:
            seen = 0
            while (at := self._buffer.find(newline, seen)) < 0:
                seen = len(self._buffer)
                if not await self._more():
                    return self._cut(seen)
            return self._cut(at + 1)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnyStr:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def close(self) -> None:
        """Close it; closed already is fine."""
        await call(self._file.close)

    def _cut(self, size: int) -> AnyStr:
        found: AnyStr
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    async def _more(self) -> bool:
        """Wait for more and keep it; False at the end."""
        if self._over:
            return False
        fd = _descriptor(self._file)
        if fd is not None:
            with _duplicate(fd) as own:
                await ready((own,))
        await call(self._take)
        return not self._over

    def _take(self) -> None:
        data = self._file.read(_CHUNK)
        self._over = not data
        if self._decoder is not None:
            self._buffer += self._decoder.decode(data or b"", final=self._over)
        elif data:
            self._buffer += data


def _encoded(data: Any, text: tuple[str, str] | None) -> bytes:
    if text is not None and isinstance(data, str):
        return data.encode(*text)
    if text is None and isinstance(data, (bytes, bytearray)):
        return bytes(data)
    raise TypeError(f"{'bytes' if text is None else 'str'} wanted, not {type(data).__name__}")


def _descriptor(file: io.IOBase) -> int | None:
    """Return the descriptor that a stream is read from or written to; None for a session's."""
    try:
        return file.fileno()
    except OSError:  # io.UnsupportedOperation
        return None


@contextlib.contextmanager
def _duplicate(fd: int) -> Generator[int]:
    """Duplicate a descriptor: two who wait for one file need two in an event loop."""
    own = os.dup(fd)
    try:
        yield own
    finally:
        os.close(own)
