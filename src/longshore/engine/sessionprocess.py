"""An exec session as a `Process`: the same handle in the process that started it and in any other.

Its output is read from its log, by each reader from the beginning and at its own pace. Its input
goes through conmon's attach socket, to which one connects when there is something to write: who
leaves it ends the input for everybody (without a terminal).
"""

from __future__ import annotations

import io
import os
import time

from longshore.engine import sessionio, sessions
from longshore.engine.copying import write_all
from longshore.engine.process import Process
from longshore.engine.streams import Input
from longshore.errors import (
    InvalidArgument,
    NoSuchExec,
    OperationTimeout,
    ProgramNotExecutable,
    ProgramNotFound,
    RecordCorrupt,
    RuntimeFailed,
)
from longshore.linux.processes import is_alive, open_pidfd
from longshore.linux.steps import run, slept
from longshore.models import ExitReason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, AnyStr

    from longshore.engine.machinery import Machinery
    from longshore.errors import LongshoreError
    from longshore.models import ExitInfo
    from longshore.options.execs import ExecConfig
    from longshore.store.sessions import SessionRecord
else:
    AnyStr = None


def begin(
    machinery: Machinery,
    container_id: str,
    config: ExecConfig,
    *,
    stdin: bool | int,
    stdout: bool | int,
    stderr: bool | int | str,
    text: tuple[str, str] | None,
    bufsize: int,
) -> Process[Any]:
    """Start a session and return its handle; see `Container.popen`."""
    from longshore.engine import sessionstart

    for name, value in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
        if not isinstance(value, bool) and (name, value) != ("stderr", "stdout"):
            raise InvalidArgument(
                f"{name}: {value!r} cannot be that of a session, which other processes can find",
                hint="True or False; a session's output can be read from its log at any time",
            )
    session_id = sessionstart.start(machinery, container_id, config)
    return SessionProcess(
        Session(machinery, container_id, session_id),
        stdout=bool(stdout),
        stderr=bool(stderr),
        merged=stderr == "stdout",
        text=text,
        bufsize=bufsize,
        owner=True,
    )


def find(
    machinery: Machinery, container_id: str, ref: str, *, text: tuple[str, str] | None = None
) -> Process[Any]:
    """Return the handle of a session; see `Container.get_exec`."""
    machinery.store.peek(container_id)  # NoSuchContainer
    session_id = sessions.store_of(machinery, container_id).resolve(ref)
    return SessionProcess(Session(machinery, container_id, session_id), text=text)


def every(machinery: Machinery, container_id: str) -> list[Process[bytes]]:
    """Return the handles of all sessions; see `Container.execs`."""
    found: list[Process[bytes]] = []
    for session_id in sessions.every(machinery, container_id):
        try:
            found.append(SessionProcess(Session(machinery, container_id, session_id)))
        except (NoSuchExec, RecordCorrupt):
            continue  # removed since it was listed
    return found


