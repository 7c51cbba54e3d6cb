"""exit_code_10k: every waiter of every run and exec gets its code, whoever waits, and when.

A thousandth of it in the usual test; 10,000 runs and 10,000 execs in `make soak`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hostlife import SLEEP, started
from longshore import Container, Engine, ExitInfo

_AT_ONCE = 4


def waiters(waits: list[Callable[[], ExitInfo]]) -> list[ExitInfo]:
    """Call three waits at once, each in a thread of its own, and return what they say."""
    found: list[ExitInfo] = []
    threads = [threading.Thread(target=lambda w=w: found.append(w())) for w in waits]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def one_run(engine: Engine, rootfs: Path, number: int) -> list[object]:
    """Do what `run --rm` does, with three who wait; return what is wrong."""
    code = number % 120
    box = engine.create(command=["sh", "-c", f"exit {code}"], rootfs=rootfs, remove=True)
    waits: list[Callable[[], ExitInfo]] = [
        box.wait,
        box.wait,
        functools.partial(box.wait, condition="removed"),
    ]
    with box.attended():
        box.start()
        if number % 2:
            box.wait()  # they come when it has ended
        found = waiters(waits[:2]) if number % 3 else []
    found += waiters(waits)  # after its removal, too
    wrong = [info for info in found if info.code != code or info != found[0]]
    return [(number, found)] if wrong else []


def one_exec(box: Container, number: int) -> list[object]:
    """Run a program with three who wait for it."""
    code = number % 120
    with box.popen(["sh", "-c", f"exit {code}"], detach=number % 8 == 0) as process:
        found = waiters([process.wait] * 3)
        found.append(process.wait())
    wrong = [info for info in found if info.code != code or info != found[0]]
    return [(number, found)] if wrong or len(found) != 4 else []


def runs(engine: Engine, rootfs: Path, count: int) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        wrong = [*pool.map(functools.partial(one_run, engine, rootfs), range(count))]
    assert [one for some in wrong for one in some] == []
    assert engine.list(all=True) == []


def execs(box: Container, count: int) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        wrong = [*pool.map(functools.partial(one_exec, box), range(count))]
    assert [one for some in wrong for one in some] == []


def test_exit_code_10k_of_runs(engine: Engine, busybox_rootfs: Path) -> None:
    runs(engine, busybox_rootfs, 24)


def test_exit_code_10k_of_execs(engine: Engine, busybox_rootfs: Path) -> None:
    execs(started(engine, busybox_rootfs, SLEEP), 40)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_exit_code_10k_of_runs_whole(engine: Engine, busybox_rootfs: Path) -> None:
    runs(engine, busybox_rootfs, 10_000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_exit_code_10k_of_execs_whole(engine: Engine, busybox_rootfs: Path) -> None:
    execs(started(engine, busybox_rootfs, SLEEP), 10_000)
