"""exec_flat: execs leave no process, no descriptor, no cgroup and no shared write."""

from __future__ import annotations

import gc
import os
import resource
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlife import SLEEP, started
from longshore import Container, Engine


@pytest.fixture
def box(engine: Engine, busybox_rootfs: Path) -> Iterator[Container]:
    container = started(engine, busybox_rootfs, SLEEP, name="box")
    yield container
    container.remove(force=True, missing_ok=True)


class Snapshot:
    """What must not grow."""

    def __init__(self, dirs: tuple[Path, Path]) -> None:
        gc.collect()
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.processes = len([name for name in os.listdir("/proc") if name.isdecimal()])
        self.cgroups = sum(len(names) for _, names, _ in os.walk("/sys/fs/cgroup"))
        self.threads = threading.active_count()
        # Every file of the two trees, and when it was written. The cache was filled by the first
        # exec; events are appended, to a file that is bounded, without a lock.
        self.files = {
            path: path.stat().st_mtime_ns
            for top in dirs
            for path in top.rglob("*")
            if path.is_file() and not {"cache", "events"}.intersection(path.parts)
        }

    def check(self, dirs: tuple[Path, Path]) -> None:
        now = vars(Snapshot(dirs))
        for _ in range(100):
            now = vars(Snapshot(dirs))
            if now == vars(self):
                return
            time.sleep(0.02)
        for name, value in vars(self).items():
            other = now[name]
            if isinstance(value, dict):
                value, other = value.items() - other.items(), other.items() - value.items()
            assert value == other, name


def many(box: Container, count: int) -> None:
    for number in range(count):
        assert box.exec(["sh", "-c", f"exit {number % 100}"]).exit.code == number % 100


def at_once(box: Container, count: int) -> None:
    wrong: list[object] = []

    def one(number: int) -> None:
        try:
            done = box.exec(["sh", "-c", f"echo {number}; sleep 0.2; exit {number % 100}"])
            if (done.text, done.exit.code) != (f"{number}\n", number % 100):
                wrong.append(done)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:3]


def flat(box: Container, dirs: tuple[Path, Path], count: int, allowed: int) -> None:
    many(box, 5)
    before = Snapshot(dirs)
    tracemalloc.start()
    try:
        many(box, 20)
        base = tracemalloc.get_traced_memory()[0]
        many(box, count)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - base
    finally:
        tracemalloc.stop()
    assert grown < allowed, f"{grown} bytes more after {count} execs"
    before.check(dirs)


def test_exec_flat(box: Container, dirs: tuple[Path, Path], runtime: str) -> None:
    flat(box, dirs, 150 if runtime == "crun" else 50, 50_000)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_exec_flat_10k(box: Container, dirs: tuple[Path, Path]) -> None:
    flat(box, dirs, 10_000, 100_000)


def test_exec_flat_at_once(box: Container, dirs: tuple[Path, Path]) -> None:
    many(box, 2)
    before = Snapshot(dirs)
    at_once(box, 48)
    before.check(dirs)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_exec_flat_512_at_once(box: Container, dirs: tuple[Path, Path]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        many(box, 2)
        before = Snapshot(dirs)
        at_once(box, 512)
        before.check(dirs)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_exec_flat_when_there_are_no_descriptors(box: Container, dirs: tuple[Path, Path]) -> None:
    """Wherever it is that they run out: an error that says so, and nothing is left."""
    many(box, 2)
    before = Snapshot(dirs)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    reached = False
    try:
        for more in range(1, 24):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, hard))
            try:
                reached = box.exec(["true"]).exit.ok
            except Exception as error:
                assert "Too many open files" in f"{error} {error.__cause__}", repr(error)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert reached
    before.check(dirs)
