"""threads_fork, parallel_start, async_waiters: many at once, from threads and after a fork."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

import hostkit
from hostlife import SLEEP, eventually, forked, in_fork, make, ready, started
from longshore import Engine, ExitInfo, ExitReason
from longshore.engine.logs import follow_steps
from longshore.engine.waiting import exit_steps, removal_steps
from longshore.errors import LongshoreError, NameInUse
from longshore.lifecycle import Status
from longshore.linux import inotify
from longshore.linux.steps import Sleep

T = TypeVar("T")


def test_sixteen_threads(engine: Engine, busybox_rootfs: Path) -> None:
    def both(number: int) -> list[tuple[bytes, int]]:
        script = f"echo {number}; exit {number}"
        command = ["sh", "-c", script]
        results = [engine.run(command=command, rootfs=busybox_rootfs) for _ in range(2)]
        return [(result.stdout, result.returncode) for result in results]

    with ThreadPoolExecutor(16) as pool:
        for number, results in enumerate(pool.map(both, range(16))):
            assert results == [(b"%d\n" % number, number)] * 2
    assert engine.inspect_all() == []


def test_parallel_start(engine: Engine, busybox_rootfs: Path) -> None:
    boxes = [make(engine, busybox_rootfs, SLEEP) for _ in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda box: box.start(), boxes))
        found = engine.inspect_all()
        assert {f.id for f in found if f.status is Status.RUNNING} == {box.id for box in boxes}
        assert len({f.pid for f in found}) == 24
        list(pool.map(lambda box: box.remove(force=True), boxes))
    assert engine.inspect_all() == []


def test_after_a_fork(engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]) -> None:
    box = started(engine, busybox_rootfs, SLEEP)

    def child() -> None:
        assert engine.run(command=["echo", "hi"], rootfs=busybox_rootfs).stdout == b"hi\n"
        assert box.inspect().status is Status.RUNNING
        box.stop(0)
        box.start()

    assert in_fork(child) == 0
    assert box.inspect().status is Status.RUNNING
    assert len(box.inspect().exits) == 1
    assert engine.run(command=["echo", "hi"], rootfs=busybox_rootfs).stdout == b"hi\n"
    box.remove(force=True)


def test_forks_in_the_middle(engine: Engine, busybox_rootfs: Path) -> None:
    """A fork while other threads hold locks and leases: the child keeps none of them."""
    done = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not done.is_set():
                engine.run(command=["true"], rootfs=busybox_rootfs)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            try:
                threading.Event().wait(0.3)  # outlives what the parent was at
            finally:
                os._exit(0)
        children.append(pid)
        threading.Event().wait(0.05)
    done.set()
    for thread in threads:
        thread.join()
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    assert errors == []


def test_one_name_for_many(engine: Engine, busybox_rootfs: Path) -> None:
    barrier = threading.Barrier(8)

    def create(_: int) -> bool:
        barrier.wait()
        try:
            make(engine, busybox_rootfs, "true", name="box")
        except NameInUse:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1
    assert [found.name for found in engine.inspect_all()] == ["box"]


def test_everybody_at_one_container(
    engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]
) -> None:
    """Starts, stops and kills of one container from many threads: refused, or done, and no mess."""
    host = hostkit.Host()
    box = make(engine, busybox_rootfs, SLEEP)

    def one(number: int) -> None:
        operations = (box.start, lambda: box.stop(0), box.kill, box.restart, box.pause, box.unpause)
        try:
            operations[number % len(operations)]()
        except LongshoreError:
            pass
        box.inspect()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(48)))
    box.remove(force=True)
    assert not host.left_after(hostkit.PATIENCE)


# --- waiting -----------------------------------------------------------------------------------


def descriptors(kind: str) -> int:
    """Return how many descriptors of a kind this process has."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(entry))
    return links.count(f"anon_inode:{kind}")


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Room for some thousand descriptors: a soft limit of 1024 is usual."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hostkit.needs("a hard limit of 4096 open files", hard, hard >= 4096)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def calm() -> None:
    """Wait until this process does nothing; it fails when that never comes."""
    before = [-1.0]

    def still() -> bool:
        before.append(time.process_time())
        time.sleep(0.2)
        return time.process_time() - before[-1] < 0.01

    eventually(still, patience=60)


def test_hundreds_wait_and_follow_in_threads(
    engine: Engine, busybox_rootfs: Path, many_descriptors: None
) -> None:
    """200 who follow and 300 who wait, on six containers: each gets all of it, and no more."""
    script = "echo ready; read x; for n in 1 2 3; do echo $n; done; echo end >&2; exit $((x))"
    boxes = [
        ready(started(engine, busybox_rootfs, script, interactive=True, name=f"box{number}"))
        for number in range(5)
    ]
    never = make(engine, busybox_rootfs, "exit 9")  # it is waited for before it is started
    logs: list[list[bytes]] = []
    exits: list[tuple[int, ExitInfo]] = []
    errors: list[BaseException] = []

    def follow(number: int) -> None:
        logs.append([record.data for record in boxes[number % 5].logs(follow=True)])

    def wait(number: int) -> None:
        box = never if number % 6 == 5 else boxes[number % 6]
        exits.append((number % 6, box.wait(120)))

    def guarded(work: object, number: int) -> None:
        try:
            work(number)  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=guarded, args=(work, number))
        for work, count in ((follow, 200), (wait, 300))
        for number in range(count)
    ]
    before = threading.active_count()
    for thread in threads:
        thread.start()
    calm()
    assert descriptors("inotify") == 1
    assert threading.active_count() == len(threads) + before  # nothing of ours beside them
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1
    for number, box in enumerate(boxes):
        box.feed(b"%d\n" % number)
    never.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert logs == [[b"ready\n", b"1\n", b"2\n", b"3\n", b"end\n"]] * 200
    assert len(exits) == 300
    assert all(info.code == (9 if number == 5 else number) for number, info in exits)
    for box in [*boxes, never]:
        assert len({info for number, info in exits if box.wait() == info}) == 1
        box.remove()


