"""Wait for a container: on its init's pidfd and on changes of its files, never by polling."""

from __future__ import annotations

import os
import time

from longshore.engine import finishing
from longshore.engine.observe import look
from longshore.errors import Busy, NoSuchContainer, OperationTimeout
from longshore.lifecycle import Status
from longshore.linux.inotify import IN_DELETE, IN_DELETE_SELF, IN_MOVED_TO, Inotify
from longshore.linux.processes import open_pidfd
from longshore.linux.procs import poll_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.engine.observe import Sight
    from longshore.models import ExitInfo
    from longshore.store import Record


def await_exit(
    machinery: Machinery,
    container_id: str,
    *,
    timeout: float | None = None,
    after: ExitInfo | None = None,
    of_run: int | None = None,
) -> ExitInfo:
    """Wait until a container has ended and return its durable exit.

    A container that has ended already answers at once; one that was never started is waited for.
    ``timeout`` is in seconds; OperationTimeout changes nothing. ``after`` waits for a later exit
    than that one, ``of_run`` for the end of that run: a later one is not waited for.
    NoSuchContainer when it was removed without ever ending.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            record = machinery.store.peek(container_id)
        except NoSuchContainer:
            kept = machinery.store.exit_record(container_id)
            if kept is not None and kept != after:
                return kept
            raise
        ended = record.status in (Status.STOPPED, Status.EXITED)
        ended = ended or (of_run is not None and record.starts > of_run)
        if ended and record.exits and record.exits[-1] != after:
            return record.exits[-1]
        sight = look(machinery, record)
        if sight.interrupted or sight.rebooted:
            _settle(machinery, container_id, deadline)
            _check(deadline, timeout, record)
            continue
        if sight.status is Status.STOPPED and record.status is not Status.STOPPED:
            finishing.await_exit_file(machinery, container_id, sight, deadline)
            _settle(machinery, container_id, deadline)
            _check(deadline, timeout, record)
            continue
        if of_run is None and after is None and sight.init is not None and record.run is not None:
            of_run = record.run.number  # the run that is waited for, whatever comes after it
        _sleep(machinery, record, sight, deadline)
        _check(deadline, timeout, record)


def _settle(machinery: Machinery, container_id: str, deadline: float | None) -> None:
    """Let the exit be written down, by us or by whoever is faster."""
    try:
        with finishing.settled(machinery, container_id, "wait", deadline=deadline):
            pass
    except NoSuchContainer:
        pass  # removed meanwhile: its exit record is looked at next
    except Busy:
        pass  # until the deadline, which the caller looks at next


def _sleep(machinery: Machinery, record: Record, sight: Sight, deadline: float | None) -> None:
    """Sleep until init ends or, where there is none to wait for, until the record changes."""
    if sight.init is not None:
        fd = open_pidfd(sight.init)
        if fd is not None:
            try:
                poll_until([fd], deadline)
            finally:
                os.close(fd)
        return
    home = machinery.paths(record.id).home
    with Inotify() as watch:
        try:
            watch.add(home, IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF)
            if machinery.store.peek(record.id) != record:
                return  # it changed between the look and the watch
        except (FileNotFoundError, NoSuchContainer):
            return
        poll_until([watch.fileno()], deadline)


def _check(deadline: float | None, timeout: float | None, record: Record) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise OperationTimeout(
            f"container {record.name} has not ended within {timeout:g} s",
            hint="it was left as it is; `stop` ends it",
        )


def await_removal(
    machinery: Machinery, container_id: str, *, timeout: float | None = None
) -> ExitInfo:
    """Wait until a container is gone and return its last exit.

    NoSuchContainer when it was removed without ever having run, or its exit is not kept any more.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    home = machinery.paths(container_id).home
    with Inotify() as watch:
        try:
            watch.add(home, IN_DELETE | IN_DELETE_SELF)
            while True:
                record = machinery.store.peek(container_id)
                poll_until([watch.fileno()], deadline)
                watch.read()
                _check(deadline, timeout, record)
        except (FileNotFoundError, NoSuchContainer):
            pass
    kept = machinery.store.exit_record(container_id)
    if kept is None:
        raise NoSuchContainer(f"container {container_id[:12]} is gone, and it never ran")
    return kept
