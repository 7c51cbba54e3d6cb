"""The handle of a live process in a container, with the manners of `subprocess.Popen`."""

from __future__ import annotations

import io
import os
import time

from longshore.engine.pipes import Input, Output
from longshore.errors import InvalidArgument, OperationTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any, AnyStr, Generic, Protocol, Self

    from longshore.engine.capture import Capture
    from longshore.errors import LongshoreError
    from longshore.models import ExitInfo

    class Way(Protocol):
        """What a `Process` stands on: one way inside a container.

        ``stdin``, ``stdout`` and ``stderr`` are our ends of pipes, or −1; whoever closes one sets
        it to −1. ``error`` is why the program was never executed, known after `exit`.
        """

        stdin: int
        stdout: int
        stderr: int
        words: bytes  # set by whoever has read its stderr, if that was little
        error: LongshoreError | None

        def fileno(self) -> int: ...  # readable when it has ended
        def ended(self, deadline: float | None = None) -> bool: ...  # by then, or now
        def pid(self) -> int | None: ...
        def open_program(self) -> int | None: ...  # pidfd; −1 has ended, None is not made yet
        def send(self, number: int) -> None: ...
        def resize(self, rows: int, columns: int) -> None: ...
        def kill(
            self, intent: str = "kill", *, drain: Callable[[float], bool] | None = None
        ) -> None: ...
        def is_genuine(self, words: bytes) -> bool: ...
        def free_runtime(self) -> None: ...
        def exit(self) -> ExitInfo: ...  # once it has ended
        def close(self) -> None: ...

else:

    class Generic:
        """Stands for `typing.Generic`, whose module costs milliseconds."""

        def __class_getitem__(cls, _: object) -> type:
            return cls

    AnyStr = None