async def taken(steps: Generator[Sleep | T, None, ExitInfo | None]) -> tuple[list[T], object]:
    """Take steps in an event loop; return what they yield, and what they end with."""
    loop = asyncio.get_running_loop()
    found: list[T] = []
    try:
        while True:
            step = next(steps)
            if not isinstance(step, Sleep):
                found.append(step)
                continue
            woken = asyncio.Event()
            for fd in step.fds:
                loop.add_reader(fd, woken.set)
            try:
                await woken.wait()
            finally:
                for fd in step.fds:
                    loop.remove_reader(fd)
    except StopIteration as end:
        return found, end.value
    finally:
        steps.close()


def test_a_thousand_wait_in_one_thread(
    engine: Engine, busybox_rootfs: Path, many_descriptors: None
) -> None:
    """What `longshore.aio` stands on: 1,000 waits, 100 followers, one thread, and no CPU."""
    script = "echo ready; read x; echo end; exit 4"
    boxes = [
        ready(started(engine, busybox_rootfs, script, interactive=True, name=f"box{number}"))
        for number in range(4)
    ]
    machinery = engine._machinery
    never = make(engine, busybox_rootfs, "true")
    gone = make(engine, busybox_rootfs, "exit 5")
    gone.start()
    gone.wait(60)
    threads = threading.active_count()

    async def everything() -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(inotify.descriptor(), inotify.dispatch)
        task = loop.create_task
        waits = [task(taken(exit_steps(machinery, boxes[n % 4].id))) for n in range(800)]
        unborn = [task(taken(exit_steps(machinery, never.id))) for _ in range(100)]
        removals = [task(taken(removal_steps(machinery, gone.id))) for _ in range(100)]
        follows = [task(taken(follow_steps(machinery, boxes[n % 4].id))) for n in range(100)]
        await asyncio.sleep(0.1)
        used = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - used < 0.1
        assert descriptors("inotify") == 1
        assert descriptors("[pidfd]") <= 800 + 100
        assert threading.active_count() == threads
        for first in (waits[0], unborn[0], removals[0], follows[0]):
            first.cancel()
        await asyncio.to_thread(gone.remove)
        for box in boxes:
            await asyncio.to_thread(box.feed, b"\n")
        ended = [result async for result in _results(waits)]
        assert {info.code for _, info in ended} == {4}
        assert len(ended) == 799
        assert len({info for _, info in ended}) == 4
        assert {info.code for _, info in [r async for r in _results(removals)]} == {5}
        lines = [[r.data for batch in found for r in batch] async for found, _ in _results(follows)]
        assert lines == [[b"ready\n", b"end\n"]] * 99
        assert not any(wait.done() for wait in unborn[1:])
        await asyncio.to_thread(never.start)
        assert {info.code for _, info in [r async for r in _results(unborn)]} == {0}

    asyncio.run(everything())
    for box in [*boxes, never]:
        box.remove()


async def _results(tasks: list[asyncio.Task[T]]) -> AsyncIterator[T]:
    """Yield what they lead to; the first was cancelled."""
    for task in tasks[1:]:
        yield await asyncio.wait_for(task, 60)


def test_a_wait_is_not_lost_with_the_one_who_starts(engine: Engine, busybox_rootfs: Path) -> None:
    """Killed in the middle of a start: the wait goes on, and ends with the run that comes then."""
    box = make(engine, busybox_rootfs, "exit 6")
    found: list[ExitInfo] = []
    waiter = threading.Thread(target=lambda: found.append(box.wait(60)))

    def stuck() -> None:
        from longshore.engine import starting

        starting._make_bundle = lambda *_: time.sleep(1000)  # type: ignore[assignment]
        box.start()

    with forked(stuck):
        eventually(lambda: engine._machinery.store.peek(box.id).run is not None)
        waiter.start()
        calm()
    # The waiter sees that nobody is at it any more, and takes back what was made.
    eventually(lambda: engine._machinery.store.peek(box.id).run is None)
    assert found == []
    box.start()
    waiter.join()
    assert [info.code for info in found] == [6]
    box.remove()


def test_a_failed_start_ends_a_wait(engine: Engine, busybox_rootfs: Path) -> None:
    box = engine.create(command=["/nothing"], rootfs=busybox_rootfs)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(box.wait, 60)
        try:
            box.start()
        except LongshoreError as error:
            assert error.exit_code == 127
        info = waiting.result()
    assert (info.reason, info.code) == (ExitReason.START_FAILED, 127)
    assert box.wait(0) == info
    box.remove()
