"""reads_while_stuck: a frozen operation delays nobody else, and waiting for it has a deadline."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlife import SLEEP, forked, kill_init, make, ready, started
from longshore import Container, Engine, Event
from longshore.engine import finishing, sessions, starting
from longshore.errors import Busy, OperationTimeout
from longshore.lifecycle import Status
from longshore.linux.locks import FileLock


def hold(engine: Engine, box: Container) -> Iterator[int]:
    """Let a process take a container's lock and stop; yields its pid."""
    yield from _holding(engine._machinery.paths(box.id).lock)


def _holding(path: str) -> Iterator[int]:
    Path(path).touch()

    def body() -> None:
        with FileLock(path, purpose="test"):
            os.kill(os.getpid(), signal.SIGSTOP)

    with forked(body) as pid:
        os.waitpid(pid, os.WUNTRACED)
        yield pid


def test_reads_need_no_lock(engine: Engine, busybox_rootfs: Path) -> None:
    box = ready(started(engine, busybox_rootfs, "echo ready; " + SLEEP, name="box"))
    other = make(engine, busybox_rootfs, "exit 3", name="other")
    for holder in hold(engine, box):
        assert box.inspect().status is box.status is Status.RUNNING
        assert (box.name, engine.get("box")) == ("box", box)
        assert engine.list() == [box]
        assert len(engine.inspect_all()) == 2
        assert [record.data for record in box.logs()] == [b"ready\n"]
        with engine.events(containers=["box"], follow=False) as stream:
            assert [one.action for one in stream if isinstance(one, Event)][-1] == "start"
        other.start()
        assert other.wait(30).code == 3
        other.rename("another")
        other.remove()
        with engine.events(since=0, actions=["remove"]) as stream:
            told = next(stream)  # events of others come as they happen
            assert isinstance(told, Event)
            assert told.id == other.id
        with pytest.raises(OperationTimeout):
            box.wait(0.05)
        deadline = time.monotonic() + 0.1
        with pytest.raises(Busy) as caught:
            engine._machinery.store.locked(box.id, "test", deadline=deadline)
        assert f"process {holder}" in caught.value.holder
        assert "test" in caught.value.holder
        for operation in (
            lambda: starting.start(engine._machinery, box.id, deadline=time.monotonic() + 0.05),
            lambda: finishing.remove(
                engine._machinery, box.id, force=True, deadline=time.monotonic() + 0.05
            ),
        ):
            with pytest.raises(Busy, match=str(holder)):
                operation()
    box.stop(0)  # the lock went with its holder


def test_nobody_waits_for_ever(engine: Engine, busybox_rootfs: Path) -> None:
    """busy_timeout is the deadline of who has said none."""
    impatient = Engine(settings=engine.settings.replace(busy_timeout=0.2))
    box = started(engine, busybox_rootfs, SLEEP, name="box")
    session = box.popen(["sleep", "1000"], detach=True)
    same = impatient.get("box")
    found = same.get_exec(str(session.id))
    for holder in hold(engine, box):
        for operation in (lambda: same.rename("new"), same.stop, same.kill, same.remove):
            with pytest.raises(Busy, match=str(holder)):
                operation()
    store = sessions.store_of(engine._machinery, box.id)
    for holder in _holding(store.paths(str(session.id)).lock):
        with pytest.raises(Busy, match=str(holder)):
            found.kill()
    for holder in _holding(f"{engine.settings.root}/names.lock"):
        with pytest.raises(Busy, match=str(holder)):
            same.rename("new")
    box.remove(force=True)


def test_a_wait_keeps_its_time(engine: Engine, busybox_rootfs: Path) -> None:
    """Though the exit cannot be written down: whoever holds the lock does not let go."""
    box = started(engine, busybox_rootfs, SLEEP)
    for _ in hold(engine, box):
        kill_init(box)
        with pytest.raises(OperationTimeout):
            box.wait(0.5)
        assert box.inspect().status is Status.STOPPED
    assert box.wait(30).code == 137


def test_following_a_log_ends_without_the_lock(engine: Engine, busybox_rootfs: Path) -> None:
    box = ready(started(engine, busybox_rootfs, "echo ready; read x; echo end", interactive=True))
    for _ in hold(engine, box):
        box.feed(b"go\n")
        assert [record.data for record in box.logs(follow=True)] == [b"ready\n", b"end\n"]


def test_the_lock_goes_with_its_holder(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, SLEEP)
    for holder in hold(engine, box):
        with forked(box.start) as waiting:
            os.kill(holder, signal.SIGKILL)
            assert os.waitpid(waiting, 0)[1] == 0
        assert box.inspect().status is Status.RUNNING
    box.remove(force=True)
