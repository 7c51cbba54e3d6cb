"""Wait for a container: on its init's pidfd and on changes of its files, never by polling.

Each wait is there twice: at once, and in steps (`linux.steps`) for who has other things to do
meanwhile. No lock is held at a step's end, and a wait that is given up changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import time

from longshore.engine import finishing
from longshore.engine.observe import look
from longshore.errors import Busy, InvalidArgument, NoSuchContainer, OperationTimeout
from longshore.lifecycle import Status
from longshore.linux.inotify import IN_DELETE, IN_DELETE_SELF, IN_MOVED_TO, Watch
from longshore.linux.processes import open_pidfd
from longshore.linux.steps import Sleep, run
from longshore.models import ExitReason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from longshore.engine.machinery import Machinery
    from longshore.engine.observe import Sight
    from longshore.linux.steps import Steps
    from longshore.models import ExitInfo
    from longshore.store import Record


CONDITIONS = ("exited", "next_exit", "removed")


def until(timeout: float | None) -> float | None:
    """Return the `time.monotonic` moment at which a time limit in seconds is over.

    InvalidArgument for what is no length of time: less than 0 is no way to say "for ever".
    """
    return None if timeout is None else time.monotonic() + checked_seconds(timeout)


def checked_seconds(timeout: float) -> float:
    """Return a length of time that a caller has given, or raise InvalidArgument."""
    if type(timeout) in (int, float) and 0 <= timeout < float("inf"):
        return timeout
    from longshore.options.parse import seconds  # also says what is wrong

    return seconds(timeout, "timeout")


def await_condition(
    machinery: Machinery, container_id: str, condition: str, *, timeout: float | None = None
) -> ExitInfo:
    """Wait for one of `CONDITIONS`; see `Container.wait`."""
    return run(condition_steps(machinery, container_id, condition, timeout=timeout))


def condition_steps(
    machinery: Machinery, container_id: str, condition: str, *, timeout: float | None = None
) -> Steps[ExitInfo]:
    """Do what `await_condition` does, in steps."""
    if condition not in CONDITIONS:
        raise InvalidArgument(
            f"there is no condition {condition!r} to wait for",
            hint=f"it is one of {', '.join(CONDITIONS)}",
        )
    if condition == "removed":
        return (yield from removal_steps(machinery, container_id, timeout=timeout))
    after = None
    if condition == "next_exit":
        try:
            exits = machinery.store.peek(container_id).exits
            after = exits[-1] if exits else None
        except NoSuchContainer:
            after = None
    return (yield from exit_steps(machinery, container_id, timeout=timeout, after=after))


def await_exit(
    machinery: Machinery,
    container_id: str,
    *,
    timeout: float | None = None,
    after: ExitInfo | None = None,
    of_run: int | None = None,
) -> ExitInfo:
    """Wait until a container has ended and return its durable exit.

    A container that has ended already answers at once, and so does one whose last start failed; one
    that was never started is waited for. ``timeout`` is in seconds; OperationTimeout changes
    nothing. ``after`` waits for a later exit than that one, ``of_run`` for the end of that run: a
    later one is not waited for. NoSuchContainer when it was removed without ever ending.
    """
    return run(exit_steps(machinery, container_id, timeout=timeout, after=after, of_run=of_run))


def exit_steps(
    machinery: Machinery,
    container_id: str,
    *,
    timeout: float | None = None,
    after: ExitInfo | None = None,
    of_run: int | None = None,
) -> Steps[ExitInfo]:
    """Do what `await_exit` does, in steps."""
    deadline = until(timeout)
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
        if (ended or _has_failed(record)) and record.exits and record.exits[-1] != after:
            return record.exits[-1]
        sight = look(machinery, record)
        if sight.interrupted or sight.rebooted:
            yield from _settle(machinery, record, deadline)
        elif sight.status is Status.STOPPED and record.status is not Status.STOPPED:
            yield from finishing.exit_file_steps(machinery, container_id, sight, deadline)
            yield from _settle(machinery, record, deadline)
        else:
            if of_run is None and after is None and sight.init is not None and record.run:
                of_run = record.run.number  # it is waited for, whatever comes after it
            yield from _sleep(machinery, record, sight, deadline)
        _check(deadline, timeout, record)


def _has_failed(record: Record) -> bool:
    """Whether the last thing that a container did was not to start."""
    return bool(
        record.run is None and record.exits and record.exits[-1].reason is ExitReason.START_FAILED
    )


def _settle(machinery: Machinery, record: Record, deadline: float | None) -> Steps[None]:
    """Let the exit be written down, by us or by whoever is faster.

    Of many who wait for one container one gets the lock; the others need not have had it too.
    """
    written = _write(machinery, record.id, deadline)
    with contextlib.closing(written), Watch() as watch:
        changed: bool | None = None
        try:
            for sleep in written:
                changed = _changes(machinery, record, watch) if changed is None else changed
                if changed:
                    return
                yield Sleep(fds=(*sleep.fds, watch.fileno()), deadline=sleep.deadline)
                changed = bool(watch.take())
        except NoSuchContainer:
            pass  # removed meanwhile: its exit record is looked at next
        except Busy:
            pass  # until the deadline, which the caller looks at next


def _write(machinery: Machinery, container_id: str, deadline: float | None) -> Steps[None]:
    held = yield from finishing.settle_steps(machinery, container_id, "wait", deadline=deadline)
    held.__exit__()


def _changes(machinery: Machinery, record: Record, watch: Watch) -> bool:
    """Watch for changes of a record; whether it has changed already, or is gone."""
    try:
        home = machinery.paths(record.id).home
        watch.add(home, IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF)
        return machinery.store.peek(record.id) != record
    except (FileNotFoundError, NoSuchContainer):
        return True


def _sleep(
    machinery: Machinery, record: Record, sight: Sight, deadline: float | None
) -> Steps[None]:
    """Sleep until init ends or, where there is none to wait for, until the record changes.

    Who is starting it may be killed, which changes no record.
    """
    starter = record.run.actor if record.run is not None else None
    awaited = sight.init or starter
    end = open_pidfd(awaited)
    if awaited is not None and end is None:
        return
    try:
        if sight.init is not None and end is not None:
            yield Sleep(fds=(end,), deadline=deadline)
            return
        with Watch() as watch:
            if not _changes(machinery, record, watch):
                fds = (watch.fileno(),) if end is None else (watch.fileno(), end)
                yield Sleep(fds=fds, deadline=deadline)
    finally:
        if end is not None:
            os.close(end)


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
    return run(removal_steps(machinery, container_id, timeout=timeout))


def removal_steps(
    machinery: Machinery, container_id: str, *, timeout: float | None = None
) -> Steps[ExitInfo]:
    """Do what `await_removal` does, in steps."""
    deadline = until(timeout)
    home = machinery.paths(container_id).home
    with Watch() as watch:
        try:
            watch.add(home, IN_DELETE | IN_DELETE_SELF)
            while True:
                record = machinery.store.peek(container_id)
                yield Sleep(fds=(watch.fileno(),), deadline=deadline)
                watch.take()
                _check(deadline, timeout, record)
        except (FileNotFoundError, NoSuchContainer):
            pass
    kept = machinery.store.exit_record(container_id)
    if kept is None:
        raise NoSuchContainer(f"container {container_id[:12]} is gone, and it never ran")
    return kept


def await_status(
    machinery: Machinery,
    container_id: str,
    wanted: Collection[Status],
    *,
    timeout: float | None = None,
) -> Status:
    """Wait until a container is in one of some statuses and return it.

    What others do to it past Longshore (a runtime's own `pause`) wakes nobody. NoSuchContainer once
    it is removed; OperationTimeout changes nothing.
    """
    return run(status_steps(machinery, container_id, wanted, timeout=timeout))


def status_steps(
    machinery: Machinery,
    container_id: str,
    wanted: Collection[Status],
    *,
    timeout: float | None = None,
) -> Steps[Status]:
    """Do what `await_status` does, in steps."""
    if not wanted:
        raise InvalidArgument("wait_status() needs a status to wait for")
    deadline = until(timeout)
    while True:
        with Watch() as watch:
            home = machinery.paths(container_id).home
            try:
                watch.add(home, IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF)
            except FileNotFoundError:
                raise NoSuchContainer(f"there is no container {container_id[:12]}") from None
            record = machinery.store.peek(container_id)
            sight = look(machinery, record)
            if sight.status in wanted:
                return sight.status
            if deadline is not None and time.monotonic() >= deadline:
                raise OperationTimeout(
                    f"container {record.name} is {sight.status.value}, and was not "
                    f"{' or '.join(status.value for status in wanted)} within {timeout:g} s",
                )
            end = open_pidfd(sight.init)
            try:
                fds = (watch.fileno(),) if end is None else (watch.fileno(), end)
                yield Sleep(fds=fds, deadline=deadline)
            finally:
                if end is not None:
                    os.close(end)