class Session:
    """One exec session, as what a `Process` stands on."""

    def __init__(self, machinery: Machinery, container_id: str, session_id: str) -> None:
        """Find a session that exists. NoSuchExec, RecordCorrupt."""
        self._machinery = machinery
        self._container = container_id
        self.id = session_id
        record = self.peek()
        self.config = record.config
        self._info: ExitInfo | None = None
        self.stdin = self.stdout = self.stderr = -1  # it has no pipes
        self.words = b""
        self.error: LongshoreError | None = None
        if record.exit is not None:
            self._over(record.exit)
        self._end = -1

    def peek(self) -> SessionRecord:
        """Return its record as it is now."""
        return sessions.store_of(self._machinery, self._container).peek(self.id)

    @property
    def log(self) -> str:
        return self._machinery.paths(self._container).session(self.id).log

    def output(self, *, follow: bool) -> Iterator[list[tuple[str, bytes]]]:
        """Yield what it prints, from the beginning."""
        return slept(
            sessionio.output_steps(self._machinery, self._container, self.id, follow=follow)
        )

    def attach(self) -> Input:
        """Connect to its input. BrokenPipeError when it has ended."""
        path = self._machinery.paths(self._container).session(self.id).attach_socket
        return Input(path, self.peek().process, tty=self.config.tty)

    # the way of a `Process`

    def fileno(self) -> int:
        if self._end < 0:
            record = self.peek()
            end = open_pidfd(record.monitor)
            if end is None:
                end = open_pidfd(record.process)
            if end is None:
                end = os.eventfd(1, os.EFD_CLOEXEC)  # readable: it has ended
            self._end = end
        return self._end

    def ended(self, deadline: float | None = None) -> bool:
        if self._info is None:
            left = 0.0 if deadline is None else max(0.0, deadline - time.monotonic())
            steps = sessions.exit_steps(self._machinery, self._container, self.id, timeout=left)
            try:
                self._over(run(steps))
            except OperationTimeout:
                return False
        return True

    def exit(self) -> ExitInfo:
        if self._info is None:
            self._over(run(sessions.exit_steps(self._machinery, self._container, self.id)))
        assert self._info is not None
        return self._info

    def _over(self, info: ExitInfo) -> None:
        self._info = info
        if info.reason is ExitReason.START_FAILED:
            kinds = {127: ProgramNotFound, 126: ProgramNotExecutable}
            self.error = kinds.get(info.code, RuntimeFailed)(info.message)

    def pid(self) -> int | None:
        process = None if self._info is not None else self.peek().process
        return process.pid if process is not None and is_alive(process) else None

    def open_program(self) -> int | None:
        pidfd = open_pidfd(self.peek().process)
        return -1 if pidfd is None else pidfd

    def send(self, number: int) -> None:
        if self._info is None:
            sessionio.send_signal(self._machinery, self._container, self.id, number)

    def kill(
        self,
        intent: str = "kill",
        *,
        drain: Callable[[float], bool] | None = None,  # noqa: ARG002 - who stops reading is no harm
    ) -> None:
        if self._info is None:
            sessionio.kill(self._machinery, self._container, self.id, intent=intent)

    def resize(self, rows: int, columns: int) -> None:
        sessionio.resize(self._machinery, self._container, self.id, rows, columns)

    def is_genuine(self, words: bytes) -> bool:  # noqa: ARG002
        return True  # it had begun when its start was over

    def free_runtime(self) -> None:
        return  # it ended before the program began

    def close(self) -> None:
        end, self._end = self._end, -1
        if end >= 0:
            os.close(end)


