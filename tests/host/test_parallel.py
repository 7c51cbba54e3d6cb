"""threads_fork and parallel_start: many at once, from threads and after a fork, without errors."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostkit
from hostlife import SLEEP, in_fork, make, started
from longshore import Engine
from longshore.errors import LongshoreError, NameInUse
from longshore.lifecycle import Status


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
