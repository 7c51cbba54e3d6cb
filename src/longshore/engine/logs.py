"""A container's log, read now or followed to the last byte of its run."""

from __future__ import annotations

import contextlib
import os

from longshore.engine.observe import look
from longshore.errors import InvalidArgument, NoSuchContainer
from longshore.lifecycle import Status
from longshore.linux.inotify import IN_DELETE, IN_DELETE_SELF, IN_MOVED_TO, Watch
from longshore.linux.processes import open_pidfd
from longshore.linux.procs import poll_until
from longshore.linux.steps import slept
from longshore.monitor import logs as monitor_logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Self, TypeVar

    from longshore.engine.machinery import Machinery
    from longshore.linux.steps import Sleep
    from longshore.models import LogRecord
    from longshore.store import Record, Run

    _T = TypeVar("_T")


def read(
    machinery: Machinery,
    container_id: str,
    *,
    follow: bool,
    tail: int | None,
    since_ns: int | None,
    until_ns: int | None,
    after: str,
) -> Iterator[LogRecord]:
    """Yield log records; with ``follow`` until the run has ended and all of it was read."""
    if tail is not None and tail < 0:
        tail = None  # podman's --tail -1: all of it
    if not follow:
        path = path_of(machinery, machinery.store.peek(container_id))
        return monitor_logs.read_log(
            path, since_ns=since_ns, until_ns=until_ns, tail=tail, after=after
        )
    steps = follow_steps(
        machinery, container_id, tail=tail, since_ns=since_ns, until_ns=until_ns, after=after
    )
    return _flat(steps)


def follow_steps(
    machinery: Machinery,
    container_id: str,
    *,
    tail: int | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    after: str = "",
) -> Generator[Sleep | list[LogRecord]]:
    """Follow a log in steps (`linux.steps`): they yield what was found, too."""
    record = machinery.store.peek(container_id)
    path = path_of(machinery, record)
    monitor_logs.check(tail, after)
    if record.config.log_size_max > 0:
        from longshore.engine import supervisor

        supervisor.ensure(machinery, record, wait=False)  # the one that was there may be gone

    def steps() -> Generator[Sleep | list[LogRecord]]:
        with _tidied(record, path), EndWatch(machinery, record) as watch:
            yield from monitor_logs.follow_steps(
                path,
                ended=watch.ended,
                wake_fds=watch.fds,
                since_ns=since_ns,
                until_ns=until_ns,
                tail=tail,
                after=after,
            )

    return steps()


def output(machinery: Machinery, container_id: str) -> Iterator[tuple[str, bytes]]:
    """Yield (stream, data) from the beginning of the log to the end of the run."""
    return _flat(output_steps(machinery, container_id))


def output_steps(
    machinery: Machinery, container_id: str
) -> Generator[Sleep | list[tuple[str, bytes]]]:
    """Do what `output` does, in steps."""
    record = machinery.store.peek(container_id)
    path = path_of(machinery, record)
    with _tidied(record, path), EndWatch(machinery, record) as watch:
        yield from monitor_logs.follow_output_steps(path, ended=watch.ended, wake_fds=watch.fds)


def _flat(steps: Generator[Sleep | list[_T]]) -> Iterator[_T]:
    for found in slept(steps):
        yield from found


@contextlib.contextmanager
def _tidied(record: Record, path: str) -> Generator[None]:
    """Take away in the end what was kept above the log's limit only because somebody read it."""
    try:
        yield
    finally:
        if record.config.log_size_max > 0:
            from longshore.monitor import rotation

            with contextlib.suppress(OSError):
                rotation.throw_away(path, record.config.log_max_files)


def path_of(machinery: Machinery, record: Record) -> str:
    """Return where a container's log is; InvalidArgument when it keeps none."""
    if record.config.log_driver == "none":
        raise InvalidArgument(
            f"container {record.name} keeps no log: it was created with log driver none"
        )
    return record.config.log_path or machinery.paths(record.id).log


class EndWatch:
    """Knows when no more will be written to a log: conmon has written the exit file, or is gone.

    ``fds`` become readable when it is worth asking `ended` again.
    """

    def __init__(self, machinery: Machinery, record: Record) -> None:
        self._machinery = machinery
        self._id = record.id
        self._exit_file = machinery.paths(record.id).exit_file
        self._watch = Watch()
        self._pidfd = -1
        self._run = 0
        self._asked = False
        try:
            self._watch.add(
                machinery.paths(record.id).home, IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF
            )
        except FileNotFoundError as err:
            self._watch.close()
            raise NoSuchContainer(f"there is no container {record.id[:12]}") from err
        except BaseException:
            self._watch.close()
            raise
        self.fds = [self._watch.fileno()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()
        self._watch.close()

    def _watch_end(self, run: Run) -> None:
        """Be told of the end of a run: by its exit file, or by the end of conmon, else of init."""
        try:
            self._watch.add(os.path.dirname(self._exit_file), IN_MOVED_TO)
        except FileNotFoundError:
            pass  # ended and cleaned up: the record says so
        self._let_go()
        end = open_pidfd(run.monitor)
        end = open_pidfd(run.init) if end is None else end
        if end is not None:
            self._pidfd = end
            self.fds.append(end)

    def _let_go(self) -> None:
        if self._pidfd >= 0:
            self.fds.remove(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def ended(self) -> bool:
        """Whether the log is complete."""
        # Asked each time that the log grows, so the usual answer must be cheap.
        over = self._pidfd >= 0 and bool(poll_until([self._pidfd], 0.0))
        news = bool(self._watch.take()) or over or not self._asked
        self._asked = True
        if not news:
            return os.path.lexists(self._exit_file)
        if over:
            self._let_go()  # it has told all it can, and would wake us for ever
        try:
            record = self._machinery.store.peek(self._id)
        except NoSuchContainer:
            return True
        run = record.run
        if run is not None and run.monitor is not None and (over or run.number != self._run):
            self._run = run.number
            self._watch_end(run)
        if record.status in (Status.STOPPED, Status.EXITED):
            return True
        sight = look(self._machinery, record)
        if sight.status is Status.STOPPED:
            return sight.exit is not None or sight.monitor is None
        live = sight.status in (Status.RUNNING, Status.PAUSED)
        return live and run is not None and run.actor is None and sight.monitor is None