class SessionProcess(Process[AnyStr]):
    """A `Process` that is an exec session. Forgetting it does not end it: its id finds it again."""

    __slots__ = ("_input", "_owns", "_session")

    def __init__(
        self,
        session: Session,
        *,
        stdout: bool = True,
        stderr: bool = True,
        merged: bool = False,
        text: tuple[str, str] | None = None,
        bufsize: int = -1,
        owner: bool = False,
    ) -> None:
        """Private: use `Container.popen` and `Container.get_exec`. ``owner`` has started it.

        Only an owner ends the input without having written any.
        """
        merged = merged or session.config.tty
        super().__init__(session, session.config.command, merged=merged, text=text)
        self._session = session
        self._owns = owner
        self._input: SessionInput | None = None
        reads: Any = self._reading
        streams = ("stdout", "stderr") if merged else ("stdout",)
        self.stdout = reads(streams, bufsize) if stdout else None
        self.stderr = reads(("stderr",), bufsize) if stderr and not merged else None
        if session.config.stdin or session.config.tty:
            writer: Any = SessionInput(session)
            self._input = writer
            if text is not None:
                writer = io.TextIOWrapper(writer, *text, write_through=True)
            self.stdin = writer

    def _reading(self, streams: tuple[str, ...], bufsize: int) -> Any:
        raw = SessionOutput(self._session, streams)
        if bufsize == 0 and self._text is None:
            return raw
        buffered = io.BufferedReader(raw, bufsize if bufsize > 1 else io.DEFAULT_BUFFER_SIZE)
        return buffered if self._text is None else io.TextIOWrapper(buffered, *self._text)

    @property
    def id(self) -> str:
        """Its id, with which `Container.get_exec` finds it from any process."""
        return self._session.id

    def communicate(
        self,
        input: AnyStr | None = None,  # noqa: A002 - as subprocess names it
        timeout: float | None = None,
    ) -> tuple[AnyStr | None, AnyStr | None]:
        """Write ``input``, close stdin, wait; return all that it has printed, from the beginning.

        After OperationTimeout it can be called again, without input, and nothing is lost.
        """
        if input is not None:
            if self.stdin is None:
                raise InvalidArgument("communicate: it has no stdin", hint="popen(…, stdin=True)")
            self._feed(self._encoded(input))
        else:
            self._end_input()
        self.wait(timeout)
        out, err = bytearray(), bytearray()
        for pieces in self._session.output(follow=False):
            for stream, data in pieces:
                (err if stream == "stderr" and not self._merged else out).extend(data)
        return (
            self._decoded(bytes(out)) if self.stdout is not None else None,
            self._decoded(bytes(err)) if self.stderr is not None else None,
        )

    def copy_to(self, stdout: int, stderr: int) -> ExitInfo:
        """Write what it prints to descriptors, from the beginning, until it has ended.

        BrokenPipeError when nobody reads one of them any more; the session goes on.
        """
        for pieces in self._session.output(follow=True):
            for stream, data in pieces:
                write_all(stderr if stream == "stderr" and not self._merged else stdout, data)
        return self.wait()

    def _feed(self, data: bytes) -> None:
        """Write in a thread: a program that does not read must not keep a timeout from coming."""
        import threading

        stream: Any = self.stdin

        def feed() -> None:
            writer = stream.buffer if self._text is not None else stream
            try:
                writer.write(data)
                stream.close()
            except OSError:
                pass  # it did not want to read all of it

        threading.Thread(target=feed, name="exec input", daemon=True).start()

    def _end_input(self) -> None:
        known = self._input is not None and (self._owns or self._input.connected)
        if known and self.stdin is not None:
            self.stdin.close()

    def _run_out(self) -> None:
        self._end_input()
        self._over()

    def _close_streams(self) -> None:
        if self._input is not None:
            self._input.leave()
        super()._close_streams()

    def __del__(self) -> None:
        if getattr(self, "_session", None) is not None:
            self._close()


class SessionOutput(io.RawIOBase):
    """Streams of a session's log: all from the beginning, then what comes, to the session's end."""

    def __init__(self, session: Session, streams: tuple[str, ...]) -> None:
        super().__init__()
        self._streams = streams
        self._session = session
        self._source: Iterator[list[tuple[str, bytes]]] | None = None
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what there is, at least a byte; 0 at the end."""
        view = memoryview(buffer).cast("B")
        if self._source is None:
            self._source = self._session.output(follow=True)
        while not self._rest:
            pieces = next(self._source, None)
            if pieces is None:
                return 0
            wanted = [data for stream, data in pieces if stream in self._streams]
            self._rest = memoryview(b"".join(wanted))
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def close(self) -> None:
        """Read no more."""
        source, self._source = self._source, None
        end = getattr(source, "close", None)
        if end is not None:
            try:
                end()
            except ValueError:
                pass  # another thread is just reading: it lets go when it comes back
        super().close()


class SessionInput(io.BufferedIOBase):
    """A session's standard input. Each write has been taken over by conmon when it returns."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._way: Input | None = None

    def writable(self) -> bool:
        return True

    def write(self, buffer: Any) -> int:
        """Write all of it and return its length. BrokenPipeError when the session has ended.

        Nothing (b"") is nothing.
        """
        if self.closed:
            raise ValueError("the stream is closed")
        data = bytes(buffer)
        if data:
            self._connected().write(data)
        return len(data)

    def _connected(self) -> Input:
        if self._way is None:
            self._way = self._session.attach()
        return self._way

    @property
    def connected(self) -> bool:
        """Whether something was written, so that leaving ends the input."""
        return self._way is not None

    def leave(self) -> None:
        """Close this object and its connection, if there is one."""
        super().close()
        way, self._way = self._way, None
        if way is not None:
            way.close()

    def close(self) -> None:
        """Let its program read the end of its input; a terminal gets the key for it."""
        if not self.closed:
            try:
                self._connected().end()
            except BrokenPipeError:
                pass  # it has ended
            finally:
                self.leave()

    def __del__(self) -> None:
        self.leave()  # an end that nobody has asked for is none
