"""What happens to containers, read as a stream: from any number on, and in any process."""

from __future__ import annotations

import os
import time
from _thread import RLock, allocate_lock

from longshore.errors import InvalidArgument, StoreError
from longshore.linux.inotify import (
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Watch,
    poll,
)
from longshore.linux.steps import Sleep
from longshore.models import Event, Gap
from longshore.store.events import EventLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Generator
    from datetime import datetime
    from typing import Self

    from longshore.engine.machinery import Machinery

_CHANGED = IN_MODIFY | IN_CREATE | IN_DELETE | IN_ONLYDIR
_GONE = IN_DELETE_SELF | IN_MOVE_SELF
# The kernel does not tell of a directory's end while a file in it is open, as the reader's is.
_MAYBE_GONE = IN_DELETE | IN_Q_OVERFLOW


class EventStream:
    """The events of `Engine.events`, an iterator and a context manager. `close` it in the end.

    It yields an `Event` each, or a `Gap` where events are not kept any more. It takes no lock, a
    reader that is slow delays nobody, and what it holds in memory does not grow. Any thread may
    iterate it, one at a time.
    """

    __slots__ = (
        "_actions", "_bell", "_bell_guard", "_beyond", "_closed", "_containers", "_directory",
        "_follow", "_found", "_reached", "_reader", "_seq", "_steps", "_turn", "_until",
        "_until_ns",
    )  # fmt: skip

    def __init__(
        self,
        machinery: Machinery,
        *,
        since: int | datetime | None,
        until: int | datetime | None,
        containers: Collection[str],
        actions: Collection[str],
        follow: bool,
    ) -> None:
        """Private: use `Engine.events`. What happens from now on is not missed."""
        self._bell = -1
        for bound in (since, until):
            if isinstance(bound, int) and bound < 0:
                raise InvalidArgument(f"an event's number is not negative: {bound}")
        if follow:
            machinery.layout.prepare()  # there has to be something to watch
        else:
            machinery.layout.vet()
        self._directory = machinery.layout.events
        log = EventLog(self._directory)
        self._containers = containers
        self._actions = actions
        self._follow = follow
        self._until = until if isinstance(until, int) else None
        self._until_ns = None if until is None or isinstance(until, int) else _ns(until)
        if not follow:
            end = log.end()  # or a busy writer would keep us for ever
            end = max(0, end - 1)  # at the newline, where a reader is then
            self._until = end if self._until is None else min(self._until, end)
        first: list[Event | Gap] = []
        since_ns = 0
        if since is None and not follow:
            since, _ = log.since(0)
        elif since is not None and not isinstance(since, int):
            since_ns = _ns(since)
            since, whole = log.since(since_ns)
            if not whole:
                first.append(Gap(start=0, end=since))
        self._reader = log.reader(since, since_ns=since_ns)
        self._found = iter(first)
        self._beyond = 1 << 63  # the first one that was too late: who goes on wants it
        self._seq = self._reached = self._reader.seq
        self._closed = False
        self._turn = allocate_lock()
        self._bell_guard = RLock()
        self._steps = self._read()
        try:
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except BaseException:
            self._reader.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_bell", -1) >= 0:
            import warnings

            warnings.warn("unclosed EventStream", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __iter__(self) -> Self:
        return self

    @property
    def seq(self) -> int:
        """How far it has come: ``since=`` for who goes on from here, later or in another process.

        It is beyond the last event that was returned when others came that were not asked for.
        """
        return self._seq

    def __next__(self) -> Event | Gap:
        """Return the next one, asleep until there is one. It ends at ``until``, or by `close`."""
        try:
            with self._turn:
                while isinstance(found := self._advance(), Sleep):
                    poll(found.fds, found.deadline)
            if found is None:
                raise StopIteration
            return found
        finally:
            if self._closed:
                self._let_go()

    def advance(self) -> Event | Gap | Sleep | None:
        """Return the next one, or what to sleep for before it is asked again; None is the end.

        For event loops (`linux.steps`); while one sleeps, `end` takes the place of `close`.
        """
        try:
            with self._turn:
                return self._advance()
        finally:
            if self._closed:
                self._let_go()

    def _advance(self) -> Event | Gap | Sleep | None:
        while not self._closed:
            for one in self._found:
                self._seq = one.seq if isinstance(one, Event) else one.end
                return one
            self._seq = self._reached
            step = next(self._steps, None)
            if step is None:
                self._closed = True
            elif isinstance(step, Sleep):
                return step
            else:
                self._found = iter(step)
                self._reached = min(self._reader.seq, self._beyond - 1)
        return None

    def end(self) -> None:
        """Wake who sleeps for the next one; `advance` is the end then, and lets go."""
        with self._bell_guard:
            self._closed = True
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """End it, from any thread: who waits for the next one gets no more. Again is fine."""
        self.end()
        self._let_go()

    def _let_go(self) -> None:
        # Whoever is in its turn does this in the end, so there is no need to wait for it.
        if self._turn.acquire(blocking=False):
            try:
                self._steps.close()
                self._reader.close()
                with self._bell_guard:
                    bell, self._bell = self._bell, -1
                    if bell >= 0:
                        os.close(bell)
            finally:
                self._turn.release()

    def _read(self) -> Generator[Sleep | list[Event | Gap]]:
        """Yield what is found, and in between what to sleep for (`linux.steps`)."""
        if not self._follow:
            while found := self._reader.read():
                yield self._chosen(found)
                if self._is_over():
                    return
            return
        deadline = None
        if self._until_ns is not None:
            deadline = time.monotonic() + (self._until_ns - time.time_ns()) / 1e9
        with Watch() as watch:
            watch.add(self._directory, _CHANGED | _GONE)
            while True:
                # Asked before the log is read, so that all until then is seen.
                late = deadline is not None and time.monotonic() >= deadline
                while found := self._reader.read():
                    yield self._chosen(found)
                    if self._is_over():
                        return
                if late or self._is_over():
                    return
                yield Sleep(fds=(watch.fileno(), self._bell), deadline=deadline)
                told = watch.take()
                if told & (_GONE | IN_IGNORED) or (told & _MAYBE_GONE and self._reader.orphaned()):
                    raise StoreError(f"the events were removed: {self._directory}")

    def _is_over(self) -> bool:
        return self._until is not None and self._reader.seq >= self._until

    def _chosen(self, found: list[Event | Gap]) -> list[Event | Gap]:
        return [one for one in found if isinstance(one, Gap) or self._wants(one)]

    def _wants(self, event: Event) -> bool:
        late = self._until is not None and event.seq > self._until
        if late or (self._until_ns is not None and event.time_ns > self._until_ns):
            self._beyond = min(self._beyond, event.seq)
            return False
        if self._actions and event.action not in self._actions:
            return False
        return not self._containers or any(is_of(event, ref) for ref in self._containers)


def is_of(event: Event, ref: str) -> bool:
    """Whether an event is of the container with this name (then), id, or beginning of an id."""
    return ref in (event.name, event.attributes.get("oldName")) or event.id.startswith(ref)


def _ns(moment: datetime) -> int:
    return int(moment.timestamp() // 1) * 10**9 + moment.microsecond * 1000