class Process(Generic[AnyStr]):
    """A process that `Container.popen` has begun. Safe from any thread.

    ``stdin``, ``stdout`` and ``stderr`` are file objects over its pipes, or None: nothing stands in
    between, so who does not read holds it up. As a context manager it waits at the end, and what it
    still prints then is thrown away; an exception kills it and all that it has begun. One that is
    forgotten is killed too, with a ResourceWarning: nobody else could reach it.
    """

    __slots__ = (
        "_capture", "_maker", "_merged", "_raw", "_text", "_way", "args", "exit", "stderr", "stdin",
        "stdout",
    )  # fmt: skip

    stdin: IO[AnyStr] | None
    stdout: IO[AnyStr] | None
    stderr: IO[AnyStr] | None

    def __init__(
        self,
        way: Way,
        args: tuple[str, ...],
        *,
        merged: bool = False,
        text: tuple[str, str] | None = None,
        bufsize: int = -1,
    ) -> None:
        """Private: use `Container.popen`. ``merged``: its stderr comes on stdout.

        ``text`` is (encoding, errors).
        """
        self._way = way
        self._maker = os.getpid()
        self._capture: Capture | None = None
        self.args = args
        self.exit: ExitInfo | None = None  # how it ended, as the last look has seen
        self._text = text
        self._merged = merged
        self._raw: list[Output] = []
        self.stdin = self._writer() if way.stdin >= 0 else None
        self.stdout = self._reader("stdout", bufsize, merged) if way.stdout >= 0 else None
        self.stderr = self._reader("stderr", bufsize, True) if way.stderr >= 0 else None

    def _writer(self) -> Any:
        writer: Any = Input(self._way)
        if self._text is None:
            return writer
        return io.TextIOWrapper(writer, *self._text, write_through=True)

    def _reader(self, name: str, bufsize: int, vetted: bool) -> Any:
        raw = Output(self._way, name, vetted=vetted)
        self._raw.append(raw)
        if bufsize == 0 and self._text is None:
            return raw
        buffered = io.BufferedReader(raw, bufsize if bufsize > 1 else io.DEFAULT_BUFFER_SIZE)
        return buffered if self._text is None else io.TextIOWrapper(buffered, *self._text)

    def __repr__(self) -> str:
        state = "running" if self.exit is None else f"code {self.exit.code}"
        return f"<Process {self.args[0]!r} {state}>"

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when it ends, for `select` and its like."""
        return self._way.fileno()

    @property
    def id(self) -> str | None:
        """The id with which `Container.get_exec` finds it again; None unless it is a session."""
        return None

    @property
    def pid(self) -> int | None:
        """Its pid on this host; None before the runtime has made it, and after its end."""
        return self._way.pid()

    @property
    def returncode(self) -> int | None:
        """The exit code that the last `poll` or `wait` has seen; None if it ran."""
        return None if self.exit is None else self.exit.code

    def poll(self) -> ExitInfo | None:
        """Return how it ended; None while it runs. A program that could not be run does not raise
        here: its reason is START_FAILED."""
        if self.exit is None and self._way.ended():
            self.exit = self._way.exit()
        return self.exit

    def wait(self, timeout: float | None = None) -> ExitInfo:
        """Wait until its program has ended and return how.

        ``timeout`` is in seconds; OperationTimeout changes nothing. ProgramNotFound,
        ProgramNotExecutable and RuntimeFailed when it could not be run, WrongState when the
        container had ended by then. Output that nobody reads can keep it from ending. What it has
        left running is not waited for, and the streams give what that still prints.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        # poll(2) without an end is a deadline far away
        if not self._way.ended(time.monotonic() + 1e9 if deadline is None else deadline):
            raise self._timed_out(timeout)
        return self._over()

    def _over(self) -> ExitInfo:
        self.exit = self._way.exit()
        if self._way.error is not None:
            raise self._way.error
        return self.exit

    def _timed_out(self, timeout: float | None) -> OperationTimeout:
        return OperationTimeout(
            f"{self.args[0]} has not ended within {timeout:g} s",
            hint="it was left as it is; `kill` ends it",
        )

    def communicate(
        self,
        input: AnyStr | None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> tuple[AnyStr | None, AnyStr | None]:
        """Write ``input``, close stdin, read both streams to their end, wait; return what was read.

        None stands for a stream that is no pipe. What its program has left running is not waited
        for. After OperationTimeout it can be called again, without input, and nothing is lost.
        Errors are those of `wait`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        capture = self._capturing(input)
        if not capture.run(deadline):
            raise self._timed_out(timeout)
        return self._captured(capture)

    def _capturing(self, input: AnyStr | None) -> Capture:  # noqa: A002
        """Return what `communicate` reads with, which is made once."""
        if self._capture is None:
            self._capture = self._begin_capture(input)
        elif input is not None:
            raise InvalidArgument("communicate: the input was given before")
        return self._capture

    def _captured(self, capture: Capture) -> tuple[AnyStr | None, AnyStr | None]:
        """Return what `communicate` has read; the process has ended."""
        self._close_streams()
        self._over()
        return (
            self._decoded(capture.stdout.data) if self.stdout is not None else None,
            self._decoded(capture.stderr.data) if self.stderr is not None else None,
        )

    def copy_to(self, stdout: int, stderr: int) -> ExitInfo:
        """Write what it prints to descriptors as it comes, until it has ended; return how.

        When nobody reads one of them any more (EPIPE), that is what the program finds too. Errors
        are those of `wait`.
        """
        from longshore.engine.capture import Capture
        from longshore.engine.copying import Copied

        into = (
            Copied(stdout, self._way, vetted=self._merged),
            Copied(stderr, self._way, vetted=True),
        )
        Capture(self._way, into=into).run()
        return self._over()

    def _begin_capture(self, input: AnyStr | None) -> Capture:  # noqa: A002
        from longshore.engine.capture import Capture

        if any(raw.touched for raw in self._raw):
            raise InvalidArgument(
                "communicate: its output has been read from already",
                hint="go on reading it, then wait()",
            )
        if input is not None and self.stdin is None:
            raise InvalidArgument("communicate: it has no stdin", hint="popen(…, stdin=True)")
        data = b"" if input is None else self._encoded(input)
        return Capture(self._way, data)

    def _encoded(self, data: object) -> bytes:
        if self._text is not None and isinstance(data, str):
            return data.encode(*self._text)
        if self._text is None and isinstance(data, (bytes, bytearray)):
            return bytes(data)
        wanted = "bytes" if self._text is None else "text"
        raise InvalidArgument(f"communicate: its input is {wanted}, not {type(data).__name__}")

    def _decoded(self, data: bytes) -> Any:
        if self._text is None:
            return data
        # as the stream itself would give it: newlines of all kinds are "\n"
        return data.decode(*self._text).replace("\r\n", "\n").replace("\r", "\n")

    def send_signal(self, signal: str | int) -> None:
        """Send a signal to its program, by name or number; one that has ended is fine.

        A program that the runtime is still to make is waited for.
        """
        from longshore.options.parse import parse_signal

        self._way.send(parse_signal(signal))

    def terminate(self) -> None:
        """Ask its program to end: SIGTERM."""
        self._way.send(15)

    def kill(self) -> None:
        """Kill its program and all that it has begun, and wait until they are gone.

        Processes that have made a session of their own, or whose parent has ended, are among them;
        others of the container are not.
        """
        self._way.kill()

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal. InvalidArgument when it has none."""
        self._way.resize(rows, columns)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                self._way.kill()
                self.exit = self._way.exit()
            elif self.exit is None:
                self._run_out()
        finally:
            self._close()

    def _run_out(self) -> None:
        """Wait for its end, and throw away what it prints until then: else it could not end."""
        from longshore.engine.capture import Capture

        (self._capture or Capture(self._way, limit=0)).run()
        self._over()

    def _close_streams(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def _close(self) -> None:
        self._close_streams()
        self._way.close()

    def __del__(self) -> None:
        if getattr(self, "_way", None) is None or self._way.fileno() < 0:
            return
        try:
            if self._maker != os.getpid():  # a fork has a copy of it, and not the process
                self._way.close()
                return
            if self.poll() is None:
                import warnings

                warnings.warn(f"{self!r} is still running", ResourceWarning, 2, source=self)
                self._way.kill()
                self.exit = self._way.exit()
            self._close()
        except ImportError:
            pass  # the interpreter ends: the next operation on the container does the rest
