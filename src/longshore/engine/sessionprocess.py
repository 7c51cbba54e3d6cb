"""An exec session as a `Process`: the same handle in the process that started it and in any other.

Its output is read from its log, by each reader from the beginning and at its own pace. Its input
goes through conmon's attach socket, to which one connects when there is something to write: who
leaves it ends the input for everybody (without a terminal).
"""

from __future__ import annotations

import io
import sys

from longshore.engine import sessions
from longshore.engine.process import Process
from longshore.engine.sessionstreams import Attached, SessionInput, SessionOutput
from longshore.engine.sessionway import Session
from longshore.errors import InvalidArgument, NoSuchExec, RecordCorrupt
from longshore.linux.files import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, AnyStr

    from longshore.engine.machinery import Machinery
    from longshore.models import ExitInfo
    from longshore.options.execs import ExecConfig
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
    awaited: bool = False,
) -> Process[Any]:
    """Start a session and return its handle; see `Container.popen`, and `sessionstart.start`."""
    from longshore.engine import sessionstart

    for name, value in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
        if not isinstance(value, bool) and (name, value) != ("stderr", "stdout"):
            raise InvalidArgument(
                f"{name}: {value!r} cannot be that of a session, which other processes can find",
                hint="True or False; a session's output can be read from its log at any time",
            )
    session_id = sessionstart.start(machinery, container_id, config, awaited=awaited)
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

    def attach(self, *, stdin: bool) -> Attached:
        """Be attached to it as to a container: what it has printed and prints, its input, its size.

        With ``stdin`` False nothing can be written.
        """
        return Attached(self._session, stdin=stdin)

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
        # what it would need may be gone when the interpreter is on its way out
        if getattr(self, "_session", None) is not None and not sys.is_finalizing():
            self._close()
