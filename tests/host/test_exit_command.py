"""What conmon runs at the exit cleans up when nobody waits; who attends cleans up itself."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import hostkit
from hostlife import SLEEP, await_end, eventually, forked, make, ready, started
from longshore import Engine
from longshore.errors import NoSuchContainer
from longshore.lifecycle import Status

Dirs = tuple[Path, Path]
WAITS = "echo ready; read x; exit 3"


def test_it_cleans_up(engine: Engine, busybox_rootfs: Path, dirs: Dirs) -> None:
    host = hostkit.Host()
    box = ready(started(engine, busybox_rootfs, WAITS, interactive=True, overlay=True))
    monitor = box.inspect().monitor_pid
    root = box.inspect().rootfs_path
    assert monitor and os.path.ismount(root)
    box.feed(b"go\n")
    await_end(monitor)  # conmon goes after its exit command
    record = engine._machinery.store.peek(box.id)
    assert record.status is Status.EXITED  # as written down, not as it is seen
    assert [info.code for info in record.exits] == [3]
    assert not os.path.ismount(root)
    # a record and a log are left, and nothing that lives
    assert not host.left_after(hostkit.PATIENCE)
    assert not os.path.exists(engine._machinery.paths(box.id).pidfile)
    box.remove()


def test_it_removes(engine: Engine, busybox_rootfs: Path, dirs: Dirs) -> None:
    box = ready(started(engine, busybox_rootfs, WAITS, interactive=True, remove=True, name="box"))
    box.feed(b"go\n")
    info = box.wait(30, condition="removed")
    assert info.code == 3
    with pytest.raises(NoSuchContainer):
        engine.get("box")
    assert engine.exit_of(box.id) == info
    eventually(lambda: not hostkit._files(*dirs), hostkit.PATIENCE)


def test_a_stop_of_one_that_is_removed_at_its_end(
    engine: Engine, busybox_rootfs: Path, dirs: Dirs
) -> None:
    box = started(engine, busybox_rootfs, SLEEP, remove=True)
    info = box.stop(0)
    assert info and info.code == 137
    assert box.wait(30, condition="removed") == info


def test_who_attends_cleans_up(engine: Engine, busybox_rootfs: Path, dirs: Dirs) -> None:
    host = hostkit.Host()
    box = make(engine, busybox_rootfs, "exit 3", overlay=True)
    with box.attended():
        box.start()
        assert box.wait(30).code == 3
    assert box.inspect().status is Status.EXITED
    assert not os.path.ismount(box.inspect().rootfs_path)
    box.remove()
    assert not host.left_after(hostkit.PATIENCE)
    box = make(engine, busybox_rootfs, "exit 3", remove=True)
    with box.attended():
        box.start()
        assert box.wait(30).code == 3
    with pytest.raises(NoSuchContainer):
        box.inspect()
    assert not hostkit._files(*dirs)


def test_a_killed_attendant_is_replaced(engine: Engine, busybox_rootfs: Path, dirs: Dirs) -> None:
    box = make(engine, busybox_rootfs, WAITS, interactive=True)

    def attend() -> None:
        with box.attended():
            box.start()
            box.wait()

    with forked(attend) as pid:
        eventually(lambda: box.status is Status.RUNNING)
        ready(box)
        monitor = box.inspect().monitor_pid
        assert monitor is not None
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    box.feed(b"go\n")
    await_end(monitor)
    record = engine._machinery.store.peek(box.id)
    assert (record.status, record.exits[-1].code) == (Status.EXITED, 3)


def test_leaving_an_attendance_early(engine: Engine, busybox_rootfs: Path) -> None:
    """What is left running belongs to its exit command again."""
    box = make(engine, busybox_rootfs, WAITS, interactive=True)
    with box.attended():
        box.start()
        ready(box)
    monitor = box.inspect().monitor_pid
    assert monitor is not None
    box.feed(b"go\n")
    await_end(monitor)
    assert engine._machinery.store.peek(box.id).status is Status.EXITED


def test_cleanup_by_hand(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    box.cleanup()  # nothing is done to one that runs
    assert box.inspect().status is Status.RUNNING
    box.stop(0)
    box.cleanup()
    box.cleanup()
    assert box.inspect().status is Status.EXITED
