"""asyncio: nothing blocks the loop, few threads wait, and each cancellation does what it says."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from hostlife import LIMITS, REFUSES, SLEEP, TRAPS
from longshore import (
    ContainerFailed,
    Engine,
    ExitReason,
    NoSuchContainer,
    OperationTimeout,
    Status,
    Trace,
    aio,
)
from longshore.aio import loop as aio_loop

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    asyncio.new_event_loop,
    uvloop.new_event_loop,
]
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as _first:
    _first.run(asyncio.sleep(0))  # libuv keeps a pipe of its own from then on


class Detector:
    """What would block is noticed when the loop's own thread does it (PEP 578)."""

    BLOCKING = frozenset({"open", "subprocess.Popen", "os.listdir", "os.scandir", "fcntl.flock"})

    def __init__(self) -> None:
        self.thread = 0
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event in self.BLOCKING and threading.get_ident() == self.thread:
            self.seen.append(f"{event} {args[:1]}")

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        self.seen.clear()
        self.thread = threading.get_ident()
        try:
            yield
        finally:
            self.thread = 0
        assert not self.seen, self.seen


DETECTOR = Detector()


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def go(request: pytest.FixtureRequest) -> Callable[[Awaitable[Any]], Any]:
    def run(what: Awaitable[Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(what, 100))

    return run


@pytest.fixture(autouse=True)
def no_threads() -> Iterator[None]:
    yield
    pools, aio_loop._pools = aio_loop._pools, None
    if pools is not None:
        pools.calls.shutdown()
        pools.steps.shutdown()
    gc.collect()


@pytest.fixture
def face(engine: Engine) -> aio.Engine:
    face = aio.Engine(settings=engine.settings)
    face._sync = engine
    return face


def test_run(go: Any, face: aio.Engine, busybox_rootfs: Path) -> None:
    async def main() -> None:
        result = await face.run(
            command=["sh", "-c", "cat; echo no >&2; exit 3"], rootfs=busybox_rootfs, input=b"hi"
        )
        assert (result.stdout, result.stderr, result.exit.code) == (b"hi", b"no\n", 3)
        for limit in LIMITS:
            late = await face.run(
                command=["sh", "-c", "echo so far; sleep 100"], rootfs=busybox_rootfs, timeout=limit
            )
            assert late.exit.reason is ExitReason.TIMEOUT
            if late.stdout:
                break
        assert late.stdout == b"so far\n"
        with pytest.raises(ContainerFailed):
            await face.run(command=["false"], rootfs=busybox_rootfs, check=True)
        assert await face.list(all=True) == []

    go(main())


def test_a_life_and_nothing_blocks(go: Any, face: aio.Engine, busybox_rootfs: Path) -> None:
    async def life() -> None:
        box = await face.create(command=["sh", "-c", TRAPS], rootfs=busybox_rootfs, name="box")
        async with await face.events(since=0) as events:
            assert await box.status is Status.CREATED
            waiting = asyncio.create_task(box.wait())
            running = asyncio.create_task(box.wait_status(Status.RUNNING))
            await box.start()
            assert await running is Status.RUNNING
            logs = box.logs(follow=True)
            assert (await anext(logs)).data == b"ready\n"
            await box.pause()
            await box.unpause()
            assert await box.name == "box"
            assert next(p.pid for p in await box.top()) == 1
            assert (await box.stats()).name == "box"
            info = await box.stop(20)
            assert info is not None
            assert (info.code, info.reason) == (5, ExitReason.STOPPED)
            assert await waiting == info
            assert [record.data async for record in logs] == [b"got it\n"]
            assert [d async for _, d in box.output()] != []
            assert await box.wait(condition="exited") == info
            with pytest.raises(OperationTimeout):
                await box.wait(0.01, condition="next_exit")
            await box.remove()
            assert await face.exit_of(box.id) == info
            with pytest.raises(NoSuchContainer):
                await face.get("box")
            seen = []
            async for event in events:
                seen.append(event)
                if getattr(event, "action", "") == "remove":
                    break
            assert len(seen) >= 5

    async def twice() -> None:
        await life()  # modules are imported by the first
        with DETECTOR.watching():
            await life()

    go(twice())


async def all_asleep(count: int) -> None:
    """Wait until so many sleep in this event loop, and nobody does anything else."""
    loop = asyncio.get_running_loop()
    while True:
        used = time.process_time()
        await asyncio.sleep(0.2)
        if aio_loop._listeners.get(loop) == count and time.process_time() - used < 0.01:
            return


def test_async_waiters(go: Any, face: aio.Engine, busybox_rootfs: Path) -> None:
    async def main() -> None:
        boxes = [
            await face.create(command=["sh", "-c", SLEEP], rootfs=busybox_rootfs) for _ in range(4)
        ]
        for box in boxes:
            await box.start()
        calls = aio_loop._threads().calls
        calls.shutdown()  # what has started them is not what waits
        before = threading.active_count()
        waits = [asyncio.create_task(boxes[i % 4].wait()) for i in range(1000)]
        await all_asleep(len(waits))
        assert threading.active_count() - before + 1 < 5
        idle = time.process_time()
        await asyncio.sleep(1.0)
        assert time.process_time() - idle < 0.2
        assert not any(wait.done() for wait in waits)
        for wait in waits[:100]:
            wait.cancel()
        sync = face._sync
        for box in boxes:
            await asyncio.to_thread(sync.get(box.id).kill)
        found = await asyncio.gather(*waits, return_exceptions=True)
        assert sum(isinstance(one, asyncio.CancelledError) for one in found) == 100
        assert {one.code for one in found if not isinstance(one, BaseException)} == {137}

    go(main())


def test_a_cancelled_run_leaves_nothing(go: Any, face: aio.Engine, busybox_rootfs: Path) -> None:
    async def main() -> None:
        for delay in (0.0, 0.01, 0.03, 0.06, 0.3):
            for data in (None, b"x"):
                task = asyncio.create_task(
                    face.run(command=["sleep", "1000"], rootfs=busybox_rootfs, input=data)
                )
                await asyncio.sleep(delay)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await face.list(all=True) == []

    go(main())


class CancelsAt(Trace):
    """Cancels a task of an event loop when a phase of its start has ended, and not a moment later.

    The start, which is in a thread, goes on when the loop knows of it.
    """

    def __init__(self, phase: str) -> None:
        super().__init__()
        self._phase = phase
        self.loop = asyncio.get_running_loop()
        self.task: asyncio.Task[None] | None = None
        self.cancelled = threading.Event()

    def mark(self, phase: str) -> None:
        super().mark(phase)
        if phase == self._phase:
            self.loop.call_soon_threadsafe(self._cancel)
            assert self.cancelled.wait(30)

    def _cancel(self) -> None:
        assert self.task is not None
        self.task.cancel()
        self.loop.call_soon(self.cancelled.set)


def test_a_cancelled_run_does_not_block(go: Any, face: aio.Engine, busybox_rootfs: Path) -> None:
    async def cancelled() -> None:
        script = "head -c 1 >/dev/null; echo it comes; exec sleep 1000"
        async with await face.events(actions=["start"]) as events:
            task = asyncio.create_task(
                face.run(command=["sh", "-c", script], rootfs=busybox_rootfs, input=bytes(1 << 20))
            )
            await anext(aiter(events))
        (box,) = await face.list()
        # More is being written than anything on its way holds, and nobody reads the rest of it.
        logs = box.logs(follow=True)
        assert (await anext(logs)).data == b"it comes\n"
        await logs.aclose()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def twice() -> None:
        await cancelled()
        with DETECTOR.watching():
            await cancelled()
        assert await face.list(all=True) == []

    go(twice())


def test_what_lasts_keeps_no_short_call_waiting(
    go: Any, face: aio.Engine, busybox_rootfs: Path
) -> None:
    """More are under way than there are threads for short calls, and one of these ends them."""

    async def main() -> None:
        box = await face.create(command=["sh", "-c", SLEEP], rootfs=busybox_rootfs)
        await box.start()
        ways = [await box.popen(["sleep", "1001"]) for _ in range(aio_loop._CALLS + 4)]
        while sum("1001" in p.command for p in await box.top()) < len(ways):
            await asyncio.sleep(0.05)
        lasting = [asyncio.create_task(way.communicate(timeout=60)) for way in ways]
        await asyncio.sleep(0)
        await box.kill()
        assert (await box.wait(60)).code == 137
        assert {*await asyncio.gather(*lasting)} == {(b"", b"")}
        assert {way.returncode for way in ways} == {137}

    go(main())


def test_no_thread_waits_for_a_grace_or_an_output(
    go: Any, face: aio.Engine, busybox_rootfs: Path
) -> None:
    async def main() -> None:
        box = await face.create(command=["sh", "-c", REFUSES], rootfs=busybox_rootfs)
        await box.start()
        assert await anext(box.logs(follow=True))
        way = await box.popen(["sh", "-c", "cat; sleep 1000"], stdin=True)
        reading = asyncio.create_task(way.communicate(b"x" * (1 << 20)))
        stopping = asyncio.create_task(box.stop(1000))
        assert await anext(record async for record in box.logs(follow=True) if b"no" in record.data)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(reading), 0.2)
        assert aio_loop._threads().lasting._threads == set()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        again = asyncio.create_task(way.communicate())
        await asyncio.sleep(0.1)
        await way.kill()
        assert await again == (b"x" * (1 << 20), b"")
        assert not stopping.done()
        await box.kill()
        info = await stopping
        assert info is not None and info.code == 137

    go(main())


