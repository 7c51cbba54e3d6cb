"""engine/waiting.py on records and facts: what is waited for, and what wakes. No container runs."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longshore.config import Settings
from longshore.engine.machinery import Machinery
from longshore.engine.waiting import await_exit, await_removal, exit_steps, removal_steps
from longshore.errors import NoSuchContainer, OperationTimeout
from longshore.lifecycle import Status
from longshore.linux import cgroups, inotify
from longshore.linux.cgroups import Hierarchy
from longshore.linux.inotify import poll
from longshore.linux.processes import ProcessId, boot_id, identify
from longshore.models import ExitInfo, ExitReason
from longshore.options import ContainerConfig
from longshore.store import Record, Run

A = "aa" * 32
LONG = 30.0  # seconds; only a failure waits that long
DEAD = ProcessId(pid=1 << 22, start=1)
INFO = ExitInfo(code=3, reason=ExitReason.EXITED, finished_ns=9)
FAILED = ExitInfo(code=127, reason=ExitReason.START_FAILED, finished_ns=10, message="no such")


@pytest.fixture
def machinery(tmp_path: Path) -> Machinery:
    found = Machinery(Settings(root=str(tmp_path / "root"), run_root=str(tmp_path / "run")))
    found.layout.prepare()
    # one directory that stands for a v2 hierarchy
    (tmp_path / "cgroup").mkdir()
    found.cgroup_layout = cgroups.Layout((Hierarchy(str(tmp_path / "cgroup"), 2, frozenset()),))
    return found


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    inotify.descriptor()
    fds = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) <= fds


@pytest.fixture
def program() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for a container's, or for one that starts it."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def run_of(**changes: object) -> Run:
    run = Run(
        number=1, boot_id=boot_id(), runtime="crun", runtime_path="/usr/bin/crun",
        cgroup=f"/longshore/{A}", monitor=DEAD, init=DEAD, started_ns=5,
    )  # fmt: skip
    return run.replace(**changes)


def add(machinery: Machinery, **changes: object) -> Record:
    config = ContainerConfig(name="box", rootfs="/srv/root")
    record = Record(id=A, config=config, created_ns=1).replace(**changes)
    machinery.store.create(record)
    return record


def later(work: object) -> threading.Timer:
    timer = threading.Timer(0.05, work)  # type: ignore[arg-type]
    timer.start()
    return timer


# --- answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.STOPPED, Status.EXITED])
def test_what_has_ended_answers_at_once(machinery: Machinery, status: Status) -> None:
    add(machinery, status=status, run=run_of(), exits=(INFO,), starts=1)
    assert await_exit(machinery, A, timeout=0) == INFO


@pytest.mark.parametrize(
    ("status", "exits"),
    [(Status.CREATED, (FAILED,)), (Status.EXITED, (INFO, FAILED))],
)
def test_a_start_that_failed_answers_at_once(
    machinery: Machinery, status: Status, exits: tuple[ExitInfo, ...]
) -> None:
    add(machinery, status=status, exits=exits, starts=len(exits))
    assert await_exit(machinery, A, timeout=0) == FAILED
    with pytest.raises(OperationTimeout):  # the next one is waited for
        await_exit(machinery, A, timeout=0.01, after=FAILED)


def test_a_start_after_one_that_failed_is_waited_for(
    machinery: Machinery, program: subprocess.Popen[bytes]
) -> None:
    run = run_of(init=identify(program.pid))
    record = add(machinery, status=Status.RUNNING, run=run, exits=(FAILED,), starts=2)
    with pytest.raises(OperationTimeout):
        await_exit(machinery, A, timeout=0.01)
    timer = later(
        lambda: (
            machinery.store.write(record.with_exit(INFO).replace(status=Status.EXITED)),
            program.kill(),
            program.wait(),
        )
    )
    assert await_exit(machinery, A, timeout=LONG) == INFO
    timer.join()


def test_a_start_that_fails_while_it_is_waited_for(machinery: Machinery) -> None:
    record = add(machinery)
    timer = later(lambda: machinery.store.write(record.with_exit(FAILED)))
    assert await_exit(machinery, A, timeout=LONG) == FAILED
    timer.join()


def test_what_was_removed_has_its_last_exit(machinery: Machinery) -> None:
    with pytest.raises(NoSuchContainer):
        await_exit(machinery, A)
    machinery.store.keep_exit(A, "box", INFO)
    assert await_exit(machinery, A) == await_removal(machinery, A) == INFO
    with pytest.raises(NoSuchContainer):
        await_exit(machinery, A, after=INFO)


@pytest.mark.parametrize("wait", [await_exit, await_removal])
@pytest.mark.parametrize("ran", [True, False])
def test_what_is_removed_meanwhile(machinery: Machinery, wait: object, ran: bool) -> None:
    add(machinery)

    def remove() -> None:
        if ran:
            machinery.store.keep_exit(A, "box", INFO)
        machinery.store.remove(A, "box")

    timer = later(remove)
    try:
        if ran:
            assert wait(machinery, A, timeout=LONG) == INFO  # type: ignore[operator]
        else:
            with pytest.raises(NoSuchContainer):
                wait(machinery, A, timeout=LONG)  # type: ignore[operator]
    finally:
        timer.join()


@pytest.mark.parametrize("wait", [await_exit, await_removal])
def test_the_time_is_kept(machinery: Machinery, wait: object) -> None:
    add(machinery)
    before = time.monotonic()
    with pytest.raises(OperationTimeout, match=r"within 0\.05 s"):
        wait(machinery, A, timeout=0.05)  # type: ignore[operator]
    assert time.monotonic() >= before + 0.05


def test_an_exit_that_nobody_wrote_down_is_written_down(machinery: Machinery) -> None:
    add(machinery, status=Status.RUNNING, run=run_of(), starts=1)
    info = await_exit(machinery, A, timeout=LONG)
    assert info.reason is ExitReason.MONITOR_LOST
    assert machinery.store.peek(A).exits == (info,)


# --- what is slept on ------------------------------------------------------------------------


def test_a_wait_for_a_process_is_one_descriptor(
    machinery: Machinery, program: subprocess.Popen[bytes]
) -> None:
    add(machinery, status=Status.RUNNING, run=run_of(init=identify(program.pid)), starts=1)
    before = len(os.listdir("/proc/self/fd"))
    steps = exit_steps(machinery, A, timeout=LONG)
    sleep = next(steps)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(sleep.fds) == 1
    assert sleep.deadline is not None
    assert poll(sleep.fds, 0.0) == []
    assert next(steps) == sleep  # woken for nothing
    program.kill()
    assert poll(sleep.fds, None) == list(sleep.fds)
    steps.close()


def test_a_starter_that_dies_wakes(machinery: Machinery, program: subprocess.Popen[bytes]) -> None:
    """Nobody changes the record then; the wait goes on when what it left was taken back."""
    run = run_of(actor=identify(program.pid), init=None, monitor=None, started_ns=None)
    add(machinery, run=run, starts=1)
    steps = exit_steps(machinery, A)
    sleep = next(steps)
    assert poll(sleep.fds, 0.0) == []
    program.kill()
    assert poll(sleep.fds, None) != []
    steps.close()


def test_many_who_wait_for_one_need_not_have_had_the_lock(machinery: Machinery) -> None:
    """Who has it writes the exit, and keeps the lock; everybody else has the answer."""
    record = add(machinery, status=Status.RUNNING, run=run_of(), starts=1)
    waits = [exit_steps(machinery, A, timeout=LONG) for _ in range(20)]
    with machinery.store.locked(A, "test") as held:
        sleeps = [next(steps) for steps in waits]
        assert [poll(sleep.fds, 0.0) for sleep in sleeps] == [[]] * 20
        held.save(record.with_exit(INFO).replace(status=Status.STOPPED))
        for steps, sleep in zip(waits, sleeps, strict=True):
            assert poll(sleep.fds, None) != []
            with pytest.raises(StopIteration) as end:
                next(steps)
            assert end.value.value == INFO


def test_who_has_the_lock_may_do_something_else(machinery: Machinery) -> None:
    record = add(machinery, status=Status.RUNNING, run=run_of(), starts=1)
    steps = exit_steps(machinery, A)
    with machinery.store.locked(A, "rename") as held:
        sleep = next(steps)
        held.save(record.replace(error="something"))
        assert poll(sleep.fds, None) != []
        sleep = next(steps)
        assert poll(sleep.fds, 0.0) == []
    assert poll(sleep.fds, None) != []
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value.reason is ExitReason.MONITOR_LOST


def test_a_wait_that_is_given_up_changes_nothing(machinery: Machinery) -> None:
    add(machinery, status=Status.RUNNING, run=run_of(), starts=1)
    before = Path(machinery.paths(A).record).read_bytes()
    with machinery.store.locked(A, "test"):
        for steps in (exit_steps(machinery, A), removal_steps(machinery, A)):
            next(steps)
            steps.close()
    assert Path(machinery.paths(A).record).read_bytes() == before
