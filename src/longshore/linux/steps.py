"""Waiting, cut into steps: what waits says on what it sleeps, and somebody else does the sleeping.

So the same code serves a thread, which sleeps here (`run`, `slept`), and an event loop, which adds
the descriptors to its own, and once `inotify.descriptor`, for which it calls `inotify.dispatch`: a
thousand who wait need no thousand threads.
"""

from __future__ import annotations

import errno
import os
import time

from longshore._value import Value
from longshore.linux.inotify import (
    IN_CREATE,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_MOVE_SELF,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Watch,
    poll,
)
from longshore.linux.procs import poll_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from typing import TypeAlias, TypeVar

    _T = TypeVar("_T")
    Steps: TypeAlias = "Generator[Sleep, None, _T]"  # and what they lead to


class Sleep(Value):
    """What a waiting generator (`Steps`) yields: go on when one of ``fds`` is readable.

    Or at ``deadline``, a `time.monotonic` moment; None is no end. Going on too early does no harm:
    each step looks at the facts anew. A step may block for as long as reading and writing files
    takes; what may take longer is a `Sleep`. A generator that is closed at one lets go of all.
    """

    fds: tuple[int, ...]
    deadline: float | None = None


def run(steps: Steps[_T]) -> _T:
    """Take all steps here and now, asleep in between, and return what they lead to."""
    try:
        while True:
            sleep = next(steps)
            poll(sleep.fds, sleep.deadline)
    except StopIteration as end:
        result: _T = end.value
        return result
    finally:
        steps.close()


def slept(steps: Generator[Sleep | _T]) -> Iterator[_T]:
    """Yield what steps have found on their way, asleep in between."""
    try:
        for found in steps:
            if isinstance(found, Sleep):
                poll(found.fds, found.deadline)
            else:
                yield found
    finally:
        steps.close()


def appear_steps(path: str, *, deadline: float | None, also_fds: Sequence[int] = ()) -> Steps[bool]:
    """Wait until a path exists (True), or a descriptor is readable or time is over (False).

    ``deadline`` is a `time.monotonic` moment, or None for no end. The path is looked at once more
    after a descriptor became readable, so a process that makes the file and then ends gives True.
    FileNotFoundError when the path's directory is not there, or goes.
    """
    if os.path.lexists(path):
        return True
    directory = os.path.dirname(path) or "."
    gone = IN_DELETE_SELF | IN_MOVE_SELF
    told = IN_Q_OVERFLOW
    with Watch() as watch:
        while True:
            if told & IN_Q_OVERFLOW:  # that it went may be what was dropped
                watch.add(directory, IN_CREATE | IN_MOVED_TO | gone | IN_ONLYDIR)
            if told & (gone | IN_IGNORED):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
            over = deadline is not None and time.monotonic() >= deadline
            over = over or bool(also_fds and poll_until(also_fds, 0.0))
            if os.path.lexists(path):
                return True
            if over:
                return False
            yield Sleep(fds=(watch.fileno(), *also_fds), deadline=deadline)
            told = watch.take()
