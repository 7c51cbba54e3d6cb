"""What is done to an exec session that runs, from any process: signals, its size, its output."""

from __future__ import annotations

import os

from longshore.engine import sessions
from longshore.errors import InvalidArgument, MonitorGone, NoSuchExec
from longshore.linux.inotify import IN_DELETE_SELF, IN_MOVED_TO, Watch
from longshore.linux.processes import open_pidfd, send
from longshore.linux.procs import poll_until
from longshore.monitor import attach
from longshore.monitor import logs as monitor_logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Self

    from longshore.engine.machinery import Machinery
    from longshore.linux.steps import Sleep
    from longshore.store.sessions import SessionRecord

_SIGKILL = 9


def send_signal(machinery: Machinery, container_id: str, session_id: str, number: int) -> None:
    """Send a signal to a session's main process. What has ended is fine."""
    record = _intend(machinery, container_id, session_id, "kill", number)
    if record is None:
        return
    inside = sessions.SessionTree(machinery, container_id, record.cgroup).inside
    if inside is not None:
        inside.send(number)
    else:
        send(record.process, number)


def kill(machinery: Machinery, container_id: str, session_id: str, *, intent: str = "kill") -> None:
    """Kill all processes of a session and wait until they are gone. ``intent``: kill or timeout.

    What has ended is fine. Those of a paused container end all the same.
    """
    record = _intend(machinery, container_id, session_id, intent, _SIGKILL)
    if record is not None:
        sessions.SessionTree(machinery, container_id, record.cgroup).end()


def _intend(
    machinery: Machinery, container_id: str, session_id: str, intent: str, number: int
) -> SessionRecord | None:
    """Write down what a session may die of; None when it has ended."""
    record = sessions.settle(machinery, container_id, session_id)
    if record.exit is not None:
        return None
    with sessions.store_of(machinery, container_id).locked(session_id, "kill an exec") as held:
        record = held.record
        if record.exit is not None:
            return None
        if record.intent in ("", "kill"):  # a time limit that is over stays what it is
            held.save(record.replace(intent=intent, intent_signal=number))
        return record


def resize(
    machinery: Machinery, container_id: str, session_id: str, rows: int, columns: int
) -> None:
    """Set the size of a session's terminal. InvalidArgument when it has none; ended is fine."""
    record = sessions.store_of(machinery, container_id).peek(session_id)
    if not record.config.tty:
        raise InvalidArgument(f"exec session {session_id[:12]} has no terminal")
    path = machinery.paths(container_id).session(session_id).winsz_fifo
    try:
        attach.resize(path, rows, columns)
    except MonitorGone:
        pass


def output_steps(
    machinery: Machinery,
    container_id: str,
    session_id: str,
    *,
    follow: bool = True,
    stop: int | None = None,
) -> Generator[Sleep | list[tuple[str, bytes]]]:
    """Yield (stream, data) from a session's beginning to its end, in steps.

    It is read from the session's log: a reader that is slow, or gone, is nothing to the session.
    Without ``follow``, what is there now. It ends when the descriptor ``stop`` becomes readable.
    """
    record = sessions.store_of(machinery, container_id).peek(session_id)
    path = machinery.paths(container_id).session(session_id).log
    with _End(machinery, container_id, record, follow=follow) as end:
        if stop is not None:
            end.fds.append(stop)
        for found in monitor_logs.follow_output_steps(path, ended=end.ended, wake_fds=end.fds):
            if stop is not None and poll_until([stop], 0.0):
                return
            yield found


class _End:
    """Knows when no more will be written to a session's log; ``fds`` tell when to ask again."""

    def __init__(
        self, machinery: Machinery, container_id: str, record: SessionRecord, *, follow: bool
    ) -> None:
        paths = machinery.paths(container_id).session(record.id)
        self._exit_file = paths.exit_file
        self._follow = follow
        self._monitor = open_pidfd(record.monitor)
        self._over = record.exit is not None or self._monitor is None
        self._watch = Watch()
        try:
            # conmon writes its exit file when all output is in the log
            self._watch.add(paths.home, IN_MOVED_TO | IN_DELETE_SELF)
        except BaseException as err:
            self.__exit__()
            if isinstance(err, FileNotFoundError):
                raise NoSuchExec(f"exec session {record.id[:12]} was removed") from err
            raise
        self.fds = [self._watch.fileno()]
        if self._monitor is not None:
            self.fds.append(self._monitor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._monitor is not None:
            os.close(self._monitor)
            self._monitor = None
        self._watch.close()

    def ended(self) -> bool:
        """Whether the log is complete."""
        self._watch.take()
        if self._over or not self._follow:
            return True
        # a conmon that is gone without an exit file writes no more either
        self._over = os.path.lexists(self._exit_file) or bool(
            self._monitor is not None and poll_until([self._monitor], 0.0)
        )
        return self._over
