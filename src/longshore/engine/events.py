"""Tell what happens to containers: one line here for each change, after it is written down.

What an event says is true by then: of `died` the exit record is there. An event that cannot be
written fails no operation; it is said once. A process that is killed between a change and its event
takes the event with it, but not a `died`: whoever cleans up after the container makes up for that.
"""

from __future__ import annotations

import time

from longshore import _log
from longshore.errors import LongshoreError
from longshore.models import Event
from longshore.store.events import EventLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.store import Record

_warned: set[str] = set()  # what this process has been told once


def emit(
    machinery: Machinery,
    action: str,
    record: Record,
    *,
    exit_code: int | None = None,
    attributes: dict[str, str] | None = None,
) -> None:
    """Write down that something happened to a container. ``action`` is one of `Event.action`."""
    config = record.config
    fields: dict[str, object] = {
        "type": "container",
        "action": action,
        "id": record.id,
        "name": config.name,
    }
    if config.image:
        fields["image"] = config.image
    if exit_code is not None:
        fields["exit_code"] = exit_code
    if config.labels:
        fields["labels"] = dict(config.labels)
    if attributes:
        fields["attributes"] = attributes
    try:
        EventLog(machinery.layout.events).append(time.time_ns(), fields)
    except OSError as err:
        _warn(machinery, err)


def emit_exec(
    machinery: Machinery,
    action: str,
    container: Record | str,
    exec_id: str,
    *,
    exit_code: int | None = None,
) -> None:
    """Write down that an exec has begun (``exec``) or ended (``exec_died``, with its code).

    ``exec_died`` comes after the exec's exit record, if it has one. ``container`` is its record or
    its id; of one that is gone, or damaged, nothing is told.
    """
    if isinstance(container, str):
        try:
            container = machinery.store.peek(container)
        except LongshoreError:
            return
    emit(machinery, action, container, exit_code=exit_code, attributes={"execID": exec_id})


def emit_died(machinery: Machinery, record: Record) -> None:
    """Write down that a container's run has ended: its last exit record is there."""
    info = record.exits[-1]
    emit(
        machinery,
        "died",
        record,
        exit_code=info.code,
        attributes={"reason": info.reason.value},
    )


def mark(machinery: Machinery) -> int | None:
    """Return a number that events from now on are above, for `make_up`; None if it is not known."""
    try:
        return EventLog(machinery.layout.events).end()
    except OSError:
        return None


def make_up(machinery: Machinery, record: Record) -> None:
    """Write the `died` down of who was killed after its exit record and before its event.

    The container's lock is held, as it was by that process; so nobody else is at it.
    """
    since = None if record.run is None else record.run.exit_mark
    if since is None:
        return
    try:
        with EventLog(machinery.layout.events).reader(since) as reader:
            while found := reader.read():
                for event in found:
                    # With a gap nothing is known; then it was most probably told.
                    if not isinstance(event, Event) or (
                        event.id == record.id and event.action == "died"
                    ):
                        return
    except OSError as err:
        _warn(machinery, err)
        return
    emit_died(machinery, record)


def _warn(machinery: Machinery, err: OSError) -> None:
    message = f"events cannot be written to {machinery.layout.events}: {err.strerror}"
    if message not in _warned:
        _warned.add(message)
        _log.warn(message)
