"""Be attached to a container: what it prints from now on, its input, the size of its terminal.

Output comes from the log, so that a reader harms nobody (docs/streams.md). Two kinds of container
have to be read through conmon's socket: those that keep no log, and those whose log is rotated
while whoever started them wants all of it. A thread drains that socket as long as it is open; how
much waits for a slow reader, and what happens then, the caller decides.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock

from longshore.engine import events
from longshore.engine.logs import EndWatch, path_of
from longshore.engine.observe import look
from longshore.engine.streams import Input
from longshore.errors import InvalidArgument
from longshore.lifecycle import Op, require
from longshore.linux.procs import poll_until
from longshore.linux.steps import Sleep, slept
from longshore.monitor import attach as monitor_attach
from longshore.monitor import logs as monitor_logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Protocol, Self

    from longshore.engine.machinery import Machinery
    from longshore.monitor.logfiles import Source
    from longshore.store import Record

    class Starter(Protocol):
        """Starts the container, and calls ``created`` when conmon listens and nothing has run."""

        def __call__(self, *, created: Callable[[], None]) -> None: ...

    class Output(Protocol):
        """Where the output comes from. ``dropped`` bytes were lost before what it gave last."""

        dropped: int

        def steps(self, wake: int) -> Generator[Sleep | list[tuple[str, bytes]]]: ...
        def close(self) -> None: ...


DROP, BLOCK = "drop", "block"


def attach(
    machinery: Machinery,
    container_id: str,
    *,
    stdin: bool,
    streams: frozenset[str],
    logs: bool,
    when_full: str,
    buffer: int,
    start: Starter | None,
) -> Attachment:
    """Attach to a container, which ``start`` starts if it is given; see `Container.attach`."""
    if when_full not in (DROP, BLOCK):
        raise InvalidArgument(
            f"when_full: there is no policy {when_full!r}", hint=f"it is {DROP!r} or {BLOCK!r}"
        )
    if buffer < 1:
        raise InvalidArgument(f"buffer: {buffer} bytes cannot hold anything")
    record = machinery.store.peek(container_id)
    if start is None:
        require(Op.ATTACH, look(machinery, record).status, record.name)
    if stdin and not record.config.interactive:
        raise InvalidArgument(
            f"container {record.name} has no standard input to attach to",
            hint="create it with interactive=True (--interactive)",
        )
    made = _Parts(machinery, record, stdin=stdin)
    try:
        if streams and _needs_socket(record, stdin, owner=start is not None, logs=logs):
            pump = made.output = _Pump(machinery, record, buffer, when_full == BLOCK)
            made.connect = pump.connect
        elif streams:
            log = made.output = _Log(machinery, record, logs)
            made.connect = log.connect
        if start is not None:
            start(created=made.connect_all)
        made.connect_all()  # unless it was done before the program began
        events.emit(machinery, "attach", record)
        return Attachment(machinery, record.id, made.output, made.input, streams)
    except BaseException:
        made.close()
        raise


def _needs_socket(record: Record, stdin: bool, *, owner: bool, logs: bool) -> bool:
    config = record.config
    if config.log_driver != "none" or logs:
        return owner and config.log_size_max > 0 and not logs
    if config.interactive and not config.tty and not stdin:
        raise InvalidArgument(
            f"container {record.name} keeps no log, and conmon would end its standard input when "
            "who only watches it leaves",
            hint="attach to its input as well (stdin=True), or let it keep a log",
        )
    return True


def checked_size(
    machinery: Machinery, container_id: str, size: tuple[int, int], what: str
) -> tuple[int, int]:
    """Return the size of a container's terminal; InvalidArgument when it is none, or has none."""
    from longshore.options.execs import console_size

    record = machinery.store.peek(container_id)
    checked = console_size(size, what)
    assert checked is not None
    if not record.config.tty:
        raise InvalidArgument(
            f"{what}: container {record.name} has no terminal",
            hint="create it with tty=True (--tty)",
        )
    return checked


def resize(machinery: Machinery, container_id: str, rows: int, columns: int) -> None:
    """Set the size of a container's terminal. INITIALIZED, RUNNING or PAUSED.

    MonitorGone when its conmon does not listen any more.
    """
    size = checked_size(machinery, container_id, (rows, columns), "size")
    record = machinery.store.peek(container_id)
    require(Op.ATTACH, look(machinery, record).status, record.name)
    monitor_attach.resize(machinery.paths(container_id).winsz_fifo, *size)


