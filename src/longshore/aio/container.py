"""The handle of one container for asyncio: `longshore.Container`, awaited."""

from __future__ import annotations

import contextlib
import itertools

from longshore.aio.inside import Inside
from longshore.aio.loop import call, call_or_undo, go_on, sleep, take, take_to_the_end, taken
from longshore.engine import logs, stopping, waiting
from longshore.engine.container import Container as SyncContainer
from longshore.engine.trace import UNTRACED
from longshore.linux.steps import Sleep
from longshore.options.parse import parse_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine
    from types import TracebackType
    from typing import Any, Self, Unpack

    from longshore.engine.eventstream import EventStream as SyncEventStream
    from longshore.engine.inspection import Inspection
    from longshore.engine.trace import Trace
    from longshore.lifecycle import Status
    from longshore.models import ContainerId, Event, ExitInfo, Gap, LogRecord
    from longshore.options import UpdateOptions


_BATCH = 256  # records of a log that are read at once


class Container(Inside):
    """One container; see `longshore.Container`. May be used from several event loops.

    Cancelling what is done in a moment is passed on when it is done; what waits (`wait`, `logs`)
    lets go at once and changes nothing.
    """

    __slots__ = ("_sync",)

    def __init__(self, sync: SyncContainer) -> None:
        """Private: use the engine's `create`, `get` and `list`."""
        self._sync = sync

    def __repr__(self) -> str:
        return repr(self._sync)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Container) and other._sync == self._sync

    def __hash__(self) -> int:
        return hash(self._sync)

    @property
    def id(self) -> ContainerId:
        """Its id."""
        return self._sync.id

    @property
    def name(self) -> Coroutine[Any, Any, str]:
        """Its name now: ``await box.name``."""
        return call(lambda: self._sync.name)

    @property
    def status(self) -> Coroutine[Any, Any, Status]:
        """Its status now, computed from facts: ``await box.status``."""
        return call(lambda: self._sync.status)

    async def start(
        self, *, console_size: tuple[int, int] | None = None, trace: Trace = UNTRACED
    ) -> None:
        """Start it; when this returns its program has begun. CREATED, STOPPED, EXITED → RUNNING.

        Cancelled, the start is finished and then taken back: what it has begun is killed.
        """

        def undo(begun: bool) -> None:
            if begun:
                self._sync.stop(0)
                self._sync.cleanup()

        await call_or_undo(lambda: self._sync._start(console_size=console_size, trace=trace), undo)

    async def wait(self, timeout: float | None = None, *, condition: str = "exited") -> ExitInfo:
        """Wait until it has ended and return how. Cancelled, it changes nothing.

        No thread waits: the event loop sleeps on a descriptor. `longshore.Container.wait` has the
        conditions.
        """
        machinery = self._sync._machinery
        return await take(waiting.condition_steps(machinery, self.id, condition, timeout=timeout))

    async def wait_status(self, *wanted: Status, timeout: float | None = None) -> Status:
        """Wait until its status is one of these, and return it. Cancelled, it changes nothing."""
        machinery = self._sync._machinery
        return await take(waiting.status_steps(machinery, self.id, wanted, timeout=timeout))

    async def stop(
        self,
        timeout: float | None = None,
        *,
        signal: str | int | None = None,
        fast_stop: bool = True,
    ) -> ExitInfo | None:
        """Stop it: its stop signal, ``timeout`` seconds of grace, then SIGKILL. → EXITED.

        Cancelled, the stop goes on: a signal cannot be called back, and the grace was promised.
        No thread waits for the grace to pass, except of a stop that was cancelled.
        """
        number = None if signal is None else parse_signal(signal)
        steps = stopping.stop_steps(
            self._sync._machinery, self.id, signal=number, timeout=timeout, fast=fast_stop
        )
        return await take_to_the_end(steps)

    async def kill(self, signal: str | int = "KILL") -> None:
        """Send a signal to its pid 1, by name or number. RUNNING or PAUSED; does not wait."""
        await call(self._sync.kill, signal)

    async def drops(self, signal: str | int) -> bool:
        """Whether the kernel would drop a signal because its pid 1 has no handler for it."""
        return await call(self._sync.drops, signal)

    async def pause(self) -> None:
        """Freeze all of its processes. RUNNING → PAUSED."""
        await call(self._sync.pause)

    async def unpause(self) -> None:
        """Let its processes go on. PAUSED → RUNNING."""
        await call(self._sync.unpause)

    async def update(self, **limits: Unpack[UpdateOptions]) -> None:
        """Change its limits: at once where it runs, and for every later start."""
        await call(lambda: self._sync.update(**limits))

    async def restart(self, timeout: float | None = None) -> None:
        """Stop it as `stop` does, then start it. Cancelled, it goes on."""
        await take_to_the_end(self._sync._restart_steps(timeout))

    async def remove(
        self,
        *,
        force: bool = False,
        timeout: float | None = None,
        missing_ok: bool = False,
        depend: bool = False,
    ) -> None:
        """Remove it and all its files. Cancelled, it goes on."""
        await go_on(
            self._sync.remove, force=force, timeout=timeout, missing_ok=missing_ok, depend=depend
        )

    async def cleanup(self) -> None:
        """Write its exit down and take away what its run left, as conmon's exit command does."""
        await call(self._sync.cleanup)

    async def inspect(self) -> Inspection:
        """Return all there is to know about it at this moment. Takes no lock."""
        return await call(self._sync.inspect)

    async def logs(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        after: str = "",
    ) -> AsyncGenerator[LogRecord]:
        """Yield what it has printed; with ``follow``, until the end of the run and its last byte.

        No thread waits for what is yet to come.
        """
        machinery = self._sync._machinery
        if not follow:
            kept = await call(
                self._sync.logs, tail=tail, since_ns=since_ns, until_ns=until_ns, after=after
            )
            while some := await call(lambda: [*itertools.islice(kept, _BATCH)]):
                for record in some:
                    yield record
            return
        steps = await call(
            logs.follow_steps,
            machinery,
            self.id,
            tail=tail,
            since_ns=since_ns,
            until_ns=until_ns,
            after=after,
        )
        async with contextlib.aclosing(taken(steps)) as batches:
            async for records in batches:
                for record in records:
                    yield record

    async def output(self) -> AsyncGenerator[tuple[str, bytes]]:
        """Yield all output of its run as (stream, data), from its beginning to its last byte."""
        steps = logs.output_steps(self._sync._machinery, self.id)
        async with contextlib.aclosing(taken(steps)) as batches:
            async for pieces in batches:
                for piece in pieces:
                    yield piece

    async def rename(self, name: str) -> None:
        """Give it another name, in any status. NameInUse; InvalidArgument."""
        await call(self._sync.rename, name)

    async def feed(self, source: int | bytes) -> None:
        """Copy a descriptor, or bytes, to its standard input; stay until the container has ended.

        A thread is busy meanwhile, and goes on if this is cancelled.
        """
        await go_on(self._sync.feed, source)

    def attended(self) -> Attendance:
        """Start it inside an ``async with`` block, and this process cleans up at its end."""
        return Attendance(self._sync)


class Attendance:
    """A process that stays with a container until its end; see `Container.attended`."""

    __slots__ = ("_attendance",)

    def __init__(self, box: SyncContainer) -> None:
        self._attendance = box.attended()

    async def __aenter__(self) -> Self:
        self._attendance.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await call(self._attendance.__exit__, kind, error, trace)


class EventStream:
    """The events of `Engine.events`. `close` it in the end, or leave its context."""

    __slots__ = ("_asleep", "_sync")

    def __init__(self, sync: SyncEventStream) -> None:
        self._sync = sync
        self._asleep = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @property
    def seq(self) -> int:
        """How far it has come: ``since=`` for who goes on from here, in any process."""
        return self._sync.seq

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Gap:
        while True:
            found = await call(self._sync.advance)
            if found is None:
                raise StopAsyncIteration
            if not isinstance(found, Sleep):
                return found
            self._asleep = True
            try:
                await sleep(found)
            finally:
                self._asleep = False

    def close(self) -> None:
        """End it: who waits for the next one gets no more. Again is fine."""
        if self._asleep:
            self._sync.end()  # who sleeps lets go of it
        else:
            self._sync.close()