def test_a_cancelled_start_is_taken_back(go: Any, face: aio.Engine, busybox_rootfs: Path) -> None:
    async def main() -> None:
        box = await face.create(command=["sh", "-c", SLEEP], rootfs=busybox_rootfs)
        whole = Trace()
        await box.start(trace=whole)
        await box.stop(0)
        for phase, _ in whole.phases:
            trace = CancelsAt(phase)
            trace.task = task = asyncio.create_task(box.start(trace=trace))
            with pytest.raises(asyncio.CancelledError):
                await task
            assert trace.cancelled.is_set(), phase
            assert await box.status is Status.EXITED, phase
        task = asyncio.create_task(box.start())
        await asyncio.sleep(0)  # it is with its thread
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await box.status is Status.EXITED

    go(main())


def test_a_cancelled_start_of_one_that_runs_lets_it_run(
    go: Any, face: aio.Engine, busybox_rootfs: Path
) -> None:
    async def main() -> None:
        box = await face.create(command=["sh", "-c", SLEEP], rootfs=busybox_rootfs)
        await box.start()
        task = asyncio.create_task(box.start())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await box.status is Status.RUNNING

    go(main())


def test_a_cancelled_stop_goes_on(go: Any, face: aio.Engine, busybox_rootfs: Path) -> None:
    async def cancelled(task: asyncio.Task[Any]) -> None:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def before_it_has_done_anything() -> None:
        box = await face.create(command=["sh", "-c", REFUSES], rootfs=busybox_rootfs)
        await box.start()
        assert await anext(box.logs(follow=True))
        with face._sync._machinery.store.locked(box.id, "hold the stop up"):
            task = asyncio.create_task(box.stop(0.1))
            await asyncio.sleep(0)  # it is with its thread
            await cancelled(task)
        assert (await box.wait(30)).reason is ExitReason.STOP_ESCALATED

    async def in_its_grace() -> None:
        script = f"trap 'exit 6' USR1; {REFUSES}"
        box = await face.create(command=["sh", "-c", script], rootfs=busybox_rootfs)
        await box.start()
        logs = box.logs(follow=True)
        assert (await anext(logs)).data == b"ready\n"
        task = asyncio.create_task(box.stop(1000))
        assert (await anext(logs)).data == b"no\n"
        await cancelled(task)
        await box.kill("USR1")
        info = await box.wait(30)
        assert (info.code, info.reason) == (6, ExitReason.STOPPED)
        await logs.aclose()
        await box.wait_status(Status.EXITED, timeout=30)

    async def main() -> None:
        await before_it_has_done_anything()
        await in_its_grace()

    go(main())