class _Parts:
    """What an attachment is made of, until it is one."""

    def __init__(self, machinery: Machinery, record: Record, *, stdin: bool) -> None:
        self._machinery = machinery
        self._id = record.id
        self._stdin = stdin
        self._connected = False
        self.output: Output | None = None
        self.input: Input | None = None
        self.connect: Callable[[Record], None] | None = None

    def connect_all(self) -> None:
        """Connect to conmon, once. Where the container has ended there is nothing to connect to."""
        if self._connected:
            return
        self._connected = True
        record = self._machinery.store.peek(self._id)
        if self.connect is not None:
            self.connect(record)
        if self._stdin:
            path = self._machinery.paths(self._id).attach_socket
            process = record.run.init if record.run is not None else None
            try:
                self.input = Input(path, process, tty=record.config.tty)
            except BrokenPipeError:
                return  # writing says so

    def close(self) -> None:
        if self.output is not None:
            self.output.close()
        if self.input is not None:
            self.input.close()


class Attachment:
    """A connection to a container's streams: iterate over its output, write its input.

    A context manager. Made by `Container.attach`; leaving it leaves the container as it is, but for
    the input of one without a terminal, which ends if it was attached to.
    """

    __slots__ = (
        "_closed", "_found", "_id", "_input", "_iterating", "_machinery", "_output", "_streams",
        "_wake", "_writing",
    )  # fmt: skip

    def __init__(
        self,
        machinery: Machinery,
        container_id: str,
        output: Output | None,
        stdin: Input | None,
        streams: frozenset[str],
    ) -> None:
        """Private: use `Container.attach`."""
        self._closed = True  # as long as there is nothing to close
        self._machinery = machinery
        self._id = container_id
        self._output = output
        self._input = stdin
        self._streams = streams
        self._iterating = allocate_lock()
        self._writing = allocate_lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closed = False
        # not a method: it would hold this object, which could not be forgotten any more
        self._found = _found(self.steps())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            import warnings

            what = f"unclosed attachment to container {self._id[:12]}"
            warnings.warn(what, ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[str, bytes]:
        """Wait for output and return ("stdout" or "stderr", data).

        It ends with the run's last byte, or when this is closed, by any thread.
        """
        with self._iterating:
            return next(self._found)

    def steps(self) -> Generator[Sleep | list[tuple[str, bytes]]]:
        """Do what iterating does, in steps (`linux.steps`), for an event loop. Not both."""
        return _steps(self._output, self._wake, self._streams)

    @property
    def dropped(self) -> int:
        """How many bytes were thrown away before what was read last, because nobody read them.

        Never any of a container that keeps a log, or with ``when_full="block"``.
        """
        return 0 if self._output is None else self._output.dropped

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """Write all of it to the container's input, at the pace at which the container reads it.

        b"" does nothing. BrokenPipeError at once when the container has ended. A container that has
        closed its input cannot be told from one that is slow. ``timeout`` in seconds raises
        OperationTimeout, with a part written. ValueError after `close_stdin`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._closed:
            raise ValueError("this attachment is closed")
        if data:
            with self._writing:
                self._stdin().write(data, until=(self._wake,), deadline=deadline)

    def close_stdin(self, timeout: float | None = None) -> None:
        """Let the container read the end of its input, when it has read what was written.

        Its output goes on. A terminal has no end; it gets the key for that, Ctrl-D. Doing it again,
        or for a container that has ended, does nothing.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._writing:
            if self._input is not None and not self._closed:
                self._input.end(until=(self._wake,), deadline=deadline)

    def _stdin(self) -> Input:
        if self._input is None:
            if self._closed:
                raise ValueError("this attachment is closed")
            raise BrokenPipeError("the container has ended, or its input is not attached to")
        return self._input

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal; see `Container.resize`."""
        resize(self._machinery, self._id, rows, columns)

    def close(self) -> None:
        """Leave. From any thread: who iterates or writes in another one comes back."""
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._wake, 1)
        with self._iterating:
            self._found.close()
            if self._output is not None:
                self._output.close()
        with self._writing:
            if self._input is not None:
                self._input.close()
            self._input = None
            os.close(self._wake)


def _steps(
    output: Output | None, wake: int, streams: frozenset[str]
) -> Generator[Sleep | list[tuple[str, bytes]]]:
    if output is None:
        return
    for found in output.steps(wake):
        if poll_until([wake], 0.0):
            return
        if isinstance(found, Sleep) or len(streams) == 2:
            yield found
        else:
            yield [one for one in found if one[0] in streams]


def _found(steps: Generator[Sleep | list[tuple[str, bytes]]]) -> Generator[tuple[str, bytes]]:
    for found in slept(steps):
        yield from found


class _Log:
    """Output out of the log, from now on or from its beginning. Nothing is ever dropped."""

    dropped = 0

    def __init__(self, machinery: Machinery, record: Record, whole: bool) -> None:
        self._path = path_of(machinery, record)
        self._source: Source | None = None
        self._end = EndWatch(machinery, record)
        try:
            if not whole:
                self._source = monitor_logs.source_at_end(self._path)
        except BaseException:
            self._end.__exit__()
            raise

    def connect(self, record: Record) -> None:  # noqa: ARG002 - others connect to a process
        """Hold the log that conmon has made: it may be gone before it is read."""
        if self._source is not None:
            self._source.hold()

    def steps(self, wake: int) -> Generator[Sleep | list[tuple[str, bytes]]]:
        self._end.fds.append(wake)
        return monitor_logs.follow_output_steps(
            self._path, ended=self._end.ended, wake_fds=self._end.fds, source=self._source
        )

    def close(self) -> None:
        if self._source is not None:
            self._source.__exit__()
        self._end.__exit__()


class _Pump:
    """Output out of conmon's socket, drained by a thread into a buffer of limited size.

    A full one drops what is oldest, or with ``blocks`` holds the container up. Not its end: once
    its program is gone, what is left, which pipes can hold, is taken at once.
    """

    def __init__(self, machinery: Machinery, record: Record, limit: int, blocks: bool) -> None:
        self._path = machinery.paths(record.id).attach_socket
        self._limit = limit
        self._blocks = blocks
        self._lock = allocate_lock()
        self._queue: list[tuple[str, bytes]] = []
        self._size = 0
        self._gap = 0  # bytes dropped before the first of the queue
        self._over = True  # until there is a thread
        self._error: BaseException | None = None
        self._socket: monitor_attach.OutputSocket | None = None
        self._init = -1
        self.dropped = 0
        flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK
        self._end = EndWatch(machinery, record)
        self._stop, self._ready, self._room = (os.eventfd(0, flags) for _ in range(3))
        self._end.fds.append(self._stop)

    def connect(self, record: Record) -> None:
        """Connect, and begin to drain. Where the container has ended there is nothing to read."""
        import threading

        from longshore.linux.processes import open_pidfd

        try:
            self._socket = monitor_attach.OutputSocket(self._path)
        except (FileNotFoundError, ConnectionRefusedError):
            return
        init = open_pidfd(record.run.init) if record.run is not None else None
        self._init = -1 if init is None else init
        self._over = False
        self._thread = threading.Thread(target=self._drain, name="attached output", daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        assert self._socket is not None
        steps = monitor_attach.output_steps(self._socket, ended=self._ended, wake_fds=self._end.fds)
        try:
            for found in slept(steps):
                self._put(found)
                if self._is_stopped():
                    break
        except BaseException as error:
            self._error = error
        finally:
            self._over = True
            os.eventfd_write(self._ready, 1)

    def _is_stopped(self) -> bool:
        return bool(poll_until([self._stop], 0.0))

    def _ended(self) -> bool:
        return self._is_stopped() or self._end.ended()

    def _put(self, found: list[tuple[str, bytes]]) -> None:
        with self._lock:
            waited_for = not self._queue
            self._queue += found
            self._size += sum(len(data) for _, data in found)
            if not self._blocks and self._size > self._limit:
                kept, size = len(self._queue), 0
                while size + len(self._queue[kept - 1][1]) <= self._limit:
                    kept -= 1
                    size += len(self._queue[kept][1])
                self._gap += self._size - size
                del self._queue[:kept]
                self._size = size
        if waited_for:
            os.eventfd_write(self._ready, 1)
        if self._blocks and self._init >= 0:
            fds = (self._room, self._init, self._stop)
            while self._size > self._limit and poll_until(fds, None) == [self._room]:
                os.eventfd_read(self._room)

    def _take(self) -> list[tuple[str, bytes]]:
        with self._lock:
            found, self._queue = self._queue, []
            self._size = 0
            self.dropped += self._gap
            self._gap = 0
        os.eventfd_write(self._room, 1)
        return found

    def steps(self, wake: int) -> Generator[Sleep | list[tuple[str, bytes]]]:
        while True:
            over = self._over  # asked first, so that "yes" means that this is the rest
            if found := self._take():
                yield found
            elif over:
                if self._error is not None:
                    raise self._error
                return
            else:
                yield Sleep(fds=(self._ready, wake))
                try:
                    os.eventfd_read(self._ready)
                except BlockingIOError:
                    pass

    def close(self) -> None:
        os.eventfd_write(self._stop, 1)
        if self._socket is not None:
            self._thread.join()
            self._socket.close()
        self._end.__exit__()
        for fd in (self._stop, self._ready, self._room, self._init):
            if fd >= 0:
                os.close(fd)
