"""How the async face waits: natively on descriptors; what is short and blocks runs in threads.

Short calls (a record read, a start, a kill) go to a pool of threads that grows with what is under
way at once, up to `_CALLS`. What a container or its reader can draw out (a copy, a removal's grace)
has a thread each, so that it keeps no short call waiting. Long waits are steps (`linux.steps`): the
event loop sleeps on their descriptors, and each step itself, which reads or writes a few files, is
taken by one of `_STEPPERS` threads, so that the loop never blocks and a thousand waits have no
thousand threads.

A call in a thread cannot be interrupted. It is shielded: a cancelled caller waits for its end, has
it taken back where that is promised, and is cancelled then.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

from longshore.linux import inotify
from longshore.linux.steps import Sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Generator
    from typing import Any, ParamSpec, TypeVar

    from longshore.linux.steps import Steps

    _P = ParamSpec("_P")
    _T = TypeVar("_T")

_CALLS = 32  # threads, at most; a start is 40 ms of waiting for others
_LASTING = 1 << 16  # as many as there are calls; idle ones are used again
_STEPPERS = 3  # threads


class _Pools:
    """The threads, made when they are first needed; a child of fork makes its own."""

    def __init__(self) -> None:
        self.calls = ThreadPoolExecutor(_CALLS, thread_name_prefix="longshore-call")
        self.lasting = ThreadPoolExecutor(_LASTING, thread_name_prefix="longshore-lasting")
        self.steps = ThreadPoolExecutor(_STEPPERS, thread_name_prefix="longshore-step")


_pools: _Pools | None = None


def _forget_pools() -> None:
    global _pools
    _pools = None


os.register_at_fork(after_in_child=_forget_pools)


def _threads() -> _Pools:
    global _pools
    if _pools is None:
        _pools = _Pools()
    return _pools


async def call(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run something short in a thread. Cancelled, it is done all the same, before this returns."""
    return await _finished(_threads().calls, functools.partial(function, *args, **kwargs), None)


async def call_or_undo(function: Callable[[], _T], undo: Callable[[_T], object]) -> _T:
    """Run something short in a thread; what it made is undone if its caller was cancelled."""
    return await _finished(_threads().calls, function, undo)


async def until_interrupted(function: Callable[[], _T], interrupt: Callable[[], object]) -> _T:
    """Run something that may last in a thread of its own. Cancelled, it is interrupted, by a call
    in another thread, and its end is awaited."""
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(_threads().lasting, function)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await _settled(loop.run_in_executor(_threads().lasting, interrupt))
        await _settled(future)
        raise