def test_exec(go: Any, face: aio.Engine, busybox_rootfs: Path) -> None:
    async def uses(box: aio.Container) -> None:
        result = await box.exec(["sh", "-c", "cat; echo e >&2; exit 4"], input=b"in")
        assert (result.stdout, result.stderr, result.exit.code) == (b"in", b"e\n", 4)
        for limit in LIMITS:
            late = await box.exec(["sh", "-c", "echo a; sleep 100"], timeout=limit)
            assert late.exit.reason is ExitReason.TIMEOUT
            if late.stdout:
                break
        assert late.stdout == b"a\n"
        many = await asyncio.gather(*(box.exec(["echo", str(i)]) for i in range(20)))
        assert [one.stdout for one in many] == [b"%d\n" % i for i in range(20)]

    async def main() -> None:
        box = await face.create(command=["sh", "-c", SLEEP], rootfs=busybox_rootfs)
        await box.start()
        await uses(box)
        with DETECTOR.watching():
            await uses(box)

    go(main())


def test_a_cancelled_exec_is_gone(go: Any, face: aio.Engine, busybox_rootfs: Path) -> None:
    async def main() -> None:
        box = await face.create(command=["sh", "-c", SLEEP], rootfs=busybox_rootfs)
        await box.start()
        for delay in (0.0, 0.02, 0.3):
            script = "setsid sleep 1000 & sleep 1001"
            task = asyncio.create_task(box.exec(["sh", "-c", script]))
            await asyncio.sleep(delay)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [p.pid for p in await box.top()] == [1]

    go(main())


