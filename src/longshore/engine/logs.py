"""A container's log, read now or followed to the last byte of its run."""

from __future__ import annotations

import contextlib
import os
import time

from longshore.engine.observe import look
from longshore.errors import InvalidArgument, NoSuchContainer
from longshore.lifecycle import Status
from longshore.linux.inotify import IN_DELETE, IN_DELETE_SELF, IN_MOVED_TO, Inotify
from longshore.linux.processes import open_pidfd
from longshore.linux.procs import poll_until
from longshore.monitor import logs as monitor_logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from longshore.engine.machinery import Machinery
    from longshore.models import LogRecord
    from longshore.store import Record, Run


def read(
    machinery: Machinery,
    container_id: str,
    *,
    follow: bool,
    tail: int | None,
    since_ns: int | None,
    until_ns: int | None,
) -> Iterator[LogRecord]:
    """Yield log records; with ``follow`` until the run has ended and all of it was read."""
    record = machinery.store.peek(container_id)
    path = _path(machinery, record)
    if tail is not None and tail < 0:
        tail = None  # podman's --tail -1: all of it
    return _read(machinery, record, path, follow, tail, since_ns, until_ns)


def _read(
    machinery: Machinery,
    record: Record,
    path: str,
    follow: bool,
    tail: int | None,
    since_ns: int | None,
    until_ns: int | None,
) -> Iterator[LogRecord]:
    if not follow:
        yield from monitor_logs.read_log(path, since_ns=since_ns, until_ns=until_ns, tail=tail)
        return
    with _EndWatch(machinery, record) as watch:
        yield from monitor_logs.follow(
            path,
            ended=watch.ended,
            wake_fds=watch.fds,
            since_ns=since_ns,
            until_ns=until_ns,
            tail=tail,
        )


def output(machinery: Machinery, container_id: str) -> Iterator[tuple[str, bytes]]:
    """Yield (stream, data) from the beginning of the log to the end of the run."""
    record = machinery.store.peek(container_id)
    path = _path(machinery, record)
    with _EndWatch(machinery, record) as watch:
        yield from monitor_logs.follow_output(path, ended=watch.ended, wake_fds=watch.fds)


def _path(machinery: Machinery, record: Record) -> str:
    if record.config.log_driver == "none":
        raise InvalidArgument(
            f"container {record.name} keeps no log: it was created with log driver none"
        )
    return record.config.log_path or machinery.paths(record.id).log


class _EndWatch:
    """Knows when no more will be written to a log: conmon has written the exit file, or is gone.

    ``fds`` become readable when it is worth asking `ended` again.
    """

    def __init__(self, machinery: Machinery, record: Record) -> None:
        self._machinery = machinery
        self._id = record.id
        self._exit_file = machinery.paths(record.id).exit_file
        self._stack = contextlib.ExitStack()
        self._inotify = self._stack.enter_context(Inotify())
        self.fds = [self._inotify.fileno()]
        self._run = 0
        self._asked = False
        self._pidfds: list[int] = []
        self._stack.callback(lambda: self._let_go(self._pidfds))
        home = machinery.paths(record.id).home
        try:
            self._inotify.add(home, IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF)
        except FileNotFoundError as err:
            self._stack.close()
            raise NoSuchContainer(f"there is no container {record.id[:12]}") from err
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _watch(self, run: Run) -> None:
        """Be told of the end of a run: by its exit file, or by the end of conmon or of init."""
        try:
            self._inotify.add(os.path.dirname(self._exit_file), IN_MOVED_TO)
        except FileNotFoundError:
            pass  # ended and cleaned up: the record says so
        self._let_go(self._pidfds)
        for process in (run.monitor, run.init):
            pidfd = open_pidfd(process)
            if pidfd is not None:
                self._pidfds.append(pidfd)
                self.fds.append(pidfd)

    def _let_go(self, pidfds: Sequence[int]) -> None:
        for pidfd in tuple(pidfds):
            self._pidfds.remove(pidfd)
            self.fds.remove(pidfd)
            os.close(pidfd)

    def ended(self) -> bool:
        """Whether the log is complete."""
        # Asked each time that the log grows, so the usual answer must be cheap.
        news = bool(self._inotify.read()) or not self._asked
        if over := poll_until(self._pidfds, time.monotonic()) if self._pidfds else []:
            self._let_go(over)  # it has told all it can, and would wake us for ever
            news = True
        self._asked = True
        if not news:
            return os.path.lexists(self._exit_file)
        try:
            record = self._machinery.store.peek(self._id)
        except NoSuchContainer:
            return True
        run = record.run
        if run is not None and run.monitor is not None and run.number != self._run:
            self._run = run.number
            self._watch(run)
        if record.status in (Status.STOPPED, Status.EXITED):
            return True
        sight = look(self._machinery, record)
        if sight.status is Status.STOPPED:
            return sight.exit is not None or sight.monitor is None
        live = sight.status in (Status.RUNNING, Status.PAUSED)
        return live and run is not None and run.actor is None and sight.monitor is None