async def go_on(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run something that may last in a thread of its own, which a cancelled caller leaves to it."""
    work = functools.partial(function, *args, **kwargs)
    future = asyncio.get_running_loop().run_in_executor(_threads().lasting, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_look_at)
        raise


def _look_at(future: asyncio.Future[_T]) -> None:
    if not future.cancelled():
        future.exception()  # nobody is left to be told


async def _finished(
    pool: ThreadPoolExecutor,
    function: Callable[[], _T],
    undo: Callable[[_T], object] | None,
) -> _T:
    future = asyncio.get_running_loop().run_in_executor(pool, function)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await _settled(future)
        if undo is not None and future.exception() is None:
            made = future.result()
            back = asyncio.get_running_loop().run_in_executor(pool, functools.partial(undo, made))
            await _settled(back)
            with contextlib.suppress(Exception):
                back.result()  # the cancellation is what the caller is told of
        raise


async def _settled(future: asyncio.Future[_T]) -> None:
    """Wait for a future's end, however often that is cancelled."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()  # looked at: nothing to warn of


async def take(steps: Steps[_T]) -> _T:
    """Take all steps and return what they lead to. Cancelled, it lets go at once."""
    stepping = Stepping(steps)
    try:
        while True:
            found = await stepping.next()
            if found is None:
                result: _T = stepping.result
                return result
            assert isinstance(found, Sleep)
            await sleep(found)
    finally:
        await stepping.close()


async def take_to_the_end(steps: Steps[_T]) -> _T:
    """Take all steps, each of which is a short call, and return what they lead to.

    Cancelled, it returns at once, and a thread of its own goes on with what is left of them.
    """
    loop = asyncio.get_running_loop()
    stepping = Stepping(steps, _threads().calls)
    try:
        while (found := await stepping.next(shielded=False)) is not None:
            await sleep(found)
    except asyncio.CancelledError:
        loop.run_in_executor(_threads().lasting, stepping.run_out).add_done_callback(_look_at)
        raise
    result: _T = stepping.result
    return result


async def taken(steps: Generator[Sleep | _T]) -> AsyncGenerator[_T]:
    """Yield what steps have found on their way."""
    stepping = Stepping(steps)
    try:
        while (found := await stepping.next()) is not None:
            if isinstance(found, Sleep):
                await sleep(found)
            else:
                yield found
    finally:
        await stepping.close()


class Stepping:
    """A generator whose steps are taken by threads, one by one. Cancelling loses none of them."""

    __slots__ = ("_over", "_pool", "_steps", "_taken", "_turn", "result")

    def __init__(
        self, steps: Generator[Any, None, Any], pool: ThreadPoolExecutor | None = None
    ) -> None:
        """``pool`` is for steps that are more than looking at a few files."""
        self._steps = steps
        self._pool = pool or _threads().steps
        self._turn = threading.Lock()
        self._taken: Any = None  # by a step whose caller was cancelled
        self._over = False
        self.result: Any = None

    async def next(self, *, shielded: bool = True) -> Any:
        """Return what the next step yields; None at the end, and ``result`` is set.

        Cancelled, one that is not ``shielded`` leaves the step under way to `run_out`.
        """
        if self._taken is None and not self._over:
            if shielded:
                await _finished(self._pool, self._next, None)
            else:
                step = asyncio.get_running_loop().run_in_executor(self._pool, self._next)
                step.add_done_callback(_look_at)
                await asyncio.shield(step)
        found, self._taken = self._taken, None
        return found

    def _next(self) -> None:
        with self._turn:
            self._step()

    def _step(self) -> None:
        try:
            self._taken = next(self._steps)
        except StopIteration as end:
            self.result = end.value
            self._over = True

    def run_out(self) -> None:
        """Take what is left of the steps in this thread, asleep in between."""
        with self._turn:
            while self._taken is not None or not self._over:
                if self._taken is None:
                    self._step()
                else:
                    asleep, self._taken = self._taken, None
                    inotify.poll(asleep.fds, asleep.deadline)

    async def close(self) -> None:
        """Let go of everything; short."""
        await _finished(self._pool, self._steps.close, None)


async def sleep(asleep: Sleep) -> None:
    """Sleep until one of the descriptors is readable, or the moment has come."""
    with listening():
        await ready(asleep.fds, until=asleep.deadline)


async def ready(
    readers: Collection[int], writers: Collection[int] = (), *, until: float | None = None
) -> bool:
    """Sleep until a descriptor is readable, or writable (True), or a moment has come (False).

    ``until`` is a `time.monotonic` moment. Nobody else in this loop may wait for one of them.
    """
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[bool] = loop.create_future()

    def wake(how: bool = True) -> None:
        if not woken.done():
            woken.set_result(how)

    left = None if until is None else max(0.0, until - time.monotonic())
    timer = loop.call_later(left, wake, False) if left is not None else None
    try:
        for fd in readers:
            loop.add_reader(fd, wake)
        for fd in writers:
            loop.add_writer(fd, wake)
        return await woken
    finally:
        for fd in readers:
            loop.remove_reader(fd)
        for fd in writers:
            loop.remove_writer(fd)
        if timer is not None:
            timer.cancel()


_listeners: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def listening() -> Generator[None]:
    """Let this loop read the process's inotify instance while anybody in it waits."""
    loop = asyncio.get_running_loop()
    count = _listeners.get(loop, 0)
    if count == 0:
        loop.add_reader(inotify.descriptor(), inotify.dispatch)
    _listeners[loop] = count + 1
    try:
        yield
    finally:
        _listeners[loop] -= 1
        if _listeners[loop] == 0:
            loop.remove_reader(inotify.descriptor())