def test_popen(go: Any, face: aio.Engine, busybox_rootfs: Path) -> None:
    async def uses(box: aio.Container) -> None:
        async with await box.popen(["cat"], stdin=True) as cat:
            assert cat.stdin is not None
            assert cat.stdout is not None
            for line in (b"one\n", b"two\n"):
                assert await cat.stdin.write(line) == 4
                assert await cat.stdout.readline() == line
            big = os.urandom(300_000)
            writing = asyncio.create_task(cat.stdin.write(big))
            assert await cat.stdout.read(len(big)) == big
            await writing
            await cat.stdin.close()
            assert await cat.stdout.read() == b""
            assert (await cat.wait(10)).ok
        script = "echo ä; echo b >&2; exit 7"
        async with await box.popen(["sh", "-c", script], text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert [line async for line in process.stdout] == ["ä\n"]
            assert await process.stderr.read() == "b\n"
            waits = [process.wait() for _ in range(3)]
            assert {one.code for one in await asyncio.gather(*waits)} == {7}
            assert process.returncode == 7

    async def main() -> None:
        box = await face.create(command=["sh", "-c", SLEEP], rootfs=busybox_rootfs)
        await box.start()
        await uses(box)
        with DETECTOR.watching():
            await uses(box)
        with pytest.raises(RuntimeError):
            async with await box.popen(["sleep", "1000"]) as process:
                with pytest.raises(OperationTimeout):
                    await process.wait(0.05)
                raise RuntimeError
        assert process.exit is not None
        assert process.exit.code == 137
        out, _ = await (await box.popen(["echo", "x"])).communicate()
        assert out == b"x\n"

    go(main())


def test_events_end_when_they_are_closed(go: Any, face: aio.Engine, busybox_rootfs: Path) -> None:
    async def main() -> None:
        events = await face.events()

        async def read() -> list[Any]:
            return [event async for event in events]

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.2)
        events.close()
        assert await asyncio.wait_for(reading, 10) == []
        events.close()

    go(main())


def test_attach(go: Any, face: aio.Engine, busybox_rootfs: Path) -> None:
    async def main() -> None:
        box = await face.create(
            command=["sh", "-c", "echo hello; cat; echo bye"],
            rootfs=busybox_rootfs,
            interactive=True,
        )
        async with await box.attach(stdin=True, start=True) as attached:
            assert await anext(attached) == ("stdout", b"hello\n")
            waiting = asyncio.create_task(anext(attached))
            await asyncio.sleep(0.1)
            waiting.cancel()  # loses nothing
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            await attached.write(b"there")
            await attached.close_stdin()
            rest = b"".join([data async for _, data in attached])
            assert rest == b"therebye\n"
        assert (await box.wait(30)).ok

    go(main())


def test_files(go: Any, face: aio.Engine, busybox_rootfs: Path, tmp_path: Path) -> None:
    async def main() -> None:
        box = await face.create(command=["sh", "-c", SLEEP], rootfs=busybox_rootfs)
        await box.start()
        await box.write_file("/tmp-file", b"data", mode=0o600)
        assert await box.read_file("/tmp-file") == b"data"
        await box.copy_out("/tmp-file", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == b"data"
        await box.copy_in(tmp_path / "out", "/again")
        assert (await box.exec(["cat", "/again"])).stdout == b"data"

    go(main())
